"""The configuration: which file, whether it is right, and whether what is in force is what stands in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from aiorchctl.commands.verdict import problem_line
from aiorchctl.doctor.contact import Contact, found_in
from aiorchctl.doctor.finding import Finding, failed, not_checked, ok, warning
from aiorchctl.doctor.person import Person
from aiorchctl.quantities import moment, plural

CONFIGURATION: Final = "configuration"

_SLACK_S: Final = 2.0
"""How much younger than the daemon's last look a file may be before it counts as not looked at."""


def check_configuration(contact: Contact, environ: Mapping[str, str], person: Person) -> Iterator[Finding]:
    """Tell by the daemon's own words when there is one, else by reading the file that one started here would read."""
    if contact.status is None:
        yield from _offline(environ, person)
        return
    config = found_in(contact.status, "config") or {}
    verdict = config.get("verdict") or {}
    path = config.get("path")
    where = f"{path} (by {config.get('rule')})" if path else "no file"
    doubts = list(_doubts(contact, path, config, verdict))
    yield from doubts
    if not any(finding.result in ("warning", "failed") for finding in doubts):
        models = contact.told("models") or []
        when = moment(verdict.get("at"))
        yield ok(
            CONFIGURATION,
            f"{where} is in force as generation {contact.told('generation')}, looked at {when}, with "
            f"{plural(len(models), 'model')}",
            details={"path": path},
        )


def _doubts(contact: Contact, path: Any, config: Mapping[str, Any], verdict: Mapping[str, Any]) -> Iterator[Finding]:
    problems = [problem_line(problem) for problem in verdict.get("problems") or ()]
    if verdict.get("result") == "refused":
        yield failed(
            CONFIGURATION,
            f"the daemon refused {path} at {moment(verdict.get('at'))} and goes on with what it had: {' '.join(problems)}",
            "Mend the file; the daemon reads it when it is saved. `aiorchctl config check` says whether it is right.",
            os.EX_CONFIG,
            details={"path": path, "problems": list(verdict.get("problems") or ())},
        )
    if contact.told("simulated"):
        yield warning(
            CONFIGURATION,
            "no provider is configured: an embedded simulated model answers",
            "Make a first file with `aiorchctl init`.",
        )
    pending = [str(key) for key in verdict.get("restart_needed") or ()]
    if pending:
        yield warning(
            CONFIGURATION,
            f"the new value of {', '.join(pending)} waits for a restart",
            "Restart the daemon: systemctl restart aiorchd (systemctl --user for your own).",
            details={"restart_needed": pending},
        )
    for problem in verdict.get("warnings") or ():
        remedy = str(problem.get("remedy") or "") if isinstance(problem, dict) else ""
        told = {**problem, "remedy": ""} if isinstance(problem, dict) else problem
        yield warning(CONFIGURATION, problem_line(told), remedy or "Look whether it is meant.")
    if path:
        yield from _file_against_force(Path(path), config, verdict)


def _file_against_force(path: Path, config: Mapping[str, Any], verdict: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        changed_at = path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        yield warning(
            CONFIGURATION,
            f"{path} is gone; the daemon goes on with what it had, and would not start again",
            "Put the file back. `aiorchctl config show` tells what is in force.",
        )
        return
    except OSError as error:
        yield not_checked(CONFIGURATION, f"{path} cannot be compared with what is in force: {error.strerror}")
        return
    looked_at = verdict.get("at")
    if isinstance(looked_at, (int, float)) and changed_at > looked_at + _SLACK_S:
        yield warning(
            CONFIGURATION,
            f"{path} was changed at {moment(changed_at)}, after the daemon looked at it last ({moment(looked_at)})",
            "Have it read: aiorchctl config reload",
        )
    why = str(found_in(config, "watched_by", "why") or "")
    if why.startswith("the kernel"):  # else the watch has only just begun
        yield warning(
            CONFIGURATION,
            f"{why}; the daemon looks at the file from time to time instead",
            "Raise fs.inotify.max_user_watches and max_user_instances, or say `aiorchctl config reload` after a change.",
        )


def _offline(environ: Mapping[str, str], person: Person) -> Iterator[Finding]:
    from aiorchd.config.load import load
    from aiorchd.config.places import SYSTEM_CONFIG, PlaceError, find_config
    from aiorchd.config.problems import ConfigError

    try:
        place = find_config(None, environ, person.uid)
    except PlaceError as error:
        yield failed(CONFIGURATION, str(error), "Correct $AIORCH_CONFIG.", os.EX_USAGE)
        return
    if place is None:
        yield warning(
            CONFIGURATION,
            "there is no configuration file in the usual places: a daemon started now would answer with a simulated model",
            "Make a first file with `aiorchctl init`.",
        )
        return
    if place.path == SYSTEM_CONFIG and not os.access(place.path, os.R_OK):
        yield not_checked(
            CONFIGURATION,
            f"no daemon answers to say what is in force, and {place} is not for user {person.name} to read",
            "Ask as an administrator: sudo aiorchctl doctor",
        )
        return
    try:
        loaded = load(place.path, environ)
    except ConfigError as error:
        yield failed(
            CONFIGURATION,
            f"a daemon started now would refuse {place}: {' '.join(str(problem) for problem in error.problems)}",
            f"Mend it; `aiorchctl config check {place.path}` says when it is right.",
            error.exit_code,
            details={"path": str(place.path), "problems": [problem.to_wire() for problem in error.problems]},
        )
        return
    for problem in loaded.warnings:
        yield warning(CONFIGURATION, str(problem), problem.remedy or "Look whether it is meant.")
    if not loaded.warnings:
        yield ok(
            CONFIGURATION,
            f"{place} is right; no daemon answers to say what is in force",
            details={"path": str(place.path)},
        )
