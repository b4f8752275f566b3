"""No socket, a dead one, a deaf one, a stranger's, a closed one: each is told apart, with what to do."""

from __future__ import annotations

import grp
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from doctoring import Doctor
from processes import DaemonProcess

import aiorchctl.doctor.contact
from aiorch.errors import Forbidden
from aiorchctl.doctor.contact import Contact, Door, look_for_doors
from aiorchctl.doctor.finding import Finding
from aiorchctl.doctor.person import Person, myself
from aiorchctl.doctor.way_in import check_permissions, check_socket

STRANGER = Person(54321, frozenset((54321,)))


@contextmanager
def listener(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Something that takes connections and is no daemon."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(8)
        taken: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                taken.append(peer)
                with suppress(OSError):  # one who only knocks is gone again
                    answer(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for peer in taken:
                peer.close()


def test_no_socket(tmp_path: Path, doctor: Doctor) -> None:
    looked = doctor(tmp_path / "none")
    found = looked.of("socket")
    assert (looked.code, found["result"]) == (69, "failed")
    assert found["sentence"] == f"there is no socket at {tmp_path / 'none'} (by --socket)"
    assert "Start it with `aiorchd &`" in found["remedy"]
    assert looked.of("permissions")["result"] == "not_checked"
    assert looked.of("descriptors")["sentence"] == "no daemon answers"


def test_a_socket_that_a_killed_daemon_left(simulated: DaemonProcess, doctor: Doctor) -> None:
    simulated.stop(9)
    looked = doctor(simulated.socket)
    found = looked.of("socket")
    assert (looked.code, found["result"]) == (69, "failed")
    assert "the daemon that made it is gone" in found["sentence"]
    assert found["remedy"].endswith("It replaces what the old one left.")
    assert looked.of("permissions")["result"] == "ok"


def test_something_else_in_its_place(tmp_path: Path, doctor: Doctor) -> None:
    (tmp_path / "s").write_text("")
    found = doctor(tmp_path / "s").of("socket")
    assert found["sentence"] == f"what stands at {tmp_path / 's'} (by --socket) is not a socket"


def test_a_stranger_who_speaks_another_language(tmp_path: Path, doctor: Doctor) -> None:
    with listener(tmp_path / "s", lambda peer: peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")):
        looked = doctor(tmp_path / "s")
    found = looked.of("socket")
    assert (looked.code, found["result"]) == (69, "failed")
    assert "does not answer as aiorchd does" in found["sentence"]
    assert "name another socket" in found["remedy"]


def test_one_that_never_answers(tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiorchctl.doctor.contact, "_ANSWER_S", 0.1)
    with listener(tmp_path / "s", lambda peer: None):
        found = doctor(tmp_path / "s").of("socket")
    assert "hello: no answer came within 0.1 s" in found["sentence"]
    assert "journalctl -u aiorchd" in found["remedy"]


def test_a_full_queue(tmp_path: Path, doctor: Doctor) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        waiting = []
        try:
            while True:
                one = socket.socket(socket.AF_UNIX)
                waiting.append(one)
                one.setblocking(False)
                one.connect(path)
        except BlockingIOError:
            pass
        found = doctor(path).of("socket")
        for one in waiting:
            one.close()
    assert (found["result"], "the queue of" in found["sentence"]) == ("failed", True)
    assert "journalctl" in found["remedy"]


def test_a_way_that_leads_through_a_file(tmp_path: Path, doctor: Doctor) -> None:
    (tmp_path / "file").write_text("")
    assert "there is no socket at" in doctor(tmp_path / "file" / "s").of("socket")["sentence"]


def test_the_rule_that_chose_the_socket(tmp_path: Path) -> None:
    assert [(door.path, door.rule) for door in look_for_doors("/a", {"AIORCH_SOCKET": "/b"})] == [("/a", "--socket")]
    assert [door.rule for door in look_for_doors(None, {"AIORCH_SOCKET": "/b"})] == ["$AIORCH_SOCKET"]
    doors = look_for_doors(None, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert [door.rule for door in doors] == ["$XDG_RUNTIME_DIR", "the system's place"]
    found = check_socket(Contact(doors), myself())
    assert str(tmp_path) in found.sentence or "/run/aiorch" in found.sentence


@pytest.mark.parametrize(
    ("state", "code", "words", "remedy"),
    [
        ("closed", 77, "user 54321 may not connect to /a (by --socket)", "See under permissions."),
        ("odd", 69, "/a (by --socket) cannot be used: it is odd", "Name another socket with --socket PATH."),
        ("missing", 69, "there is no socket at /a (by --socket), nor at /b", "Start it with"),
    ],
)
def test_doors_that_cannot_be_made_by_root(state: Any, code: int, words: str, remedy: str) -> None:
    doors = (Door("/a", "--socket", state, "it is odd"), Door("/b", "the system's place", "missing"))
    found = check_socket(Contact(doors), STRANGER)
    assert (found.result, found.exit_code, found.sentence) == ("failed", code, words)
    assert found.remedy.startswith(remedy)


def test_a_user_whom_the_daemon_does_not_admit(daemon: Any, doctor: Doctor) -> None:
    daemon.answers["hello"] = Forbidden("user 7 may not use this daemon")
    looked = doctor(daemon.path)
    assert looked.of("socket")["result"] == "ok"
    found = looked.of("permissions")
    assert (looked.code, found["result"]) == (77, "failed")
    assert "does not admit user" in found["sentence"]
    assert "to allow_users" in found["remedy"]


def seen_by(person: Person, path: Path, **facts: Any) -> list[Finding]:
    """Look at the permissions of a socket as somebody else would."""
    doors = look_for_doors(str(path), {})
    return list(check_permissions(Contact(doors, doors[0], **facts), person))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Path]:
    """A socket in a directory of its own that everybody may pass."""
    above: list[tuple[Path, int]] = []
    for directory in tmp_path.parents:
        mode = directory.stat().st_mode & 0o7777
        if directory.stat().st_uid == os.geteuid() and mode & 0o011 != 0o011:
            above.append((directory, mode))
            directory.chmod(mode | 0o011)
    tmp_path.chmod(0o755)
    folder = tmp_path / "d"
    folder.mkdir(mode=0o755)
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(folder / "s"))
        listening.listen(8)
        (folder / "s").chmod(0o660)
        yield folder / "s"
    for directory, mode in above:
        directory.chmod(mode)


def test_a_user_outside_the_group(made: Path) -> None:
    [found] = seen_by(STRANGER, made)
    group = grp.getgrgid(made.stat().st_gid).gr_name
    assert (found.result, found.exit_code) == ("failed", 77)
    assert "user 54321 may not connect" in found.sentence
    assert "mode 0660" in found.sentence
    assert found.remedy == f"sudo usermod -aG {group} 54321, then log in anew."
    member = Person(54321, frozenset((made.stat().st_gid,)))
    assert seen_by(member, made)[0].result == "ok"


def test_a_user_who_was_added_to_the_group_a_moment_ago(made: Path) -> None:
    # Everybody is a member of their own group, which this person's process does not know.
    late = Person(os.geteuid() or 1, frozenset())
    gid = next(entry.gr_gid for entry in grp.getgrall() if late.belongs_to(entry.gr_gid))
    if os.geteuid() == 0:
        os.chown(made, -1, gid)
    elif made.stat().st_gid != gid:
        gid = made.stat().st_gid
    made.chmod(0o060 | 0o600)
    if os.geteuid() != 0:  # the owner: the group counts for others only
        assert late.may(made.stat(), "write")
        return
    [found] = seen_by(late, made)
    assert found.result == "failed"
    assert "log in anew" in found.remedy
    assert "newgrp" in found.remedy


def test_a_socket_for_its_owner_alone(made: Path) -> None:
    made.chmod(0o600)
    [found] = seen_by(STRANGER, made)
    assert (found.result, found.exit_code) == ("failed", 77)
    assert "start a daemon of your own" in found.remedy


def test_a_directory_that_may_not_be_passed(made: Path) -> None:
    made.parent.chmod(0o750)
    [found] = seen_by(STRANGER, made)
    assert (found.result, found.exit_code) == ("failed", 77)
    assert f"may not pass the directory {made.parent}" in found.sentence
    assert found.remedy.startswith(f"chmod o+x {made.parent}")


def test_a_socket_for_everybody(made: Path) -> None:
    made.chmod(0o666)
    [found] = seen_by(myself(), made)
    assert found.result == "warning"
    assert "every user of this host may connect, and spend" in found.sentence
    assert "SocketMode=0660" in found.remedy
    [found] = seen_by(myself(), made, config={"daemon.allow_users": ["www-data"]})
    assert found.result == "ok"
    made.parent.chmod(0o750)  # a directory that keeps others out is as good
    assert seen_by(myself(), made)[0].result == "ok"


def test_a_directory_in_which_others_may_write(made: Path) -> None:
    made.parent.chmod(0o777)
    [found] = seen_by(myself(), made)
    assert found.result == "warning"
    assert "put another socket in place of the daemon's" in found.sentence
    assert found.remedy == f"chmod go-w {made.parent}"
    made.parent.chmod(0o1777)
    assert seen_by(myself(), made)[0].result == "ok"
