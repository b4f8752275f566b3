"""``aiorchctl doctor``: everything that can be wrong with the house, looked at one by one, each with its remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.asking import LENGTH_OF_TIME
from aiorchctl.page import Cell, Fields, Page, Paragraph, Tone, Words
from aiorchctl.quantities import plural

LONGEST_WAIT_S: Final = 60.0

_MARKS: Final[Mapping[str, tuple[str, Tone]]] = {
    "ok": ("ok", "good"),
    "warning": ("WARNING", "doubtful"),
    "failed": ("FAILED", "bad"),
    "not_checked": ("not checked", "quiet"),
}


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl doctor", "What is wrong, and what to do about it?"),
        ("aiorchctl doctor --json | jq '.checks[] | select(.result != \"ok\")'", "For a program:"),
        ("aiorchctl doctor --socket /run/aiorch/aiorch.sock", "The system's daemon rather than your own:"),
    ),
    exits=(
        (0, "Nothing failed, warnings or not."),
        (69, "The first that failed, in the order shown, is the socket or a provider."),
        (77, "It is a permission."),
        (78, "It is the configuration, a key, or a file that stops the daemon's start."),
        (70, "It is anything else."),
    ),
)
@click.option(
    "--timeout",
    type=LENGTH_OF_TIME,
    default=5.0,
    metavar="TIME",
    help="How long a provider may take to connect and to answer.  [default: 5s]",
)
@pass_invocation
def doctor(invocation: Invocation, *, timeout: float) -> int:
    """Look at socket, permissions, configuration, state files, providers and keys, clock, versions and limits.

    It changes nothing. Providers are asked for their lists of models, which costs nothing; the daemon does that, for
    administrators. What cannot be seen from here is told as not checked, with the reason.
    """
    from aiorchctl.doctor.finding import verdict

    if timeout > LONGEST_WAIT_S:
        raise click.UsageError(f"--timeout: at most {LONGEST_WAIT_S:g} s")
    findings = list(examine(invocation.socket, os.environ, provider_timeout_s=timeout))
    worst, exit_code = verdict(findings)
    result = {"result": worst, "exit_code": exit_code, "checks": [finding.to_json() for finding in findings]}
    invocation.tell(result, page)
    return exit_code


def examine(socket: str | None, environ: Mapping[str, str], *, provider_timeout_s: float) -> Iterator[Any]:
    """Make all findings, in the order in which one would look for a cause."""
    from aiorchctl.doctor.configuration import check_configuration
    from aiorchctl.doctor.contact import look_for_doors, make_contact
    from aiorchctl.doctor.host import check_clock, check_descriptors, check_versions
    from aiorchctl.doctor.person import myself
    from aiorchctl.doctor.providers import check_providers
    from aiorchctl.doctor.state import check_state
    from aiorchctl.doctor.way_in import check_permissions, check_socket

    person = myself()
    contact = make_contact(look_for_doors(socket, environ), provider_timeout_s=provider_timeout_s)
    yield check_socket(contact, person)
    yield from check_permissions(contact, person)
    yield from check_configuration(contact, environ, person)
    yield from check_state(contact, environ, person)
    yield from check_providers(contact, environ, person)
    yield from check_clock(contact)
    yield from check_versions(contact)
    yield from check_descriptors(contact)


def page(result: dict[str, Any]) -> Page:
    """Tell it to a person: every check in a line, with what to do below it."""
    rows: list[tuple[str, Cell]] = []
    counts = dict.fromkeys(_MARKS, 0)
    for check in result["checks"]:
        counts[check["result"]] += 1
        mark, tone = _MARKS[check["result"]]
        told = f"{mark}: {check['sentence']}"
        if check["remedy"]:
            told += f"\n> {check['remedy']}"
        rows.append((f"{check['check']} {check['subject'] or ''}".rstrip(), Words(told, tone)))
    parts = [
        f"{count} {words}"
        for count, words in (
            (counts["failed"], "failed"),
            (counts["warning"], "to look at"),
            (counts["not_checked"], "not checked"),
        )
        if count
    ]
    summary = f"{plural(len(rows), 'check')}: " + (", ".join(parts) if parts else "all is well")
    closing: Tone = "bad" if counts["failed"] else "doubtful" if counts["warning"] else "good"
    return [Fields(rows), Paragraph(Words(summary, closing))]
