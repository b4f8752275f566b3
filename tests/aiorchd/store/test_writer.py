"""The writer: batches, hurries, tidies and survives; what one shelf suffers does not touch another."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from store_values import StandingClock

from aiorchd.store.cache_schema import CACHE
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault
from aiorchd.store.metrics_schema import METRICS
from aiorchd.store.writer import Writer


class PlayedShelf:
    """A shelf whose work is a list of words, and which does what the test says."""

    def __init__(self, file: DatabaseFile) -> None:
        self.file = file
        self.gathered: list[str] = []
        self.wants_new_file = False
        self.settled: list[tuple[list[str], FaultKind | None]] = []
        self.renewals: list[FaultKind | None] = []
        self.tidied = 0
        self.to_tidy = 0
        self.writing: Callable[[sqlite3.Connection, list[str]], None] = lambda connection, work: None

    @property
    def waiting(self) -> bool:
        return bool(self.gathered)

    def renewed(self, fault: FileFault | None) -> None:
        self.wants_new_file = False
        self.renewals.append(fault and fault.kind)

    def collect(self) -> list[str] | None:
        work, self.gathered = self.gathered, []
        return work or None

    def write(self, connection: sqlite3.Connection, work: list[str]) -> None:
        self.writing(connection, work)

    def written(self, work: list[str]) -> None:
        self.settled.append((work, None))

    def failed(self, work: list[str], fault: FileFault) -> None:
        self.settled.append((work, fault.kind))

    def tidy(self, connection: sqlite3.Connection) -> bool:
        self.tidied += 1
        self.to_tidy -= 1
        return self.to_tidy > 0


@pytest.fixture
def shelves(tmp_path: Path) -> list[PlayedShelf]:
    files = [DatabaseFile(tmp_path, kind, wall_clock=StandingClock()) for kind in (CACHE, METRICS)]
    for file in files:
        file.open()
    return [PlayedShelf(file) for file in files]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the worker thread does, in real time."""
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.001)


async def test_what_is_gathered_together_is_written_together(shelves: list[PlayedShelf]) -> None:
    shelf = shelves[0]
    writer = Writer(flush_s=0.02)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await writer.flush()
        for word in "abc":
            shelf.gathered.append(word)
            writer.wake()
            await trio.lowlevel.checkpoint()
        await until(lambda: bool(shelf.settled))
        assert shelf.settled == [(["a", "b", "c"], None)]
        assert shelves[1].settled == []
        writer.stop()
    assert not writer.statistics().writing


async def test_it_waits_for_company_unless_there_is_a_hurry(
    shelves: list[PlayedShelf], autojump_clock: trio.testing.MockClock
) -> None:
    # On the fake clock: 100 s to gather, and nothing is written before.
    shelf = shelves[0]
    writer = Writer(flush_s=100.0)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await writer.flush()
        began = trio.current_time()
        shelf.gathered.append("a")
        writer.wake()
        await trio.sleep(99)
        assert shelf.settled == []
        await writer.flush()
        assert shelf.settled == [(["a"], None)]
        assert trio.current_time() - began < 100
        shelf.gathered.append("b")
        writer.wake()
        await trio.sleep(101)
        await trio.testing.wait_all_tasks_blocked()
        writer.stop()
    assert shelf.settled == [(["a"], None), (["b"], None)]


async def test_an_idle_writer_does_nothing_at_all(
    shelves: list[PlayedShelf], autojump_clock: trio.testing.MockClock
) -> None:
    writer = Writer()
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await writer.flush()
        rounds = writer.statistics().rounds
        await trio.sleep(86_400)
        assert writer.statistics().rounds == rounds
        writer.stop()


async def test_flush_waits_for_what_came_while_a_round_was_under_way(shelves: list[PlayedShelf]) -> None:
    shelf = shelves[0]
    inside, leave = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection, work: list[str]) -> None:
        if work == ["first"]:
            inside.set()
            leave.wait(10)

    shelf.writing = slow
    writer = Writer(flush_s=0.001)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        shelf.gathered.append("first")
        writer.wake()
        await trio.to_thread.run_sync(inside.wait)
        assert writer.statistics().writing
        shelf.gathered.append("second")
        async with trio.open_nursery() as flushing:
            flushing.start_soon(writer.flush)
            await trio.testing.wait_all_tasks_blocked()
            leave.set()
        assert shelf.settled == [(["first"], None), (["second"], None)]
        writer.stop()
    await writer.flush()  # after the end it does not wait for ever


async def test_a_file_that_fails_is_left_alone_for_a_while_and_the_other_is_not(shelves: list[PlayedShelf]) -> None:
    broken, sound = shelves

    def fail(connection: sqlite3.Connection, work: list[str]) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE large AS SELECT zeroblob(1000000)")

    broken.writing = fail
    writer = Writer(flush_s=0.001, retry_s=0.2)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        broken.gathered.append("a")
        await writer.flush()
        assert broken.settled == [(["a"], FaultKind.FULL)]
        assert broken.file.statistics().state == "full"
        broken.gathered.append("b")
        sound.gathered.append("c")
        await writer.flush()
        assert sound.settled == [(["c"], None)]
        assert len(broken.settled) == 1
        assert broken.gathered == ["b"]
        broken.writing = lambda connection, work: None
        began = trio.current_time()
        await until(lambda: len(broken.settled) == 2)
        assert trio.current_time() - began < 5
        assert broken.settled[1] == (["b"], None)
        assert broken.file.statistics().state == "ok"
        writer.stop()


@pytest.mark.parametrize("error", [TypeError("a mistake"), sqlite3.ProgrammingError("a mistake")])
async def test_a_defect_in_one_shelf_does_not_end_the_writer(
    shelves: list[PlayedShelf], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = shelves

    def fail(connection: sqlite3.Connection, work: list[str]) -> None:
        raise error

    broken.writing = fail
    writer = Writer(flush_s=0.001)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        broken.gathered.append("a")
        sound.gathered.append("b")
        await writer.flush()
        assert broken.settled == [(["a"], FaultKind.DEFECT if isinstance(error, TypeError) else FaultKind.REFUSED)]
        assert sound.settled == [(["b"], None)]
        assert broken.file.statistics().state == ("ok" if isinstance(error, TypeError) else "refused")
        assert not broken.file.damaged
        writer.stop()
    assert ("a mistake" in caplog.text) is isinstance(error, TypeError)


async def test_tidying_goes_on_in_small_steps_until_there_is_nothing_left(shelves: list[PlayedShelf]) -> None:
    shelf = shelves[0]
    shelf.to_tidy = 1000
    writer = Writer(flush_s=0.001)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await until(lambda: shelf.tidied >= 1000)
        await writer.flush()
        assert shelf.tidied == 1000
        assert shelves[1].tidied == 1
        writer.tidy_soon()
        await writer.flush()
        assert shelf.tidied == 1001
        writer.stop()


async def test_a_damaged_file_is_replaced_before_it_is_written_again(shelves: list[PlayedShelf]) -> None:
    shelf = shelves[0]
    writer = Writer(flush_s=0.001)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await writer.flush()
        shelf.file.damaged = True
        shelf.gathered.append("a")
        await writer.flush()
        assert shelf.renewals == [None]
        assert not shelf.file.damaged
        assert shelf.settled == [(["a"], None)]
        assert len(shelf.file.statistics().put_aside) == 1
        writer.stop()


async def test_a_new_file_when_everything_is_to_go(shelves: list[PlayedShelf]) -> None:
    shelf = shelves[0]
    writer = Writer(flush_s=0.001)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        shelf.wants_new_file = True
        await writer.flush()
        assert shelf.renewals == [None]
        assert shelf.file.statistics().put_aside == ()
        writer.stop()


async def test_a_new_file_that_cannot_be_made_is_tried_again_and_not_all_the_time(
    shelves: list[PlayedShelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = shelves[0]
    attempts: list[bool] = []

    def fail(*, keep: bool) -> bool:
        attempts.append(keep)
        raise FileFault(FaultKind.FULL, "disk is full")

    monkeypatch.setattr(shelf.file, "renew", fail)
    writer = Writer(flush_s=0.001, retry_s=0.5)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        shelf.file.damaged = True
        for _ in range(5):
            await writer.flush()
        assert attempts == [True]
        assert shelf.renewals == [FaultKind.FULL]
        await trio.sleep(0.5)
        await writer.flush()
        assert len(attempts) == 2
        monkeypatch.undo()
        shelf.wants_new_file = True
        await trio.sleep(0.5)
        await writer.flush()
        assert shelf.renewals == [FaultKind.FULL, FaultKind.FULL, None]
        assert shelf.file.statistics().put_aside == ()  # everything was to go anyway
        writer.stop()


async def test_stopping_writes_what_is_left_though_everything_is_cancelled(shelves: list[PlayedShelf]) -> None:
    shelf = shelves[0]
    writer = Writer(flush_s=60.0)
    writer.serve(*shelves)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await writer.flush()
        shelf.gathered.append("last words")
        nursery.cancel_scope.cancel()
        writer.stop()
    assert shelf.settled == [(["last words"], None)]
    assert writer.ended.is_set()
