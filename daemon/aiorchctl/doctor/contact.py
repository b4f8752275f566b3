"""Getting to the daemon, step by step, so that what stands in the way can be named; and what it says once reached."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import aiorch
from aiorch.address import SYSTEM_SOCKET, candidates
from aiorch.reply import Server

State: TypeAlias = Literal["open", "missing", "no_socket", "deserted", "closed", "full", "odd"]

_STATES: Final[Mapping[int, State]] = {
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.ECONNREFUSED: "deserted",
    errno.EACCES: "closed",
    errno.EPERM: "closed",
    errno.EAGAIN: "full",
    errno.EPROTOTYPE: "no_socket",
}
_ANSWER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Door:
    """One place where a daemon may be, and by which rule; ``open`` when it takes connections."""

    path: str
    rule: str
    state: State
    reason: str = ""


@dataclass(slots=True)
class Contact:
    """What came of looking for the daemon.

    ``door`` is the first one that took a connection. Of what it said, ``server`` is its hello, ``status`` and ``config``
    (in force, dotted keys) what everybody and administrators are told, ``inside`` its own look around; each None when it
    was not to be had, which ``silence`` and ``why_not_inside`` explain. ``before_s`` and ``after_s`` are the wall clock
    here around that look.
    """

    doors: tuple[Door, ...]
    door: Door | None = None
    server: Server | None = None
    status: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    inside: dict[str, Any] | None = None
    silence: str = ""
    turned_away: bool = False
    """Whether it answers and does not admit this user."""
    why_not_inside: str = ""
    took_s: float = 0.0
    before_s: float = 0.0
    after_s: float = 0.0
    said: list[str] = field(default_factory=list)

    def told(self, *path: str) -> Any:
        """Find something in ``status``; None when it is not there."""
        return found_in(self.status, *path)


def found_in(value: Any, *path: str) -> Any:
    """Follow keys into plain data; None when the way ends."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def look_for_doors(argument: str | None, environ: Mapping[str, str]) -> tuple[Door, ...]:
    """Knock at every socket that a client would try, in its order."""
    paths = candidates(argument, environ)
    rules: Sequence[str]
    if argument is not None:
        rules = ("--socket",)
    elif environ.get("AIORCH_SOCKET"):
        rules = ("$AIORCH_SOCKET",)
    else:
        rules = ["the system's place" if path == SYSTEM_SOCKET else "$XDG_RUNTIME_DIR" for path in paths]
    return tuple(_knock(path, rule) for path, rule in zip(paths, rules, strict=True))


def make_contact(doors: tuple[Door, ...], *, provider_timeout_s: float) -> Contact:
    """Talk to the daemon behind the first open door. Never raises: what fails is told in the result."""
    contact = Contact(doors, next((door for door in doors if door.state == "open"), None))
    if contact.door is None:
        return contact
    try:
        with aiorch.Client(contact.door.path, connect_timeout_s=0.0, timeout_s=_ANSWER_S, grace_s=0.2) as client:
            contact.server = client.hello()
            began = time.perf_counter()
            client.ping()
            contact.took_s = time.perf_counter() - began
            contact.status = client.status()
    except aiorch.CallError as error:
        contact.turned_away = error.code in ("forbidden", "unauthorized")
        contact.silence = str(error)
    except aiorch.AiorchError as error:
        contact.silence = str(error)
    if contact.status is not None:
        _ask_inside(contact, contact.door.path, provider_timeout_s)
    return contact


def _ask_inside(contact: Contact, path: str, provider_timeout_s: float) -> None:
    # Each provider may take its time to connect and to answer, twice.
    patience_s = 4 * provider_timeout_s + _ANSWER_S
    try:
        with aiorch.Client(path, connect_timeout_s=0.0, timeout_s=patience_s) as client:
            contact.config = client.config_get()
            contact.before_s = time.time()
            contact.inside = client.call("doctor", provider_timeout_s=provider_timeout_s)
            contact.after_s = time.time()
    except aiorch.CallError as error:
        contact.why_not_inside = {
            "forbidden": "only administrators may ask the daemon about this",
            "unknown_method": "the daemon is of an older release, which cannot be asked about this",
        }.get(error.code, f"the daemon could not look: {error}")
    except aiorch.AiorchError as error:
        contact.why_not_inside = f"the daemon could not be asked: {error}"


def _knock(path: str, rule: str) -> Door:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a path as the client has it
            return Door(path, rule, "no_socket", "it is not a socket")
    except OSError as error:
        return Door(path, rule, _STATES.get(error.errno or 0, "odd"), error.strerror or str(error))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        knocking.setblocking(False)
        try:
            knocking.connect(path)
            knocking.getpeername()  # connected for certain
        except OSError as error:
            return Door(path, rule, _STATES.get(error.errno or 0, "odd"), error.strerror or str(error))
    return Door(path, rule, "open")
