"""One file: made whole, brought up to date step by step, refused when newer, and read beside the writer."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from sqlite_utils import Database
from store_values import StandingClock

from aiorchd.core.brief_wait import BriefWait
from aiorchd.store.bulk import insert_many
from aiorchd.store.cache_schema import CACHE
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault, SchemaTooNew
from aiorchd.store.kinds import FileKind, Table
from aiorchd.store.ledger_schema import LEDGER
from aiorchd.store.metrics_schema import METRICS

KINDS = [CACHE, METRICS, LEDGER]
ALL = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def first_step(database: Database) -> None:
    database.table("things").create({"number": int, "name": str}, pk="number")


def second_step(database: Database) -> None:
    database.table("things").add_column("weight", float)


def failing_step(database: Database) -> None:
    database.table("others").create({"number": int}, pk="number")
    raise RuntimeError("in the middle of it")


THINGS = FileKind(
    name="things",
    application_id=0x1234,
    synchronous="NORMAL",
    disposable=True,
    foreign_keys=True,
    secure_delete="FAST",
    steps=(first_step,),
    tables=(Table("things", ("number",), ("name",)),),
)


def opened(folder: Path, kind: FileKind) -> DatabaseFile:
    file = DatabaseFile(folder, kind, wall_clock=StandingClock())
    file.open()
    return file


def rows(file: DatabaseFile, sql: str) -> list[tuple[object, ...]]:
    return file.transact(lambda connection: connection.execute(sql).fetchall())


@ALL
def test_a_new_file_is_what_its_kind_says(tmp_path: Path, kind: FileKind) -> None:
    file = opened(tmp_path, kind)
    assert rows(file, "PRAGMA application_id") == [(kind.application_id,)]
    assert rows(file, "PRAGMA user_version") == [(len(kind.steps),)]
    assert rows(file, "PRAGMA journal_mode") == [("wal",)]
    assert rows(file, "PRAGMA auto_vacuum") == [(2,)]
    assert rows(file, "PRAGMA synchronous") == [({"NORMAL": 1, "FULL": 2}[kind.synchronous],)]
    assert {name for (name,) in rows(file, "SELECT name FROM sqlite_master WHERE type = 'table'")} >= {
        table.name for table in kind.tables
    }
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"{kind.name}.db"]


@ALL
def test_sqlite_utils_reads_it_as_its_users_expect(tmp_path: Path, kind: FileKind) -> None:
    opened(tmp_path, kind).close()
    database = Database(tmp_path / f"{kind.name}.db")
    for name in (table.name for table in kind.tables):
        assert database.table(name).pks != ["rowid"], name
        assert database.table(name).count == 0 or name == "_counts"
    assert [(row["migration_set"], row["name"]) for row in database.table("_sqlite_migrations").rows] == [
        (f"aiorch_{kind.name}", step.__name__) for step in kind.steps
    ]
    for table in kind.tables:
        assert set(database.table(table.name).columns_dict) == {*table.key, *table.columns}
        for key in database.table(table.name).foreign_keys:
            assert key.other_column in database.table(key.other_table).columns_dict
    database.close()


def test_foreign_keys_and_the_view_are_there_for_datasette(tmp_path: Path) -> None:
    opened(tmp_path, METRICS).close()
    opened(tmp_path, CACHE).close()
    metrics = Database(tmp_path / "metrics.db")
    assert [(key.column, key.other_table) for key in metrics.table("minutes").foreign_keys] == [("series", "series")]
    assert metrics.table("minutes").pks == ["starts_at", "series"]
    assert metrics.view_names() == ["usage_by_hour"]
    assert list(metrics.query("SELECT * FROM usage_by_hour")) == []
    metrics.close()
    cache = Database(tmp_path / "cache.db")
    assert cache.cached_counts() == {"answers": 0}
    assert [(key.column, key.other_table) for key in cache.table("answer_tags").foreign_keys] == [("answer", "answers")]
    cache.close()


def test_an_old_file_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    file.transact(lambda connection: connection.execute("INSERT INTO things VALUES (1, 'stone')"))
    file.close()
    file = opened(tmp_path, replace(THINGS, steps=(first_step, second_step)))
    assert rows(file, "SELECT * FROM things") == [(1, "stone", None)]
    assert rows(file, "PRAGMA user_version") == [(2,)]
    assert rows(file, "SELECT name FROM _sqlite_migrations") == [("first_step",), ("second_step",)]
    file.close()


def test_a_step_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    opened(tmp_path, THINGS).close()
    with pytest.raises(RuntimeError, match="in the middle"):
        opened(tmp_path, replace(THINGS, steps=(first_step, failing_step)))
    file = opened(tmp_path, THINGS)
    assert rows(file, "PRAGMA user_version") == [(1,)]
    assert rows(file, "SELECT name FROM _sqlite_migrations") == [("first_step",)]
    assert rows(file, "SELECT name FROM sqlite_master WHERE name = 'others'") == []
    file.close()


def test_a_first_start_that_failed_half_way_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        opened(tmp_path, replace(THINGS, steps=(first_step, failing_step)))
    assert not (tmp_path / "things.db").exists()
    opened(tmp_path, THINGS).close()
    assert [path.name for path in tmp_path.iterdir()] == ["things.db"]


@ALL
def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path, kind: FileKind) -> None:
    opened(tmp_path, kind).close()
    path = tmp_path / f"{kind.name}.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE of_the_future (x)")
    connection.close()
    before = path.read_bytes()
    file = DatabaseFile(tmp_path, kind, wall_clock=StandingClock())
    for attempt in (file.refuse_newer, file.open):
        with pytest.raises(SchemaTooNew, match=rf"{kind.name}.db has schema 99 .* newer aiorchd.*nothing was changed"):
            attempt()
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_what_a_transaction_did_is_undone_when_it_fails(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things VALUES (1, 'stone')")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        file.transact(half)
    with pytest.raises(FileFault) as caught:
        file.transact(lambda connection: connection.execute("INSERT INTO things VALUES ('x', 1)"))
    assert caught.value.kind is FaultKind.REFUSED
    assert rows(file, "SELECT * FROM things") == []
    file.close()


def test_what_undoes_a_part_of_a_transaction_is_not_written_to_a_disk(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    many = [(number, "n" * 500) for number in range(400)]
    file.transact(lambda connection: insert_many(connection, "INSERT INTO things (number, name)", 2, many))

    def change_and_undo(connection: sqlite3.Connection) -> list[str]:
        connection.execute("SAVEPOINT part")
        connection.execute("UPDATE things SET name = 'other'")
        is_open = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        connection.execute("ROLLBACK TO part")
        connection.execute("RELEASE part")
        return [name for name in is_open if "etilqs" in name]  # SQLite's temporary files

    assert file.transact(change_and_undo) == []
    assert rows(file, "SELECT DISTINCT name FROM things") == [("n" * 500,)]


def test_a_stranger_who_holds_the_file_is_waited_for_a_moment_only(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    stranger = sqlite3.connect(tmp_path / "things.db", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(FileFault) as caught:
        rows(file, "SELECT 1")
    assert caught.value.kind is FaultKind.BUSY
    stranger.execute("ROLLBACK")
    stranger.close()
    assert rows(file, "SELECT 1") == [(1,)]
    file.close()


def test_a_file_that_was_removed_is_not_written_into_the_void(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    (tmp_path / "things.db").unlink()
    with pytest.raises(FileFault, match="removed or exchanged"):
        rows(file, "SELECT 1")
    assert file.renew(keep=True)
    assert rows(file, "SELECT count(*) FROM things") == [(0,)]
    file.close()


def test_damage_that_comes_back_at_once_does_not_make_file_after_file(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    assert file.renew(keep=True)
    assert not file.renew(keep=True)
    assert len(file.statistics().put_aside) == 1
    assert file.renew(keep=False)  # clearing is not damage
    file.close()


async def test_reading_does_not_wait_for_the_writer(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    inside, leave = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things VALUES (1, 'stone')")
        inside.set()
        leave.wait(10)

    count = "SELECT count(*) FROM things"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, file.transact, slow)
        await trio.to_thread.run_sync(inside.wait)
        assert await file.read(lambda connection: connection.execute(count).fetchone()) == (0,)
        leave.set()
    assert await file.read(lambda connection: connection.execute(count).fetchone()) == (1,)
    file.close()


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    with pytest.raises(FileFault) as caught:
        await file.read(lambda connection: connection.execute("INSERT INTO things VALUES (1, 'x')"))
    assert caught.value.kind is FaultKind.READ_ONLY
    file.close()


async def test_a_disk_that_hangs_costs_one_wait_and_not_one_a_call(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    leave = threading.Event()
    with pytest.raises(FileFault, match=r"no answer within 0.01 s"):
        await file.read(lambda _: leave.wait(10), timeout_s=0.01)
    with trio.fail_after(1), pytest.raises(FileFault, match="earlier question"):
        await file.read(lambda _: 1, timeout_s=10)
    assert file.statistics().state == "slow"
    leave.set()
    assert await file.read(lambda _: 1) == 1  # without a limit it waits its turn
    assert await file.read(lambda _: 2, timeout_s=10) == 2
    assert file.statistics().state == "ok"
    file.close()


def patient(file: DatabaseFile) -> None:
    """Let it be waited for as long as this machine takes, however much others do on it."""
    file._brief_wait = BriefWait(10.0)


async def test_what_is_read_at_once_gives_nobody_else_a_turn(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    patient(file)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await trio.lowlevel.checkpoint()
        before = turns
        for number in range(20):
            assert file.read_at_once(lambda _, number=number: number) == number
        assert turns == before
        nursery.cancel_scope.cancel()
    assert file.statistics().state == "ok"
    file.close()


async def test_a_disk_that_is_slow_is_not_stood_still_for(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    leave = threading.Event()
    began = time.monotonic()
    assert file.read_at_once(lambda _: leave.wait(10)) is None
    assert time.monotonic() - began < 5.0  # the limit is a millisecond; this machine may be busy
    # Nobody is asked twice, and who would be refused by a disk that hangs still is, after one wait.
    assert file.read_at_once(lambda _: 1) is None
    with pytest.raises(FileFault, match="no answer within 0.01 s"):
        await file.read(lambda _: 1, timeout_s=0.01)
    assert file.read_at_once(lambda _: 1) is None
    leave.set()
    assert await file.read(lambda _: 2) == 2
    patient(file)
    assert await file.read(lambda _: 3, timeout_s=10) == 3
    assert file.read_at_once(lambda _: 4) == 4
    file.close()


async def test_what_others_read_is_not_stood_still_for(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    patient(file)
    leave = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.read, lambda _: leave.wait(10))
        await trio.testing.wait_all_tasks_blocked()
        assert file.read_at_once(lambda _: 1) is None
        leave.set()
    async with file.readers_held:
        assert file.read_at_once(lambda _: 1) is None
    assert file.read_at_once(lambda _: 1) == 1
    file.close()


async def test_what_is_wrong_is_told_at_once_and_when_it_comes_late(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    patient(file)
    leave = threading.Event()

    def damaged(_: sqlite3.Connection) -> None:
        leave.wait(10)
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    leave.set()
    with pytest.raises(FileFault) as caught:
        file.read_at_once(damaged)
    assert caught.value.kind is FaultKind.DAMAGED
    assert file.damaged
    assert file.statistics().state == "damaged"
    assert file.read_at_once(lambda _: 1) == 1
    assert file.statistics().state == "ok"
    file.damaged = False
    leave.clear()
    file._brief_wait = BriefWait()
    assert file.read_at_once(damaged) is None
    leave.set()
    async with file.readers_held:
        await trio.testing.wait_all_tasks_blocked()
        assert file.damaged
    assert file.statistics().state == "damaged"
    file.close()


async def test_leaving_a_question_does_not_wait_for_its_answer(tmp_path: Path) -> None:
    file = opened(tmp_path, THINGS)
    leave = threading.Event()
    with trio.move_on_after(0.01) as scope:
        await file.read(lambda _: leave.wait(10))
    assert scope.cancelled_caught
    leave.set()
    assert await file.read(lambda _: 3, timeout_s=5) == 3
    file.close()


def test_a_fault_is_logged_when_it_begins_and_when_it_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = StandingClock()
    file = DatabaseFile(tmp_path, THINGS, wall_clock=clock)
    with caplog.at_level(logging.INFO, logger="aiorchd.store"):
        for _ in range(5):
            file.note(FileFault(FaultKind.FULL, "disk is full"))
        assert file.statistics().since == clock.now
        clock.now += 7
        file.note(None, reading=True)  # reading works all the time
        file.note(None)
        file.note(None)
    assert [record.message for record in caplog.records] == ["file does not work", "file works again"]
    assert caplog.records[0].aiorch_fields == {"file": "things.db", "kind": "full", "error": "disk is full"}
    assert caplog.records[1].aiorch_fields == {"file": "things.db", "after_s": 7.0}
    assert file.statistics().faults == 5
    assert file.statistics().state == "ok"


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1000])
def test_many_rows_go_in_as_they_are(count: int) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE things (number INTEGER PRIMARY KEY, name)")
    given = [(number, f"thing {number}") for number in range(count)]
    assert insert_many(connection, "INSERT INTO things", 2, given) == count
    assert connection.execute("SELECT * FROM things ORDER BY number").fetchall() == given
    assert insert_many(connection, "INSERT INTO things", 2, given, "ON CONFLICT DO NOTHING") == 0
    connection.close()
