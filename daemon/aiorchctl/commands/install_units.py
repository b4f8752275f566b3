"""``aiorchctl install-units``: the systemd units, written where they belong, and what to do next."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from aiorch.version import __version__
from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.failures import Failed
from aiorchctl.page import Column, Fields, Page, Paragraph, Table, Words
from aiorchctl.service_units import (
    Planned,
    UnitsMissingError,
    planned,
    system_files,
    user_files,
    why_hidden,
    write,
)

_PROGRAMS: Final = ("aiorchd", "aiorchctl")
_DONE: Final[Mapping[str, str]] = {
    "new": "written",
    "replaced": "replaced",
    "unchanged": "unchanged",
    "foreign": "replaced",
}
_TO_DO: Final[Mapping[str, str]] = {
    "new": "would be written",
    "replaced": "would be replaced",
    "unchanged": "unchanged",
    "foreign": "not ours: --force would replace it",
}


@click.command(
    "install-units",
    cls=Command,
    examples=(
        ("sudo /opt/aiorch/bin/aiorchctl install-units", "One daemon for the whole host:"),
        ("aiorchctl install-units --user", "A daemon of your own:"),
        ("aiorchctl install-units --dry-run", "Only show what would be written:"),
    ),
    exits=((77, "You may not write there, or a file is somebody else's: nothing is written."),),
)
@click.option("--user", is_flag=True, help="For a daemon of your own, with your keys, at your socket.")
@click.option("--dry-run", is_flag=True, help="Show the files, and write nothing.")
@click.option(
    "--prefix",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    metavar="DIR",
    help="Write below DIR instead of /, as for an image.",
)
@click.option(
    "--programs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where aiorchd and aiorchctl will be, unseen.  [default: beside this one]",
)
@click.option("--force", is_flag=True, help="Replace files that somebody else wrote or changed, too.")
@pass_invocation
def install_units(
    invocation: Invocation, *, user: bool, dry_run: bool, prefix: Path, programs: Path | None, force: bool
) -> None:
    """Write the systemd units of this installation, fitted to where it is, and say what to do next.

    Files are written and nothing else is done: no service is started, no user made. Run it again after an upgrade; what
    it wrote before is replaced, what you changed by hand is not (use `systemctl edit` for that).
    """
    folder = Path(os.path.abspath(programs)) if programs is not None else _own_programs(for_all=not user)  # noqa: PTH100
    files = user_files(_config_home()) if user else system_files()
    try:
        plan = planned(files, folder, Path(os.path.abspath(prefix)))  # noqa: PTH100 - links stay as written
    except UnitsMissingError as error:
        raise Failed("units_missing", str(error), os.EX_SOFTWARE) from error
    except ValueError as error:
        raise Failed("usage", str(error), os.EX_USAGE) from error
    except OSError as error:
        raise _not_possible(error) from error
    if not dry_run:
        _write(plan, force=force)
    result = _result(plan, user=user, dry_run=dry_run, elsewhere=prefix != Path("/"))
    invocation.tell(result, _page)


def _own_programs(*, for_all: bool) -> Path:
    """Find the folder of the programs this one belongs to, and make sure that they run by themselves."""
    schemes = [sysconfig.get_path("scripts")]
    if not for_all:
        schemes.append(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))
    if Path(sys.argv[0]).name == "aiorchctl":
        schemes.insert(0, str(Path(os.path.abspath(sys.argv[0])).parent))  # noqa: PTH100 - links stay as they are
    for scheme in schemes:
        folder = Path(scheme)
        if all(os.access(folder / name, os.X_OK) for name in _PROGRAMS):
            break
    else:
        looked = " and ".join(dict.fromkeys(schemes))
        raise Failed(
            "not_installed",
            f"there are no programs for a unit to start: aiorchd and aiorchctl are not both in {looked}. Install them with "
            "`python3 -m venv /opt/aiorch && /opt/aiorch/bin/pip install 'aiorch[daemon]'`, or name their place with --programs",
            os.EX_CONFIG,
        )
    if for_all:
        _refuse_hidden(folder)
    _try_out(folder / "aiorchd")
    return folder


def _refuse_hidden(folder: Path) -> None:
    places = dict.fromkeys((folder.resolve(), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()))
    for place in places:
        if reason := why_hidden(place):
            raise Failed(
                "hidden",
                f"{reason}. Install aiorch where every user may read it, as in /opt/aiorch with the system's Python, or use "
                "--user for a daemon of your own",
                os.EX_CONFIG,
            )


def _try_out(program: Path) -> None:
    """Start it as systemd would, without this shell's environment: a module path or a user's packages may be missing then."""
    try:
        ran = subprocess.run(
            [program, "--version"],
            env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
            cwd="/",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed("not_installed", f"{program} does not run: {error}", os.EX_CONFIG) from error
    if ran.stdout.strip() != f"aiorchd {__version__}":
        said = (ran.stderr.strip().splitlines() or [ran.stdout.strip() or "nothing"])[-1]
        raise Failed(
            "not_installed",
            f"{program} is not this release ({__version__}), or does not run by itself; it said: {said}",
            os.EX_CONFIG,
        )


def _write(plan: Sequence[Planned], *, force: bool) -> None:
    foreign = [str(file.path) for file in plan if file.state == "foreign"]
    if foreign and not force:
        raise Failed(
            "foreign",
            f"{' and '.join(foreign)}: written or changed by somebody else, and nothing was written now. Keep changes in a "
            "drop-in (`systemctl edit aiorchd.service`); --force replaces the file",
            os.EX_CANTCREAT,
            files=foreign,
        )
    for file in plan:
        try:
            write(file)
        except OSError as error:
            raise _not_possible(error) from error


def _not_possible(error: OSError) -> Failed:
    sentence = f"{error.filename}: {error.strerror}"
    if isinstance(error, PermissionError):
        return Failed(
            "forbidden", f"{sentence}; run this as root (sudo), or with --user for a daemon of your own", os.EX_NOPERM
        )
    return Failed("cannot_write", sentence, os.EX_CANTCREAT)


def _config_home() -> Path:
    given = os.environ.get("XDG_CONFIG_HOME")
    return Path(given) if given and Path(given).is_absolute() else Path.home() / ".config"


def _result(plan: Sequence[Planned], *, user: bool, dry_run: bool, elsewhere: bool) -> dict[str, Any]:
    words = _TO_DO if dry_run else _DONE
    changed = any(file.state != "unchanged" for file in plan)
    upgraded = any(file.state in ("replaced", "foreign") for file in plan)
    steps = () if elsewhere or not changed else _user_steps(upgraded) if user else _system_steps(upgraded)
    return {
        "dry_run": dry_run,
        "files": [
            {"path": str(file.path), "state": words[file.state], "purpose": file.purpose}
            | ({"text": file.text} if dry_run else {})
            for file in plan
        ],
        "next": [{"command": command, "purpose": purpose} for command, purpose in steps],
    }


def _system_steps(upgraded: bool) -> list[tuple[str, str]]:
    own = shlex.quote(os.environ.get("SUDO_USER") or "NAME")
    made = [
        ("systemd-sysusers && systemd-tmpfiles --create", "make the user aiorch, and /etc/aiorch"),
        ("systemctl daemon-reload", "let systemd read the units"),
    ]
    if upgraded:
        return [*made, ("systemctl restart aiorchd.service", "calls in flight are finished, new ones wait a moment")]
    return [
        *made,
        ("editor /etc/aiorch/aiorch.toml", "providers, models, limits; `aiorchctl init` makes a first one"),
        ("systemctl enable --now aiorchd.socket", "now and after every boot; the first call starts the daemon"),
        (f"usermod -a -G aiorch {own}", "let somebody call (from their next login on)"),
        ("aiorchctl ping", "try it"),
    ]


def _user_steps(upgraded: bool) -> list[tuple[str, str]]:
    read = ("systemctl --user daemon-reload", "let systemd read the units")
    if upgraded:
        return [
            read,
            ("systemctl --user restart aiorchd.service", "calls in flight are finished, new ones wait a moment"),
        ]
    return [
        read,
        _configure(_config_home() / "aiorch" / "aiorch.toml"),
        ("systemctl --user enable --now aiorchd.socket", "now and at every login; the first call starts the daemon"),
        ("aiorchctl ping", "try it"),
        ("loginctl enable-linger", "if it is to run while you are not logged in"),
    ]


def _page(result: dict[str, Any]) -> Page:
    rows = [(file["path"], Words(file["state"], _tone(file["state"])), file["purpose"]) for file in result["files"]]
    page: list[Any] = [Table((Column("file"), Column("state"), Column("what for")), rows)]
    for file in result["files"]:
        if "text" in file:
            page += [Paragraph(Words(f"\n{file['path']}:", "strong")), Paragraph(file["text"].rstrip("\n"))]
    if result["next"]:
        page.append(Fields([(step["command"], step["purpose"]) for step in result["next"]], "Next:"))
    return page


def _tone(state: str) -> Any:
    return "quiet" if state == "unchanged" else "doubtful" if state.startswith("not ours") else "good"


def _configure(path: Path) -> tuple[str, str]:
    """Say how to come to a configuration, which the unit needs."""
    if path.exists():
        return f"editor {shlex.quote(str(path))}", "providers, models, limits"
    return "aiorchctl init", f"make {path}, which the service needs: provider, models, prices"
