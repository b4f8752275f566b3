"""Where the daemon finds its configuration, its socket and its state, and by which rule, so that `status` can tell.

=========  ==============================================================================================
config     ``--config``, ``$AIORCH_CONFIG``, ``$XDG_CONFIG_HOME/aiorch/aiorch.toml`` (or ``~/.config``),
           ``/etc/aiorch/aiorch.toml``; none of these: built in
socket     ``--socket``, the descriptor from systemd, ``$AIORCH_SOCKET``, ``/run/aiorch/aiorch.sock`` as
           root, ``$XDG_RUNTIME_DIR/aiorch/aiorch.sock`` as anybody else; none of these: exit 64
state      ``--state-dir``, ``$STATE_DIRECTORY``, ``/var/lib/aiorch`` as root, ``$XDG_STATE_HOME/aiorch``
           (or ``~/.local/state``)
=========  ==============================================================================================
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYSTEM_CONFIG: Final = Path("/etc/aiorch/aiorch.toml")
SYSTEM_SOCKET: Final = Path("/run/aiorch/aiorch.sock")
SYSTEM_STATE: Final = Path("/var/lib/aiorch")

LONGEST_SOCKET_PATH: Final = 107
"""Bytes that fit into the kernel's address of a Unix socket."""

_LAST_SYSTEM_UID: Final = 999


class PlaceError(Exception):
    """There is no place to use; the message says what to name. A process that meets it exits with ``exit_code``."""

    exit_code: int = os.EX_USAGE


@dataclass(frozen=True, slots=True)
class Place:
    """A path and the rule that chose it, in the words of the table above."""

    path: Path
    rule: str

    def __str__(self) -> str:
        return f"{self.path} (by {self.rule})"


@dataclass(frozen=True, slots=True)
class SocketPlace:
    """Where the daemon listens. ``path`` is None as long as only the descriptor is known that systemd handed over; ``mode``
    is that of a socket made here.
    """

    path: Path | None
    rule: str
    mode: int = 0o600

    def __str__(self) -> str:
        return f"{self.path} (by {self.rule})" if self.path is not None else self.rule


def find_config(argument: str | None, environ: Mapping[str, str], uid: int) -> Place | None:
    """Find the configuration file; None when none is named and none is there.

    A named file is given back whether it exists or not: reading it then says what is wrong. One of the usual places
    counts as soon as something stands there, readable or not, so that a broken link or a wrong mode is told instead of
    another file being used.
    """
    if argument is not None:
        return Place(_absolute(argument, "--config"), "--config")
    named = environ.get("AIORCH_CONFIG")
    if named:
        return Place(_absolute(named, "$AIORCH_CONFIG"), "$AIORCH_CONFIG")
    for base, rule in _personal("XDG_CONFIG_HOME", ".config", environ, uid):
        path = base / "aiorch" / "aiorch.toml"
        if _stands(path):
            return Place(path, rule)
    return Place(SYSTEM_CONFIG, str(SYSTEM_CONFIG)) if _stands(SYSTEM_CONFIG) else None


def find_socket(argument: str | None, environ: Mapping[str, str], uid: int, *, inherited: bool) -> SocketPlace:
    """Find where to listen. ``inherited`` says that systemd handed a listening socket over.

    Raises `PlaceError` when no rule applies or when the path is too long for a socket.
    """
    mode = 0o660 if uid <= _LAST_SYSTEM_UID else 0o600
    if argument is not None:
        return SocketPlace(_short(_absolute(argument, "--socket")), "--socket", mode)
    if inherited:
        return SocketPlace(None, "a socket from systemd")
    named = environ.get("AIORCH_SOCKET")
    if named:
        return SocketPlace(_short(_absolute(named, "$AIORCH_SOCKET")), "$AIORCH_SOCKET", mode)
    if uid == 0:
        return SocketPlace(SYSTEM_SOCKET, str(SYSTEM_SOCKET), 0o660)
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_absolute():
        return SocketPlace(_short(Path(runtime) / "aiorch" / "aiorch.sock"), "$XDG_RUNTIME_DIR", 0o600)
    raise PlaceError(
        "no place for the socket: name one with --socket PATH or $AIORCH_SOCKET ($XDG_RUNTIME_DIR is not set to an absolute path)"
    )


def find_state(argument: str | None, environ: Mapping[str, str], uid: int) -> Place:
    """Find the directory of the databases. Raises `PlaceError` when no rule applies."""
    if argument is not None:
        return Place(_absolute(argument, "--state-dir"), "--state-dir")
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd joins several with colons
    if given:
        return Place(_absolute(given, "$STATE_DIRECTORY"), "$STATE_DIRECTORY")
    if uid == 0:
        return Place(SYSTEM_STATE, str(SYSTEM_STATE))
    for base, rule in _personal("XDG_STATE_HOME", ".local/state", environ, uid):
        return Place(base / "aiorch", rule)
    raise PlaceError(f"no place for the state: user {uid} has no home directory; name one with --state-dir DIRECTORY")


def _personal(variable: str, below_home: str, environ: Mapping[str, str], uid: int) -> list[tuple[Path, str]]:
    """Find a user's own base directory: at most one. Relative ones do not count, as the XDG specification has it."""
    given = environ.get(variable)
    if given and Path(given).is_absolute():
        return [(Path(given), f"${variable}")]
    home = environ.get("HOME")
    if not home:
        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            return []
    return [(Path(home) / below_home, f"~/{below_home}")] if Path(home).is_absolute() else []


def _absolute(text: str, rule: str) -> Path:
    """Make a named path independent of the working directory; an empty one names nothing."""
    if not text:
        raise PlaceError(f"{rule} is empty: name a path")
    return Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111  # ".." and links stay as written


def _short(path: Path) -> Path:
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_PATH:
        raise PlaceError(
            f"{path} is {length} bytes long, and a socket's path may have {LONGEST_SOCKET_PATH}: name a shorter one"
        )
    return path


def _stands(path: Path) -> bool:
    """Tell whether anything is at a path, even what cannot be looked at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
