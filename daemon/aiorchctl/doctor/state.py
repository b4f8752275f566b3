"""The state directory and its three files: there, private, sound, of this release, and with room to grow."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiorchctl.doctor.contact import Contact, found_in
from aiorchctl.doctor.finding import Finding, failed, not_checked, ok, warning
from aiorchctl.doctor.person import Person, described, user_name
from aiorchctl.quantities import plural, size

if TYPE_CHECKING:
    from aiorchd.store.examine import Examination

STATE: Final = "state"

LITTLE_BYTES: Final = 256 * 1024 * 1024
"""Room below which one should do something."""
LEAST_BYTES: Final = 16 * 1024 * 1024
"""Room below which nothing is sure to be kept."""
CHECK_S: Final = 5.0
"""Time for the check of each file's pages."""

_LOCK: Final = "aiorchd.lock"
_ELSEWHERE: Final = "or give the daemon another directory with --state-dir."


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has left for ordinary users; ``files`` is None where it does not count them."""

    free_bytes: int
    files: int | None
    read_only: bool


def named(path: Path, rule: str) -> str:
    """Write a place with the rule that chose it, where that is not the place itself."""
    return str(path) if rule == str(path) else f"{path} (by {rule})"


def room_of(directory: Path) -> Room:
    """Ask the file system."""
    told = os.statvfs(directory)
    return Room(
        told.f_bavail * told.f_frsize, told.f_favail if told.f_files else None, bool(told.f_flag & os.ST_RDONLY)
    )


def check_state(contact: Contact, environ: Mapping[str, str], person: Person) -> Iterator[Finding]:
    """Look at the directory that the daemon uses, else at the one that a daemon started here would use."""
    from aiorchd.config.places import PlaceError, find_state

    used = contact.told("state", "path")
    if used:
        path, rule = Path(str(used)), str(contact.told("state", "rule"))
    else:
        try:
            place = find_state(None, environ, person.uid)
        except PlaceError as error:
            yield not_checked(STATE, str(error))
            return
        path, rule = place.path, place.rule
    try:
        status = path.stat()
    except FileNotFoundError:
        yield from _missing_directory(path, rule, used=bool(used))
        return
    except OSError as error:
        yield not_checked(
            STATE, f"{named(path, rule)} cannot be looked at: {error.strerror}", "Try sudo aiorchctl doctor."
        )
        return
    owner = found_in(contact.inside, "identity", "uid")
    yield from _directory(path, rule, status, owner, contact)
    if stat.S_ISDIR(status.st_mode):
        yield from _files(path, status, contact, person)


def _missing_directory(path: Path, rule: str, *, used: bool) -> Iterator[Finding]:
    if used:
        yield failed(
            STATE,
            f"the state directory {named(path, rule)} was removed while the daemon uses it",
            "Restart the daemon: it makes a new one. What was in it is lost unless there is a backup.",
            os.EX_SOFTWARE,
        )
    else:
        yield ok(STATE, f"{named(path, rule)} will be made at the first start")


def _directory(path: Path, rule: str, status: os.stat_result, owner: Any, contact: Contact) -> Iterator[Finding]:
    if not stat.S_ISDIR(status.st_mode):
        yield failed(
            STATE,
            f"{named(path, rule)} is not a directory",
            f"Move it away, {_ELSEWHERE}",
            os.EX_NOPERM,
            details={"path": str(path)},
        )
        return
    troubles = [*_owner_and_mode(path, status, owner), *_room(path, room_of(path), contact), *_left_behind(path)]
    if contact.status is None:
        troubles += _holder(path)
    yield from troubles
    if not troubles:
        yield ok(
            STATE,
            f"{named(path, rule)} has {described(status)}, and {size(room_of(path).free_bytes)} of room",
            details={"path": str(path), "free_bytes": room_of(path).free_bytes},
        )


def _owner_and_mode(path: Path, status: os.stat_result, owner: Any) -> Iterator[Finding]:
    if isinstance(owner, int) and status.st_uid != owner:
        yield failed(
            STATE,
            f"{path} belongs to user {user_name(status.st_uid)} and the daemon runs as {user_name(owner)}: it will not "
            "start on it again",
            f"chown -R {user_name(owner)} {path}, {_ELSEWHERE}",
            os.EX_NOPERM,
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        yield warning(
            STATE,
            f"others than its owner may look into {path} ({described(status)}), where answers are kept",
            f"chmod 0700 {path}; the daemon does so when it starts.",
        )


def _room(path: Path, room: Room, contact: Contact) -> Iterator[Finding]:
    if room.read_only:
        yield failed(
            STATE,
            f"the file system of {path} is mounted read-only: nothing is kept",
            f"Mount it for writing, {_ELSEWHERE}",
            os.EX_SOFTWARE,
        )
    config = contact.config or {}
    most, held = config.get("cache.disk_max_bytes"), contact.told("store", "files", "cache", "bytes")
    to_come = most - held if isinstance(most, int) and isinstance(held, int) else 0
    make_room = f"Make room, lower [cache] disk_max_bytes, {_ELSEWHERE}"
    if room.free_bytes < LEAST_BYTES:
        yield failed(
            STATE,
            f"the file system of {path} is full ({size(room.free_bytes)} of room): answers and figures are not kept",
            make_room,
            os.EX_SOFTWARE,
            details={"free_bytes": room.free_bytes},
        )
    elif room.free_bytes < LITTLE_BYTES:
        yield warning(
            STATE,
            f"the file system of {path} has {size(room.free_bytes)} of room left",
            make_room,
            details={"free_bytes": room.free_bytes},
        )
    elif room.free_bytes < to_come:
        yield warning(
            STATE,
            f"the file system of {path} has {size(room.free_bytes)} of room, and the cache may grow by {size(to_come)} more",
            make_room,
            details={"free_bytes": room.free_bytes},
        )
    if room.files is not None and room.files < 16:
        yield failed(
            STATE,
            f"the file system of {path} has no room for more files (inodes)",
            f"Delete files nobody needs there, {_ELSEWHERE}",
            os.EX_SOFTWARE,
        )


def _left_behind(path: Path) -> Iterator[Finding]:
    from aiorchd.store.examine import put_aside

    try:
        found = put_aside(path)
        held = sum(one.stat().st_size for one in found)
    except OSError:
        return
    if found:
        yield warning(
            STATE,
            f"{plural(len(found), 'damaged file was', 'damaged files were')} put aside in {path} ({size(held)}): "
            f"{', '.join(one.name for one in found)}",
            "Find out what damaged them (the disk, its full file system, another program); then delete them.",
            details={"put_aside": [str(one) for one in found]},
        )


def _holder(path: Path) -> Iterator[Finding]:
    """Notice a daemon that uses the directory and answers elsewhere."""
    try:
        pid = int((path / _LOCK).read_text(encoding="ascii").strip())
        said = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if b"aiorchd" in said:
        yield warning(
            STATE,
            f"process {pid} uses {path}, and no daemon answers at the socket",
            f"It may listen elsewhere: `ss -xlp | grep pid={pid}` tells where; name that with --socket PATH.",
            details={"pid": pid},
        )


def _files(path: Path, status: os.stat_result, contact: Contact, person: Person) -> Iterator[Finding]:
    if not (person.may(status, "read") and person.may(status, "search")):
        yield not_checked(
            STATE,
            f"the files in {path} are for user {user_name(status.st_uid)} alone",
            "Ask as an administrator: sudo aiorchctl doctor",
            subject="files",
        )
        return
    from aiorchd.store.examine import examine

    found = examine(path, check_s=CHECK_S)
    begun = any(one.finding != "missing" for one in found)
    for one in found:
        troubles = [*_permissions(one, status), *_trouble(one, contact, begun=begun)]
        yield from troubles
        if not any(trouble.result in ("warning", "failed", "not_checked") for trouble in troubles):
            yield _sound(one, begun=begun)


def _sound(one: Examination, *, begun: bool) -> Finding:
    facts = {"path": str(one.path), "bytes": one.bytes, "schema": one.schema, "known_schema": one.known_schema}
    if one.finding == "missing":
        when = "will be begun anew at the next start" if begun else "will be made at the first start"
        return ok(STATE, when, subject=one.name, details=facts)
    how = {"ok": "sound", "unchecked": one.fault, "older": one.fault}[one.finding]
    return ok(STATE, f"{how}, {size(one.bytes)}, schema {one.schema}", subject=one.name, details=facts)


def _permissions(one: Examination, directory: os.stat_result) -> Iterator[Finding]:
    if one.uid is not None and one.uid != directory.st_uid:
        yield failed(
            STATE,
            f"it belongs to user {user_name(one.uid)} and its directory to {user_name(directory.st_uid)}",
            f"chown {user_name(directory.st_uid)} {one.path}*",
            os.EX_NOPERM,
            subject=one.name,
        )
    if one.mode is not None and one.mode & 0o077:
        yield warning(
            STATE,
            f"others than its owner may read it (mode {one.mode:04o})",
            f"chmod 0600 {one.path}; the daemon does so when it starts.",
            subject=one.name,
        )


def _trouble(one: Examination, contact: Contact, *, begun: bool) -> Iterator[Finding]:
    """Tell what the daemon says of the file, else what is seen in it."""
    live = contact.told("store", "files", one.name.removesuffix(".db"))
    fault = found_in(live, "fault")
    facts = {"path": str(one.path), "schema": one.schema, "known_schema": one.known_schema}
    if fault and found_in(live, "state") != "ok":
        yield failed(
            STATE,
            f"the daemon cannot use it ({fault}): {_loss(one)}",
            "It tries again by itself, and works again once the cause is gone; see the other lines and its log.",
            os.EX_SOFTWARE,
            subject=one.name,
            details=facts,
        )
    elif one.finding in ("damaged", "foreign"):
        yield _damage(one, facts, running=live is not None)
    elif one.finding == "newer":
        yield failed(
            STATE,
            f"a newer release wrote it: {one.fault}",
            "Install that release again (nothing was changed), " + _ELSEWHERE,
            os.EX_CONFIG,
            subject=one.name,
            details=facts,
        )
    elif one.finding == "missing" and live is not None:
        yield failed(
            STATE,
            f"it was removed while the daemon uses it: {_loss(one)}",
            "Put a backup in its place with the daemon stopped, or restart it to begin a new one.",
            os.EX_SOFTWARE,
            subject=one.name,
            details=facts,
        )
    elif one.finding == "missing" and begun and not one.disposable:
        yield warning(
            STATE,
            "it is missing while the other files are there: the next start begins an empty one",
            "If there is a backup, put it in its place before that.",
            subject=one.name,
            details=facts,
        )
    elif one.finding == "closed":
        yield not_checked(
            STATE, one.fault, "Ask as an administrator: sudo aiorchctl doctor", subject=one.name, details=facts
        )
    elif one.finding == "unavailable":
        yield warning(
            STATE,
            f"it cannot be read at present: {one.fault}",
            f"Another program may hold it: `fuser -v {one.path}` tells which.",
            subject=one.name,
            details=facts,
        )


def _damage(one: Examination, facts: Mapping[str, Any], *, running: bool) -> Finding:
    if not one.disposable:
        return failed(
            STATE,
            f"it is damaged ({one.fault}), and holds what must not be lost: the daemon does not start on it",
            f"Stop the daemon and put a backup in its place, or move it away with {one.name}-wal to begin an empty one.",
            os.EX_CONFIG,
            subject=one.name,
            details=facts,
        )
    when = "the daemon puts it aside as soon as it meets the damage" if running else "the next start puts it aside"
    return failed(
        STATE,
        f"it is damaged ({one.fault}): {when} and begins a new one; {_loss(one)}",
        "Restart the daemon, and find out what damaged it: the disk, or another program.",
        os.EX_SOFTWARE,
        subject=one.name,
        details=facts,
    )


def _loss(one: Examination) -> str:
    return {
        "cache.db": "kept answers have to be paid for again",
        "metrics.db": "figures and stories of calls are lost",
    }.get(one.name, "what must not be lost is in danger")
