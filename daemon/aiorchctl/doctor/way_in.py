"""The way to the daemon: which socket, whether somebody answers there, and who may go in."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aiorchctl.doctor.contact import Contact, Door
from aiorchctl.doctor.finding import Finding, failed, not_checked, ok, warning
from aiorchctl.doctor.person import Person, described, first_closed_directory, group_name
from aiorchctl.failures import how_to_start
from aiorchctl.quantities import seconds

SOCKET: Final = "socket"
PERMISSIONS: Final = "permissions"

_GRAVEST_FIRST: Final = ("closed", "full", "deserted", "no_socket", "odd", "missing")


def check_socket(contact: Contact, person: Person) -> Finding:
    """Tell which socket a client would use, by which rule, and whether an aiorchd answers there."""
    sockets = [{"path": door.path, "rule": door.rule, "state": door.state} for door in contact.doors]
    door = contact.door
    if door is None:
        return _no_door(contact.doors, person, sockets)
    where = f"{door.path} (by {door.rule})"
    if contact.turned_away:
        return ok(SOCKET, f"{where} answers", details={"sockets": sockets})
    if contact.status is None:
        return failed(
            SOCKET,
            f"{where} takes connections and does not answer as aiorchd does: {contact.silence}",
            "If aiorchd runs there, its log says what it is at (journalctl -u aiorchd, or --user -u aiorchd); else name "
            "another socket with --socket PATH.",
            os.EX_UNAVAILABLE,
            details={"sockets": sockets},
        )
    return ok(
        SOCKET,
        f"{where} answers in {seconds(contact.took_s)}",
        details={"sockets": sockets, "round_trip_s": contact.took_s},
    )


def _no_door(doors: tuple[Door, ...], person: Person, sockets: list[dict[str, str]]) -> Finding:
    door = min(doors, key=lambda one: _GRAVEST_FIRST.index(one.state))
    where = f"{door.path} (by {door.rule})"
    start = how_to_start(person.uid)
    others = [other.path for other in doors if other is not door]
    also = f", nor at {' and '.join(others)}" if others else ""
    if door.state == "missing":
        sentence, remedy = f"there is no socket at {where}{also}", start
    elif door.state == "deserted":
        sentence = f"nobody listens at {where}{also}: the daemon that made it is gone"
        remedy = f"{start} It replaces what the old one left."
    elif door.state == "no_socket":
        sentence, remedy = f"what stands at {where} is not a socket", "Name the daemon's with --socket PATH."
    elif door.state == "closed":
        sentence, remedy = f"user {person.name} may not connect to {where}", "See under permissions."
    elif door.state == "full":
        sentence = f"the queue of {where} is full: the daemon takes no connections at present"
        remedy = "Look what it is at: journalctl -u aiorchd; if nothing moves, restart it."
    else:
        sentence, remedy = f"{where} cannot be used: {door.reason}", "Name another socket with --socket PATH."
    code = os.EX_NOPERM if door.state == "closed" else os.EX_UNAVAILABLE
    return failed(SOCKET, sentence, remedy, code, details={"sockets": sockets})


def check_permissions(contact: Contact, person: Person) -> Iterator[Finding]:
    """Tell who may use the socket: this user, everybody, and whoever could put another one in its place."""
    door = contact.door or next((one for one in contact.doors if one.state in ("closed", "deserted", "full")), None)
    if door is None:
        yield not_checked(PERMISSIONS, "there is no socket to look at")
        return
    path = Path(door.path)
    closed = first_closed_directory(path, person)
    if closed is not None:
        yield _shut_directory(closed, person)
        return
    try:
        status = path.stat()
    except OSError as error:
        yield not_checked(PERMISSIONS, f"{path} cannot be looked at: {error.strerror}")
        return
    mine = described(status)
    if not person.may(status, "write"):
        yield _no_entry(path, status, person, mine)
        return
    if contact.turned_away:
        yield failed(
            PERMISSIONS,
            f"the daemon does not admit user {person.name} ({contact.silence})",
            f"Let an administrator add {person.name} to allow_users, or one of their groups to allow_groups, in [daemon].",
            os.EX_NOPERM,
        )
        return
    doubts = list(_doubts(path, status, contact, mine))
    yield from doubts
    if not doubts:
        role = "an administrator" if contact.server is not None and contact.server.admin else "not an administrator"
        as_what = "" if contact.server is None else f" as {role}"
        yield ok(PERMISSIONS, f"user {person.name} may connect{as_what}; the socket has {mine}")


def _shut_directory(closed: Path, person: Person) -> Finding:
    try:
        has = described(closed.stat())
    except OSError:
        has = "which may not even be looked at"
    return failed(
        PERMISSIONS,
        f"user {person.name} may not pass the directory {closed} ({has})",
        f"chmod o+x {closed}, or let {person.name} join its group; a daemon of your own needs neither.",
        os.EX_NOPERM,
    )


def _no_entry(path: Path, status: os.stat_result, person: Person, has: str) -> Finding:
    group = group_name(status.st_gid)
    if not status.st_mode & stat.S_IWGRP:
        remedy = "It is for its owner alone: start a daemon of your own, or give the owner's a group (SocketMode=0660)."
    elif person.belongs_to(status.st_gid):
        remedy = f"{person.name} was added to the group {group} after this session began: log in anew, or run newgrp {group}."
    else:
        remedy = f"sudo usermod -aG {group} {person.name}, then log in anew."
    return failed(
        PERMISSIONS,
        f"user {person.name} may not connect to {path} ({has})",
        remedy,
        os.EX_NOPERM,
        details={"mode": status.st_mode},
    )


def _doubts(path: Path, status: os.stat_result, contact: Contact, has: str) -> Iterator[Finding]:
    try:
        directory = path.parent.stat()
    except OSError:
        directory = None
    if (
        directory is not None
        and directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and not directory.st_mode & stat.S_ISVTX
    ):
        yield warning(
            PERMISSIONS,
            f"others than its owner may write the directory {path.parent} ({described(directory)}), and so put another "
            "socket in place of the daemon's",
            f"chmod go-w {path.parent}",
        )
    # A directory that keeps others out is as good as a mode.
    reachable = directory is None or directory.st_mode & stat.S_IXOTH
    config = contact.config or {}
    restricted = bool(config.get("daemon.allow_users") or config.get("daemon.allow_groups"))
    if status.st_mode & stat.S_IWOTH and reachable and not restricted:
        yield warning(
            PERMISSIONS,
            f"every user of this host may connect, and spend ({path} has {has})",
            "Say SocketMode=0660 and a SocketGroup= in the socket unit, or name who may in [daemon] allow_users and "
            "allow_groups.",
        )
