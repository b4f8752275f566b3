"""Looking at state files from outside: every kind of trouble has its name, and nothing is changed by looking."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from store_values import StandingClock, a_record, an_answer

from aiorchd.store.examine import Examination, examine, put_aside
from aiorchd.store.opening import open_store

Opener = Callable[..., Any]
NAMES = ("cache.db", "metrics.db", "ledger.db")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with something in it, as a daemon leaves it."""
    folder = tmp_path_factory.mktemp("made") / "state"

    async def make() -> None:
        async with open_store(folder, release="1.0", wall_clock=StandingClock()) as store:
            for number in range(200):
                store.answers.put(an_answer(number))
                store.records.record(a_record(number))

    trio.run(make)
    return folder


@pytest.fixture
def left(made: Path, state_dir: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made, state_dir)
    return state_dir


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}


def look(folder: Path, name: str, check_s: float = 10.0) -> Examination:
    """Look, and see that looking changes nothing."""
    before = snapshot(folder)
    (found,) = [one for one in examine(folder, check_s=check_s) if one.name == name]
    assert snapshot(folder) == before
    return found


def test_files_as_a_daemon_leaves_them(left: Path) -> None:
    for name, disposable in zip(NAMES, (True, True, False), strict=True):
        found = look(left, name)
        assert (found.finding, found.fault) == ("ok", "")
        assert found.schema == found.known_schema
        assert found.bytes == (left / name).stat().st_size
        assert (found.mode, found.uid, found.disposable) == (0o600, os.geteuid(), disposable)


async def test_files_while_a_daemon_uses_them(opened: Opener, state_dir: Path) -> None:
    async with opened() as store:
        for number in range(50):
            store.answers.put(an_answer(number))
        await store.flush()
        found = await trio.to_thread.run_sync(lambda: examine(state_dir, check_s=10.0))
        assert [one.finding for one in found] == ["ok", "ok", "ok"]
        assert found[0].bytes > (state_dir / "cache.db").stat().st_size  # with its log
        # And they still work.
        store.answers.put(an_answer(100))
        await store.flush()
        assert store.statistics().files["cache"].state == "ok"


def test_what_a_killed_daemon_left_in_its_log_is_seen(left: Path) -> None:
    other = left.parent / "other"
    other.mkdir()
    with closing(sqlite3.connect(left / "cache.db")) as connection:
        connection.execute("create table written (by_whom)")
        connection.commit()
        for file in left.iterdir():
            shutil.copy2(file, other)
    (found,) = [one for one in examine(other, check_s=10.0) if one.name == "cache.db"]
    assert found.finding == "ok"


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_one(left: Path, name: str) -> None:
    (left / name).unlink()
    found = look(left, name)
    assert (found.finding, found.bytes, found.mode) == ("missing", 0, None)


@pytest.mark.parametrize("name", NAMES)
def test_damage(left: Path, name: str) -> None:
    path = left / name
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    found = look(left, name)
    assert found.finding == "damaged"
    assert found.fault


@pytest.mark.parametrize("content", [b"", b"hello " * 2000])
def test_what_is_no_database(left: Path, content: bytes) -> None:
    (left / "cache.db").write_bytes(content)
    assert look(left, "cache.db").finding == "damaged"


def test_a_strangers_database(left: Path) -> None:
    shutil.copy2(left / "metrics.db", left / "ledger.db")
    found = look(left, "ledger.db")
    assert found.finding == "foreign"
    assert found.fault.startswith("it is not aiorch's ledger file")


@pytest.mark.parametrize(("by", "finding"), [(1, "newer"), (-1, "older")])
def test_other_releases(left: Path, by: int, finding: str) -> None:
    known = look(left, "ledger.db").known_schema
    with closing(sqlite3.connect(left / "ledger.db")) as connection:
        connection.execute(f"PRAGMA user_version = {known + by}")
    found = look(left, "ledger.db")
    assert (found.finding, found.schema) == (finding, known + by)
    assert f"it has schema {known + by}" in found.fault


def test_a_check_that_would_take_too_long_is_given_up(left: Path) -> None:
    with closing(sqlite3.connect(left / "cache.db")) as connection:
        connection.execute("create table many (a, b)")
        rows = [(number, "x" * 200) for number in range(20_000)]
        connection.executemany("insert into many values (?, ?)", rows)
        connection.commit()
    found = look(left, "cache.db", check_s=0.0)
    assert (found.finding, found.fault) == ("unchecked", "sound as far as 0 s went")


def test_a_directory_in_place_of_a_file(left: Path) -> None:
    (left / "cache.db").unlink()
    (left / "cache.db").mkdir()
    (found,) = [one for one in examine(left, check_s=1.0) if one.name == "cache.db"]
    assert (found.finding, found.fault) == ("damaged", "it is not a regular file")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert {one.finding for one in examine(tmp_path / "state", check_s=1.0)} == {"closed"}


def test_somebody_holds_it_alone(left: Path) -> None:
    with closing(sqlite3.connect(left / "metrics.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("create table x (y)")
        (found,) = [one for one in examine(left, check_s=1.0) if one.name == "metrics.db"]
    assert (found.finding, "locked" in found.fault) == ("unavailable", True)


async def test_what_was_put_aside_is_found(opened: Opener, left: Path) -> None:
    assert put_aside(left) == ()
    (left / "cache.db").write_bytes(b"hello")
    (left / "cache.db-wal").write_bytes(b"hello")
    async with opened():
        pass
    [aside] = put_aside(left)
    assert aside.name.startswith("cache.db.damaged-")
    assert aside.read_bytes() == b"hello"
