"""The systemd units that come with aiorch: finding them, fitting them to where the programs are, writing them.

What is written begins with a line that says who wrote it and holds a checksum of the rest. So an upgrade knows its
predecessor's files, and a file that somebody made or changed by hand is never replaced unasked.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from aiorch.version import __version__

State: TypeAlias = Literal["new", "unchanged", "replaced", "foreign"]

SHIPPED_PROGRAMS: Final = "/opt/aiorch/bin"
"""Where the units, as they are shipped, expect the programs."""

_HEAD = re.compile(r"\A# Written by `aiorchctl install-units` of aiorch (\S+), sha256 ([0-9a-f]{64})\n")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.+@:,=~/-]*")
_IMPOSSIBLE = re.compile(r"""[\x00-\x1f\x7f"'\\$]""")
_HIDDEN: Final[Mapping[str, str]] = {
    "/home": "ProtectHome=",
    "/root": "ProtectHome=",
    "/run/user": "ProtectHome=",
    "/tmp": "PrivateTmp=",  # noqa: S108 - not used, warned of
    "/var/tmp": "PrivateTmp=",  # noqa: S108
}


class UnitsMissingError(Exception):
    """This installation has no units."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """One shipped file, by its name there, where it goes, and what for."""

    name: str
    place: Path
    purpose: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A file as it is to be written. ``state`` compares it with what is there: ``foreign`` was not written by this
    program, or was changed since.
    """

    path: Path
    text: str
    purpose: str
    state: State


def system_files() -> tuple[Shipped, ...]:
    """List the files of a system service."""
    return (
        Shipped("aiorchd.socket", Path("/etc/systemd/system/aiorchd.socket"), "the socket, who may use it"),
        Shipped("aiorchd.service", Path("/etc/systemd/system/aiorchd.service"), "the daemon, what it may do"),
        Shipped("aiorch.sysusers", Path("/etc/sysusers.d/aiorch.conf"), "its user and group"),
        Shipped("aiorch.tmpfiles", Path("/etc/tmpfiles.d/aiorch.conf"), "its directories, one for keys"),
    )


def user_files(config_home: Path) -> tuple[Shipped, ...]:
    """List the files of a user's own service."""
    folder = config_home / "systemd" / "user"
    return (
        Shipped("user/aiorchd.socket", folder / "aiorchd.socket", "the socket, yours alone"),
        Shipped("user/aiorchd.service", folder / "aiorchd.service", "the daemon, what it may do"),
    )


def shipped_text(name: str) -> str:
    """Read a file as it is shipped: from the installed package, or from the checkout. Raises `UnitsMissingError`."""
    package = Path(__file__).resolve().parent
    for folder in (package / "systemd", package.parents[1] / "systemd"):
        with suppress(FileNotFoundError, NotADirectoryError):
            return (folder / name).read_text(encoding="utf-8")
    raise UnitsMissingError(
        f"this installation of aiorch has no {name}; install it from a wheel or work in its checkout"
    )


def fitted(text: str, programs: Path) -> str:
    """Name the programs where they are. Raises ValueError when systemd has no way to write that path."""
    folder = str(programs)
    if _IMPOSSIBLE.search(folder):
        raise ValueError(f"{folder!r}: a unit cannot name this path; install aiorch at a plainer one")

    def named(match: re.Match[str]) -> str:
        path = f"{folder}/{match[1]}".replace("%", "%%")
        return path if _PLAIN_PATH.fullmatch(path) else f'"{path}"'

    return re.sub(rf"{re.escape(SHIPPED_PROGRAMS)}/(\w+)", named, text)


def signed(text: str) -> str:
    """Put the line in front by which the next installation knows its own."""
    return f"# Written by `aiorchctl install-units` of aiorch {__version__}, sha256 {_digest(text)}\n{text}"


def planned(files: Sequence[Shipped], programs: Path, root: Path) -> tuple[Planned, ...]:
    """Prepare all files, to be written below ``root``. Raises `UnitsMissingError`, ValueError, OSError."""
    found = []
    for file in files:
        path = root / file.place.relative_to("/")
        text = signed(fitted(shipped_text(file.name), programs))
        found.append(Planned(path, text, file.purpose, _state(path, text)))
    return tuple(found)


def write(plan: Planned) -> None:
    """Write one file, whole or not at all, readable to everybody. Raises OSError."""
    if plan.state == "unchanged":
        return
    plan.path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{plan.path.name}.", dir=plan.path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(plan.text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(plan.path)
    finally:
        Path(name).unlink(missing_ok=True)


def why_hidden(path: Path) -> str | None:
    """Say why the system's unit would not find a program's directory, or give None: its sandbox hides homes and /tmp, and
    it runs as a user of its own.
    """
    for hidden, rule in _HIDDEN.items():
        if path.is_relative_to(hidden):
            return f"{path} is below {hidden}, which {rule} hides from the service"
    closed = closed_to_others(path)
    return f"{closed} is closed to other users, and the service runs as the user aiorch" if closed is not None else None


def closed_to_others(path: Path) -> Path | None:
    """Find what keeps other users from a directory: itself or one above it."""
    for part in (path, *path.parents):
        try:
            mode = part.stat().st_mode
        except OSError:
            continue
        needed = stat.S_IXOTH | stat.S_IROTH if part == path else stat.S_IXOTH
        if stat.S_ISDIR(mode) and mode & needed != needed:
            return part
    return None


def _state(path: Path, text: str) -> State:
    try:
        there = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "new"
    if there == text:
        return "unchanged"
    head = _HEAD.match(there)
    return "replaced" if head is not None and head[2] == _digest(there[head.end() :]) else "foreign"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
