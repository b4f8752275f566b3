"""The state directory and its files, broken in every way there is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from doctoring import SIMULATED, Doctor
from processes import DaemonProcess, daemon

from aiorchctl.doctor.contact import Contact
from aiorchctl.doctor.person import Person, myself
from aiorchctl.doctor.state import Room, _room, check_state

MIB = 1024 * 1024
NOBODY = 65533


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory as a daemon leaves it."""
    folder = tmp_path_factory.mktemp("d")
    with daemon(folder, SIMULATED) as running:
        assert running.stop() == 0
    return folder / "state"


@pytest.fixture
def left(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "state", copy_function=shutil.copy2)
    (tmp_path / "state").chmod(0o700)
    return tmp_path / "state"


def look(directory: Path, contact: Contact | None = None, person: Person | None = None) -> dict[str, list[Any]]:
    """Findings by file (or "" for the directory)."""
    found: dict[str, list[Any]] = {}
    environ = {"STATE_DIRECTORY": str(directory)}
    for one in check_state(contact or Contact(()), environ, person or myself()):
        assert one.check == "state"
        assert one.remedy or one.result in ("ok", "not_checked")
        found.setdefault(one.subject, []).append(one)
    return found


def the(found: dict[str, list[Any]], name: str = "") -> Any:
    [one] = found[name]
    return one


def served(directory: Path, **more: Any) -> Contact:
    """A daemon that says it uses this directory."""
    files = {name: {"state": "ok", "fault": None, "bytes": 1000} for name in ("cache", "metrics", "ledger")}
    status = {
        "state": {"path": str(directory), "rule": "--state-dir"},
        "store": {"files": files | more.pop("files", {})},
    }
    return Contact((), status=status, **more)


def test_as_a_daemon_leaves_it(left: Path) -> None:
    found = look(left)
    assert {name: [one.result for one in ones] for name, ones in found.items()} == {
        "": ["ok"],
        "cache.db": ["ok"],
        "metrics.db": ["ok"],
        "ledger.db": ["ok"],
    }
    assert "(by $STATE_DIRECTORY) has mode 0700" in the(found).sentence
    assert the(found, "ledger.db").sentence.startswith("sound, ")


def test_nothing_yet(tmp_path: Path) -> None:
    found = look(tmp_path / "none")
    assert list(found) == [""]
    assert the(found).sentence.endswith("will be made at the first start")
    (tmp_path / "none").mkdir(mode=0o700)
    assert the(look(tmp_path / "none"), "ledger.db").sentence == "will be made at the first start"


def test_no_place_for_it(tmp_path: Path) -> None:
    nobody = Person(4_000_000, frozenset())
    [found] = check_state(Contact(()), {}, nobody)
    assert (found.result, "has no home directory" in found.sentence) == ("not_checked", True)


def test_removed_under_a_running_daemon(simulated: DaemonProcess, doctor: Doctor) -> None:
    shutil.rmtree(simulated.state)
    looked = doctor(simulated.socket)
    [found] = [one for one in looked.all_of("state") if one["result"] == "failed"]
    assert looked.code == 70
    assert "was removed while the daemon uses it" in found["sentence"]


def test_one_file_removed_under_a_running_daemon(simulated: DaemonProcess, doctor: Doctor) -> None:
    (simulated.state / "ledger.db").unlink()
    found = doctor(simulated.socket).of("state", "ledger.db")
    assert found["result"] == "failed"
    assert "removed while the daemon uses it" in found["sentence"] or "the daemon cannot use it" in found["sentence"]


def test_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    found = the(look(tmp_path / "state"))
    assert (found.result, found.exit_code) == ("failed", 77)
    assert "is not a directory" in found.sentence


def test_open_to_others(left: Path) -> None:
    left.chmod(0o755)
    (left / "metrics.db").chmod(0o644)
    found = look(left)
    assert the(found).result == "warning"
    assert the(found).remedy.startswith(f"chmod 0700 {left}")
    assert the(found, "metrics.db").result == "warning"
    assert the(found, "metrics.db").remedy.startswith(f"chmod 0600 {left / 'metrics.db'}")


def test_of_another_user_than_the_daemons(left: Path) -> None:
    found = look(left, served(left, inside={"identity": {"uid": NOBODY}}))
    assert (found[""][0].result, found[""][0].exit_code) == ("failed", 77)
    assert found[""][0].remedy.startswith(f"chown -R {NOBODY} {left}")


def test_a_file_of_another_user(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import aiorchctl.doctor.state as state

    class Directory:
        st_uid, st_gid, st_mode = NOBODY, NOBODY, 0o40700

    [found] = [one for one in state._permissions(_examined(left), Directory()) if one.result == "failed"]  # type: ignore[arg-type]
    assert found.exit_code == 77
    assert found.remedy == f"chown {NOBODY} {left / 'cache.db'}*"


def _examined(left: Path) -> Any:
    from aiorchd.store.examine import examine

    return examine(left, check_s=1.0)[0]


def test_not_for_this_user_to_look_at(left: Path) -> None:
    found = look(left, person=Person(NOBODY, frozenset()))
    assert the(found, "files").result == "not_checked"
    assert "sudo aiorchctl doctor" in the(found, "files").remedy


@pytest.mark.parametrize(
    ("room", "expected", "words"),
    [
        (Room(80_000 * MIB, 10_000, False), [], ""),
        (Room(80_000 * MIB, None, False), [], ""),
        (Room(900 * MIB, 10_000, False), ["warning"], "the cache may grow by "),
        (Room(100 * MIB, 10_000, False), ["warning"], "has 100 MiB of room left"),
        (Room(1 * MIB, 10_000, False), ["failed"], "is full (1 MiB of room)"),
        (Room(80_000 * MIB, 3, False), ["failed"], "no room for more files"),
        (Room(80_000 * MIB, 10_000, True), ["failed"], "mounted read-only"),
    ],
)
def test_room(left: Path, room: Room, expected: list[str], words: str) -> None:
    contact = served(left, config={"cache.disk_max_bytes": 1024 * MIB})
    found = list(_room(left, room, contact))
    assert [one.result for one in found] == expected
    assert all(words in one.sentence and one.remedy for one in found)


@pytest.mark.parametrize("name", ["cache.db", "metrics.db"])
def test_damage_of_what_is_begun_anew(left: Path, name: str) -> None:
    (left / name).write_bytes(b"hello")
    found = the(look(left), name)
    assert (found.result, found.exit_code) == ("failed", 70)
    assert "the next start puts it aside and begins a new one" in found.sentence
    found = the(look(left, served(left)), name)
    assert "the daemon puts it aside as soon as it meets the damage" in found.sentence


def test_damage_of_what_must_not_be_lost(left: Path) -> None:
    with (left / "ledger.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    found = the(look(left), "ledger.db")
    assert (found.result, found.exit_code) == ("failed", 78)
    assert "the daemon does not start on it" in found.sentence
    assert "put a backup in its place" in found.remedy


def test_what_the_daemon_says_it_cannot_use(left: Path) -> None:
    full = {"cache": {"state": "full", "fault": "database or disk is full", "bytes": 1}}
    found = the(look(left, served(left, files=full)), "cache.db")
    assert (found.result, found.exit_code) == ("failed", 70)
    assert "the daemon cannot use it (database or disk is full): kept answers have to be paid for" in found.sentence


def test_of_a_newer_release(left: Path) -> None:
    with closing(sqlite3.connect(left / "metrics.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    found = the(look(left), "metrics.db")
    assert (found.result, found.exit_code) == ("failed", 78)
    assert "a newer release wrote it: it has schema 99" in found.sentence


def test_of_an_older_release(left: Path) -> None:
    with closing(sqlite3.connect(left / "metrics.db")) as connection:
        connection.execute("PRAGMA user_version = 1")
    found = the(look(left), "metrics.db")
    assert found.result == "ok"
    assert "the next start brings it to" in found.sentence


def test_a_missing_ledger_beside_other_state(left: Path) -> None:
    (left / "ledger.db").unlink()
    (left / "cache.db").unlink()
    found = look(left)
    assert the(found, "ledger.db").result == "warning"
    assert "If there is a backup" in the(found, "ledger.db").remedy
    assert the(found, "cache.db").sentence == "will be begun anew at the next start"


def test_held_by_another_program(left: Path) -> None:
    with closing(sqlite3.connect(left / "metrics.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("create table x (y)")
        found = the(look(left), "metrics.db")
    assert found.result == "warning"
    assert "fuser -v" in found.remedy


def test_damaged_files_that_were_put_aside(left: Path) -> None:
    (left / "cache.db.damaged-20260101T000000Z").write_bytes(b"x" * 2048)
    (left / "cache.db.damaged-20260101T000000Z-wal").write_bytes(b"")
    found = the(look(left))
    assert found.result == "warning"
    assert "1 damaged file was put aside" in found.sentence
    assert "(2 KiB): cache.db.damaged-20260101T000000Z" in found.sentence


def test_a_daemon_that_answers_elsewhere(tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    with daemon(tmp_path, SIMULATED) as running:
        monkeypatch.setenv("STATE_DIRECTORY", str(running.state))
        looked = doctor(tmp_path / "elsewhere")
        [found] = [one for one in looked.all_of("state") if one["result"] == "warning"]
        assert f"process {running.pid} uses {running.state}" in found["sentence"]
        assert f"pid={running.pid}" in found["remedy"]
        running.stop()
        assert doctor(tmp_path / "elsewhere").of("state")["result"] == "ok"


def test_a_number_in_the_lock_that_is_another_programs_by_now(left: Path) -> None:
    (left / "aiorchd.lock").write_text(f"{os.getpid()}\n")
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as other:
        (left / "aiorchd.lock").write_text(f"{other.pid}\n")
        assert the(look(left)).result == "ok"
        other.communicate()
    assert the(look(left)).result == "ok"
