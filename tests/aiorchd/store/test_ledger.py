"""What the ledger was told is on the disk before anybody hears of it, and one change that fails hurts no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from store_values import NOON, StandingClock, StillWriter

from aiorch.errors import NotFound, StorageError
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault
from aiorchd.store.ledger import MAX_WAITING, Boot, Ledger
from aiorchd.store.ledger_schema import LEDGER

Opener = Callable[..., Any]


def note(name: str, value: str = "") -> Callable[[sqlite3.Connection], str]:
    """A change for tests: one more fact."""

    def carry_out(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))
        return name

    return carry_out


def facts(connection: sqlite3.Connection) -> set[str]:
    return {
        name for (name,) in connection.execute("SELECT name FROM meta WHERE name NOT IN ('instance_id', 'created_at')")
    }


def facts_on_disk(state_dir: Path) -> set[str]:
    connection = sqlite3.connect(state_dir / "ledger.db")
    try:
        return facts(connection)
    finally:
        connection.close()


async def test_a_change_is_on_disk_when_it_is_answered(opened: Opener, state_dir: Path) -> None:
    async with opened() as store:
        assert await store.ledger.change(note("a")) == "a"
        assert facts_on_disk(state_dir) == {"a"}
        assert await store.ledger.ask(facts) == {"a"}
        assert store.ledger.statistics().changes == 1
        assert store.ledger.statistics().waiting == 0


async def test_changes_that_wait_together_share_a_commit(opened: Opener) -> None:
    async with opened() as store:
        await store.flush()
        before = store.statistics().files["ledger"].commits
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(store.ledger.change, note(f"{number}"))
        assert len(await store.ledger.ask(facts)) == 200
        assert store.statistics().files["ledger"].commits - before <= 5


async def test_a_change_that_fails_takes_nothing_else_with_it(opened: Opener) -> None:
    def half(connection: sqlite3.Connection) -> None:
        note("half")(connection)
        raise NotFound("no such job")

    answers: dict[str, Any] = {}

    async def ask(name: str, change: Callable[[sqlite3.Connection], Any]) -> None:
        try:
            answers[name] = await store.ledger.change(change)
        except (NotFound, sqlite3.IntegrityError, ZeroDivisionError) as error:
            answers[name] = type(error).__name__

    async with opened() as store:
        await store.ledger.change(note("there"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "good", note("good"))
            nursery.start_soon(ask, "half", half)
            nursery.start_soon(ask, "twice", note("there"))
            nursery.start_soon(ask, "defect", lambda _: 1 // 0)
            nursery.start_soon(ask, "fine", note("fine"))
        assert answers == {
            "good": "good",
            "half": "NotFound",
            "twice": "IntegrityError",
            "defect": "ZeroDivisionError",
            "fine": "fine",
        }
        assert await store.ledger.ask(facts) == {"there", "good", "fine"}


async def test_each_start_is_noted_and_each_end_in_order(opened: Opener, clock: StandingClock) -> None:
    async with opened(release="1.0") as store:
        first = store.ledger.statistics()
        assert store.ledger.previous is None
        assert (first.boot, first.created_at) == (1, NOON)
    clock.now += 100
    async with opened(release="1.1") as store:
        assert store.ledger.previous == Boot(1, "1.0", store.ledger.previous.pid, NOON, NOON)
        second = store.ledger.statistics()
        assert (second.boot, second.instance_id, second.created_at) == (2, first.instance_id, NOON)
        boots = await store.ledger.ask(lambda connection: connection.execute("SELECT * FROM boots").fetchall())
        assert [(number, release, stopped) for number, release, _, _, stopped in boots] == [
            (1, "1.0", NOON),
            (2, "1.1", None),
        ]


async def test_only_a_thousand_starts_are_kept(opened: Opener, state_dir: Path) -> None:
    async with opened():
        pass
    connection = sqlite3.connect(state_dir / "ledger.db")
    with connection:
        connection.executemany(
            "INSERT INTO boots (release, pid, started_at) VALUES ('0', ?, 0)", [(n,) for n in range(3000)]
        )
    connection.close()
    async with opened() as store:
        count = await store.ledger.ask(lambda connection: connection.execute("SELECT count(*) FROM boots").fetchone())
        assert count == (1000,)
        assert store.ledger.statistics().boot == 3002


@pytest.fixture
def ledger(tmp_path: Path, clock: StandingClock) -> Ledger:
    return Ledger(DatabaseFile(tmp_path, LEDGER, wall_clock=clock), wall_clock=clock, writer=StillWriter())


async def test_what_the_disk_does_not_take_is_refused_at_once(ledger: Ledger) -> None:
    async with trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(StorageError, match="the ledger cannot be written: full: disk is full") as caught:
                await ledger.change(note("a"))
            assert caught.value.retryable

        nursery.start_soon(refused)
        nursery.start_soon(refused)
        await trio.testing.wait_all_tasks_blocked()
        work = ledger.collect()
        assert work is not None
        assert ledger.statistics().waiting == 2
        ledger.failed(work, FileFault(FaultKind.FULL, "disk is full"))
    assert ledger.collect() is None  # nothing is kept that its owner believes lost
    assert (ledger.statistics().waiting, ledger.statistics().refused) == (0, 2)


async def test_only_so_many_changes_may_wait(ledger: Ledger) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(MAX_WAITING):
            nursery.start_soon(ledger.change, note(f"{number}"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(StorageError, match="too many") as caught:
            await ledger.change(note("one more"))
        assert caught.value.retry_after_s == 1.0
        nursery.cancel_scope.cancel()
    assert ledger.statistics().waiting == 0
    assert not ledger.waiting


async def test_a_caller_who_leaves_before_the_writer_comes_takes_the_change_along(ledger: Ledger) -> None:
    with trio.move_on_after(0):
        await ledger.change(note("a"))
    assert ledger.collect() is None
