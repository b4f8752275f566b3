"""The disk tier of the cache: what is put is there at once and after a restart, what is forgotten is gone at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from store_values import NOON, StandingClock, StillWriter, a_key, an_answer

from aiorchd.calls.ports import StoredAnswer
from aiorchd.core.brief_wait import BriefWait
from aiorchd.store.answer_rows import Row, checksum_of, read_answer
from aiorchd.store.answers import MAX_QUEUED, MAX_QUEUED_BYTES, AnswerBatch, AnswerBounds, Answers
from aiorchd.store.cache_schema import CACHE
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault
from aiorchd.store.opening import Store

Opener = Callable[..., Any]


def told(store: Store) -> dict[str, Any]:
    return dict(store.answers.statistics())


def on_disk(store: Store, sql: str, *values: object) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(store.directory / "cache.db")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def alter(state_dir: Path, sql: str, *values: object) -> None:
    connection = sqlite3.connect(state_dir / "cache.db")
    with connection:
        connection.execute(sql, values)
    connection.close()


async def test_an_answer_is_there_at_once_and_after_it_was_written(opened: Opener) -> None:
    answer = an_answer(1, tags=("b", "a"), partition="blue", cost_usd=None)
    async with opened() as store:
        store.answers.put(answer)
        assert await store.answers.get(answer.key) == answer
        assert told(store)["queued"] == 1
        await store.flush()
        assert told(store)["queued"] == told(store)["queued_bytes"] == 0
        found = await store.answers.get(answer.key)
        assert found is not None
        assert (found.body, found.cost_usd, found.partition, found.tags) == (answer.body, None, "blue", ("a", "b"))
        assert await store.answers.get(a_key(2)) is None


async def test_answers_outlive_the_process(opened: Opener) -> None:
    async with opened() as store:
        for number in range(100):
            store.answers.put(an_answer(number))
    async with opened() as store:
        assert await store.answers.get(a_key(99)) == an_answer(99)
        await store.flush()
        assert told(store)["entries"] == 100


async def test_a_newer_answer_takes_the_place_of_the_older_with_its_tags(opened: Opener) -> None:
    async with opened() as store:
        for body, tags in ((b"old", ("red",)), (b"new", ("blue", "green"))):
            store.answers.put(an_answer(1, body=body, tags=tags))
            await store.flush()
        found = await store.answers.get(a_key(1))
        assert found is not None
        assert (found.body, found.tags) == (b"new", ("blue", "green"))
        assert on_disk(store, "SELECT count(*) FROM answers") == [(1,)]
        assert told(store)["entries"] == 1


async def test_an_answer_expires_by_itself(opened: Opener, clock: StandingClock) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1, expires_at=NOON + 10))
        store.answers.put(an_answer(2, expires_at=NOON + 20))
        assert await store.answers.get(a_key(1)) is not None
        await store.flush()
        clock.now = NOON + 10
        assert await store.answers.get(a_key(1)) is None
        assert await store.answers.get(a_key(2)) is not None
        store.answers.put(an_answer(3))  # whoever writes sweeps
        await store.flush()
        assert on_disk(store, "SELECT key FROM answers ORDER BY key") == [(a_key(2),), (a_key(3),)]
        assert told(store)["expired"] == 1


async def test_a_stale_answer_stays_as_long_as_it_is_of_use(opened: Opener, clock: StandingClock) -> None:
    async with opened() as store:
        store.answers.reconfigure(AnswerBounds(stale_s=30))
        store.answers.put(an_answer(1, expires_at=NOON + 10))
        await store.flush()
        clock.now = NOON + 39.9
        store.answers.put(an_answer(2))
        await store.flush()
        assert await store.answers.get(a_key(1)) is not None
        clock.now = NOON + 40
        assert await store.answers.get(a_key(1)) is None
        store.answers.put(an_answer(3))
        await store.flush()
        assert on_disk(store, "SELECT key FROM answers ORDER BY key") == [(a_key(2),), (a_key(3),)]


async def test_the_ages_of_some_are_told(opened: Opener) -> None:
    async with opened() as store:
        assert await store.answers.some_stored_at() == []
        for number in range(500):
            store.answers.put(an_answer(number, stored_at=NOON - number))
        await store.flush()
        some = await store.answers.some_stored_at()
        assert 100 <= len(some) <= 300
        assert min(some) < NOON - 480
        assert NOON - 270 < sorted(some)[len(some) // 2] < NOON - 230


async def test_an_answer_from_the_future_is_not_served(opened: Opener, clock: StandingClock) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1))
        await store.flush()
        clock.now = NOON - 30
        assert await store.answers.get(a_key(1)) is not None
        clock.now = NOON - 86_400  # the clock was set back by a day
        assert await store.answers.get(a_key(1)) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("body", b"answer 2"),
        ("body", "text"),
        ("expires_at", NOON + 999_999),
        ("stored_at", NOON - 1),
        ("uid", 0),
        ("uid", "zero"),
        ("uid", 2**62),
        ("partition", "red"),
        ("model", "large"),
        ("source_id", "call-2"),
        ("cost_usd", None),
        ("cost_usd", 0.0),
        ("checksum", b"12345678"),
        ("checksum", 5),
        ("key", a_key(2)),
    ],
)
async def test_a_row_that_was_changed_is_dropped_and_counted(
    opened: Opener, state_dir: Path, column: str, value: object
) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1))
        await store.flush()
        alter(state_dir, f"UPDATE answers SET {column} = ?", value)
        key = a_key(2) if column == "key" else a_key(1)
        assert await store.answers.get(key) is None
        assert await store.answers.get(key) is None
        assert told(store)["poisoned"] == 1
        await store.flush()
        assert on_disk(store, "SELECT count(*) FROM answers") == [(0,)]
        assert told(store)["entries"] == 0
        assert store.statistics().files["cache"].state == "ok"


async def test_a_tag_that_was_changed_is_found_too(opened: Opener, state_dir: Path) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1, tags=("a",)))
        await store.flush()
        alter(state_dir, "UPDATE answer_tags SET tag = 'b'")
        assert await store.answers.get(a_key(1)) is None


@given(
    st.binary(min_size=1, max_size=40),
    st.binary(max_size=300),
    st.lists(st.text(max_size=5), max_size=3),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 10_000),
)
def test_no_flipped_bit_goes_unnoticed(key: bytes, body: bytes, tags: list[str], cost: float | None, bit: int) -> None:
    answer = an_answer(1, key=key, body=body, tags=tuple(tags), cost_usd=cost)
    whole = bytearray(key + body)
    whole[bit // 8 % len(whole)] ^= 1 << bit % 8
    other = an_answer(1, key=bytes(whole[: len(key)]), body=bytes(whole[len(key) :]), tags=tuple(tags), cost_usd=cost)
    assert checksum_of(answer) != checksum_of(other)


async def test_odd_values_are_stored_as_they_can_be(opened: Opener) -> None:
    async with opened() as store:
        store.answers.put(
            an_answer(1, tags=("\udcff", "ok", "ok"), partition="\ud800", source_id="é", cost_usd=float("nan"))
        )
        store.answers.put(an_answer(2, body=b""))
        await store.flush()
        found = await store.answers.get(a_key(1))
        assert found is not None
        assert (found.tags, found.partition, found.source_id, found.cost_usd) == (("?", "ok"), "?", "é", None)
        assert await store.answers.delete(tag="\udcff") == [a_key(1)]
        assert await store.answers.get(a_key(2)) == an_answer(2, body=b"")


async def test_one_answer_that_cannot_be_stored_does_not_take_others_with_it(opened: Opener) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1))
        store.answers.put(an_answer(2, uid=2**80))
        store.answers.put(an_answer(3))
        await store.flush()
        assert on_disk(store, "SELECT key FROM answers ORDER BY key") == [(a_key(1),), (a_key(3),)]
        assert (told(store)["written"], told(store)["dropped"]) == (2, 1)


# --- bounds --------------------------------------------------------------------------------------------------------------


async def test_the_number_of_entries_is_bounded_and_the_least_used_go(opened: Opener, clock: StandingClock) -> None:
    async with opened(answers=AnswerBounds(max_entries=50)) as store:
        for number in range(50):
            store.answers.put(an_answer(number, expires_at=NOON + 99_999))
        await store.flush()
        clock.now += 120
        for number in range(10):  # these are read from disk, so they count as used
            assert await store.answers.get(a_key(number)) is not None
        store.answers.touch([a_key(20)])  # this one was served from memory
        clock.now += 120
        for number in range(100, 139):
            store.answers.put(an_answer(number, expires_at=NOON + 99_999))
        await store.flush()
        kept = {key for (key,) in on_disk(store, "SELECT key FROM answers")}
        assert kept == {a_key(number) for number in [*range(10), 20, *range(100, 139)]}
        assert told(store)["entries"] == 50
        assert told(store)["evicted"] == 39


async def test_reading_again_and_again_does_not_write(opened: Opener, clock: StandingClock) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1))
        await store.flush()
        await store.flush()
        commits = store.statistics().files["cache"].commits
        for _ in range(50):
            assert await store.answers.get(a_key(1)) is not None
        await store.flush()
        assert store.statistics().files["cache"].commits == commits
        clock.now += 61
        await store.answers.get(a_key(1))
        store.answers.put(an_answer(2))
        await store.flush()
        assert on_disk(store, "SELECT used_at FROM answers WHERE key = ?", a_key(1)) == [(int(clock.now),)]


async def test_the_size_is_bounded_pages_and_all(opened: Opener) -> None:
    bounds = AnswerBounds(max_bytes=2 * 1024 * 1024)
    async with opened(answers=bounds) as store:
        for start in range(0, 2000, 250):
            for number in range(start, start + 250):
                store.answers.put(an_answer(number, body=bytes(5000)))
            await store.flush()
            assert told(store)["bytes"] <= bounds.max_bytes
        assert 100 < told(store)["entries"] < 400
        await settled(store)
        assert told(store)["file_bytes"] <= bounds.max_bytes
    assert (store.directory / "cache.db").stat().st_size <= bounds.max_bytes


async def test_smaller_bounds_hold_at_once_and_give_the_disk_back(opened: Opener) -> None:
    async with opened() as store:
        for number in range(800):
            store.answers.put(an_answer(number, body=bytes(5000)))
        await store.flush()
        assert told(store)["file_bytes"] > 4_000_000
        store.answers.reconfigure(AnswerBounds(max_entries=10, max_bytes=1024 * 1024))
        await settled(store)
        assert told(store)["entries"] == 10
        assert told(store)["file_bytes"] <= 1024 * 1024
        assert await store.answers.get(a_key(799)) is not None


async def settled(store: Store) -> None:
    """Let the writer come by until it has nothing left to tidy."""
    with trio.fail_after(10):
        before = None
        while before != (now := (told(store)["entries"], told(store)["file_bytes"])):
            before = now
            await store.flush()


async def test_an_answer_larger_than_a_quarter_of_the_disk_is_not_kept(opened: Opener) -> None:
    async with opened(answers=AnswerBounds(max_bytes=1024 * 1024)) as store:
        store.answers.put(an_answer(1, body=bytes(300_000)))
        assert await store.answers.get(a_key(1)) is None
        assert told(store)["dropped"] == 1


async def test_no_entries_means_none(opened: Opener) -> None:
    async with opened(answers=AnswerBounds(max_entries=0)) as store:
        store.answers.put(an_answer(1))
        assert await store.answers.get(a_key(1)) is None
        assert told(store)["queued"] == 0


async def test_the_queue_is_bounded_by_number_and_by_bytes(opened: Opener) -> None:
    async with opened() as store:
        for number in range(MAX_QUEUED + 100):  # nothing here waits, so nothing is written meanwhile
            store.answers.put(an_answer(number))
        assert told(store)["queued"] == MAX_QUEUED
        assert told(store)["dropped"] == 100
        await store.flush()
        for number in range(40):
            store.answers.put(an_answer(number, body=bytes(1_000_000)))
        assert told(store)["queued_bytes"] <= MAX_QUEUED_BYTES
        assert told(store)["dropped"] > 100
        await store.flush()
        assert told(store)["queued"] == 0


# --- forgetting ------------------------------------------------------------------------------------------------------------


async def filled(store: Store) -> None:
    """Six answers of two users, half of them on disk and half of them still gathered."""
    for number, (uid, tag) in enumerate([(1, "a"), (1, "b"), (2, "a"), (2, "b"), (1, "a"), (2, "a")]):
        store.answers.put(an_answer(number, uid=uid, tags=(tag, "every"), source_id=f"call-{number % 3}"))
        if number == 2:
            await store.flush()


@pytest.mark.parametrize(
    ("marks", "gone"),
    [
        ({"uid": 1}, {0, 1, 4}),
        ({"uid": 1, "everything": True}, {0, 1, 4}),
        ({"tag": "a"}, {0, 2, 4, 5}),
        ({"tag": "a", "uid": 2}, {2, 5}),
        ({"source_id": "call-0"}, {0, 3}),
        ({"source_id": "call-0", "uid": 2}, {3}),
        ({"keys": [a_key(1), a_key(4), a_key(77)]}, {1, 4}),
        ({"keys": [a_key(1), a_key(4)], "tag": "b"}, {1}),
        ({"keys": []}, set()),
        ({"tag": "unknown"}, set()),
        ({"everything": True}, {0, 1, 2, 3, 4, 5}),
        ({"everything": True, "tag": "b"}, {1, 3}),
        ({}, set()),
    ],
)
async def test_what_bears_all_marks_is_forgotten_wherever_it_is(
    opened: Opener, marks: dict[str, Any], gone: set[int]
) -> None:
    async with opened() as store:
        await filled(store)
        assert set(await store.answers.delete(**marks)) == {a_key(number) for number in gone}
        assert {number for number in range(6) if await store.answers.get(a_key(number)) is None} == gone
        assert told(store)["deletions_pending"] == 0
    async with opened() as store:
        assert {number for number in range(6) if await store.answers.get(a_key(number)) is None} == gone
        assert on_disk(store, "SELECT count(*) FROM answer_tags") == [((6 - len(gone)) * 2,)]


async def test_many_are_forgotten_bit_by_bit_and_all_told(opened: Opener) -> None:
    async with opened() as store:
        for number in range(3000):
            store.answers.put(an_answer(number, uid=number % 2))
        await store.flush()
        gone = await store.answers.delete(uid=1)
        assert len(gone) == len(set(gone)) == 1500
        keys = [a_key(number) for number in range(0, 3000, 2)]
        assert set(await store.answers.delete(keys=keys + keys)) == set(keys)
        assert on_disk(store, "SELECT count(*) FROM answers") == [(0,)]
        assert told(store)["deleted"] == 3000


async def test_clearing_begins_a_new_file_and_gives_the_disk_back(opened: Opener, state_dir: Path) -> None:
    async with opened() as store:
        for number in range(2000):
            store.answers.put(an_answer(number, body=bytes(1000)))
        await store.flush()
        assert len(await store.answers.delete(everything=True)) == 2000
        store.answers.put(an_answer(7))
        await store.flush()
        assert told(store)["entries"] == 1
        assert await store.answers.get(a_key(8)) is None
        assert await store.answers.get(a_key(7)) is not None
        assert store.statistics().files["cache"].put_aside == ()
    assert (state_dir / "cache.db").stat().st_size < 200_000
    assert not [path for path in state_dir.iterdir() if "damaged" in path.name]


async def test_what_is_put_after_forgetting_stays(opened: Opener) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1, body=b"old"))
        await store.flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: store.answers.delete(uid=1000))
            await trio.testing.wait_all_tasks_blocked()
            store.answers.put(an_answer(1, body=b"new"))
        await store.flush()
        found = await store.answers.get(a_key(1))
        assert found is not None
        assert found.body == b"new"


async def test_forgetting_holds_though_the_caller_left(opened: Opener) -> None:
    async with opened() as store:
        await filled(store)
        for marks in ({"tag": "a"}, {"everything": True}):
            with trio.CancelScope() as scope:
                scope.cancel()
                await store.answers.delete(**marks)
            assert await store.answers.get(a_key(0)) is None
            assert await store.answers.get(a_key(4)) is None
        await store.flush()
        await store.flush()
        assert told(store)["deletions_pending"] == 0
        assert on_disk(store, "SELECT count(*) FROM answers") == [(0,)]


# --- with the writer played by hand -----------------------------------------------------------------------------------------


@pytest.fixture
def answers(tmp_path: Path, clock: StandingClock) -> Iterator[Answers]:
    file = DatabaseFile(tmp_path, CACHE, wall_clock=clock)
    file.open()
    yield Answers(file, wall_clock=clock, writer=StillWriter(), bounds=AnswerBounds())
    file.close()


def carry_out(answers: Answers, batch: AnswerBatch) -> None:
    answers.file.transact(lambda connection: answers.write(connection, batch))
    answers.written(batch)


async def test_what_is_being_written_can_be_forgotten(answers: Answers) -> None:
    # The batch is with the writer when the deletion comes: it is hidden at once and goes in the next round.
    answers.put(an_answer(1))
    batch = answers.collect()
    assert batch is not None
    assert await answers.get(a_key(1)) == an_answer(1)
    told: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def forget() -> None:
            told.extend(await answers.delete(source_id="call-1"))

        nursery.start_soon(forget)
        await trio.testing.wait_all_tasks_blocked()
        assert await answers.get(a_key(1)) is None
        carry_out(answers, batch)
        assert await answers.get(a_key(1)) is None  # on disk, and hidden by the deletion that is pending
        assert answers.waiting
        deletion = answers.collect()
        assert deletion is not None
        carry_out(answers, deletion)
    assert told == [a_key(1)]
    assert await answers.get(a_key(1)) is None
    assert not answers.waiting
    assert answers.statistics()["deletions_pending"] == 0


async def test_a_batch_that_failed_comes_back_but_for_what_was_forgotten_or_put_again(answers: Answers) -> None:
    for number in (1, 2, 3):
        answers.put(an_answer(number, body=b"first"))
    batch = answers.collect()
    assert batch is not None
    answers.put(an_answer(2, body=b"second"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await answers.delete(keys=[a_key(3)])
    answers.failed(batch, FileFault(FaultKind.FULL, "disk is full"))
    found = [await answers.get(a_key(number)) for number in (1, 2, 3)]
    assert [answer and answer.body for answer in found] == [b"first", b"second", None]
    again = answers.collect()
    assert again is not None
    carry_out(answers, again)
    assert answers.statistics()["entries"] == 2
    assert answers.statistics()["dropped"] == 0
    assert answers.statistics()["queued"] == 0


async def test_a_batch_that_came_back_stays_within_the_bounds(answers: Answers) -> None:
    for number in range(MAX_QUEUED):
        answers.put(an_answer(number))
    batch = answers.collect()
    assert batch is not None
    for number in range(MAX_QUEUED, MAX_QUEUED + 100):
        answers.put(an_answer(number))
    answers.failed(batch, FileFault(FaultKind.IO, "no"))
    assert answers.statistics()["queued"] == MAX_QUEUED
    assert answers.statistics()["dropped"] == 100


async def test_a_batch_with_a_defect_is_dropped_and_not_tried_for_ever(answers: Answers) -> None:
    answers.put(an_answer(1))
    batch = answers.collect()
    assert batch is not None
    answers.failed(batch, FileFault(FaultKind.DEFECT, "TypeError"))
    assert not answers.waiting
    assert answers.statistics()["dropped"] == 1


async def test_a_deletion_that_the_disk_refuses_tells_the_keys_and_stays_in_force(answers: Answers) -> None:
    for number in range(4):
        answers.put(an_answer(number, uid=number % 2))
    first = answers.collect()
    assert first is not None
    carry_out(answers, first)
    told: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def forget() -> None:
            told.extend(await answers.delete(uid=1))

        nursery.start_soon(forget)
        await trio.testing.wait_all_tasks_blocked()
        deletion = answers.collect()
        assert deletion is not None
        answers.failed(deletion, FileFault(FaultKind.FULL, "disk is full"))
    assert set(told) == {a_key(1), a_key(3)}  # so that memory can forget them
    assert await answers.get(a_key(1)) is None
    assert await answers.get(a_key(2)) is not None
    again = answers.collect()
    assert again is not None
    carry_out(answers, again)
    assert answers.statistics()["entries"] == 2
    assert answers.statistics()["deletions_pending"] == 0


async def test_a_deletion_that_comes_while_an_answer_is_read_wins(answers: Answers) -> None:
    answers.put(an_answer(1))
    batch = answers.collect()
    assert batch is not None
    carry_out(answers, batch)
    found: list[StoredAnswer | None] = []
    reading, leave = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        reading.set()
        leave.wait(10)

    async with trio.open_nursery() as nursery:

        async def get() -> None:
            found.append(await answers.get(a_key(1)))

        # The reader is busy, so the answer is looked up only after the deletion was asked for and carried out.
        nursery.start_soon(answers.file.read, hold)
        await trio.to_thread.run_sync(reading.wait)
        nursery.start_soon(get)
        with trio.CancelScope() as scope:
            scope.cancel()
            await answers.delete(uid=1000)
        leave.set()
    assert found == [None]


def carry_out_all(answers: Answers) -> None:
    batch = answers.collect()
    assert batch is not None
    carry_out(answers, batch)


async def get_while(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]
) -> StoredAnswer | None:
    """Read answer 1; between its row being read and being looked at, ``meanwhile`` happens."""
    was_read, may_return = threading.Event(), threading.Event()

    def read_and_tell(connection: sqlite3.Connection, key: bytes) -> Row | None:
        row = read_answer(connection, key)
        was_read.set()
        assert may_return.wait(10)
        return row

    monkeypatch.setattr("aiorchd.store.answers.read_answer", read_and_tell)
    found: list[StoredAnswer | None] = []

    async def get() -> None:
        found.append(await answers.get(a_key(1)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(get)
        await trio.testing.wait_all_tasks_blocked()
        assert was_read.wait(10)
        meanwhile()
        may_return.set()
    return found[0]


def keep_damaged(answers: Answers) -> None:
    """Have one answer, with a row that its checksum does not fit."""
    answers.put(an_answer(1))
    carry_out_all(answers)
    answers.file.transact(lambda connection: connection.execute("UPDATE answers SET model = 'another'"))


async def test_a_damaged_row_is_counted_once_though_it_was_read_before_it_went(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_damaged(answers)
    assert await answers.get(a_key(1)) is None
    assert await get_while(answers, monkeypatch, lambda: carry_out_all(answers)) is None
    assert answers.statistics()["poisoned"] == 1
    assert not answers.waiting  # or else it would be the next answer that gets its number which goes


async def test_an_answer_in_the_place_of_a_damaged_one_is_not_taken_for_it(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_damaged(answers)

    def renew() -> None:
        answers.put(an_answer(1, body=b"new"))
        carry_out_all(answers)

    found = await get_while(answers, monkeypatch, renew)
    assert found is not None
    assert found.body == b"new"
    assert answers.statistics()["poisoned"] == 0


async def test_what_is_dropped_is_gone_wherever_it_is_and_does_not_come_back(answers: Answers) -> None:
    for number in (1, 2):
        answers.put(an_answer(number))
    carry_out_all(answers)
    answers.drop(a_key(1))
    assert answers.waiting
    assert await answers.get(a_key(1)) is None
    assert await answers.get(a_key(2)) is not None
    answers.put(an_answer(1, body=b"second"))  # put after that: it stays, though both go in one batch
    batch = answers.collect()
    assert batch is not None
    found = await answers.get(a_key(1))
    assert found is not None
    assert found.body == b"second"
    answers.drop(a_key(1))  # while it is being written
    carry_out(answers, batch)
    assert await answers.get(a_key(1)) is None
    refused = answers.collect()
    assert refused is not None
    assert await answers.get(a_key(1)) is None
    answers.failed(refused, FileFault(FaultKind.FULL, "disk is full"))
    assert await answers.get(a_key(1)) is None
    carry_out_all(answers)
    assert await answers.get(a_key(1)) is None
    assert not answers.waiting
    assert answers.statistics()["entries"] == 1
    assert answers.statistics()["deleted"] == 2


async def test_what_cannot_be_kept_takes_away_what_is_older(answers: Answers) -> None:
    answers.put(an_answer(1))
    carry_out_all(answers)
    answers.reconfigure(AnswerBounds(max_bytes=4000))
    answers.put(an_answer(1, body=bytes(2000)))
    assert answers.statistics()["dropped"] == 1
    assert await answers.get(a_key(1)) is None


async def test_many_drops_that_the_disk_refuses_end_in_clearing_it(answers: Answers) -> None:
    for number in range(2**16 + 1):
        answers.drop(a_key(number))
    assert answers.wants_new_file
    answers.file.renew(keep=False)
    answers.renewed(None)
    assert not answers.waiting


async def test_many_deletions_that_the_disk_refuses_end_in_clearing_it(answers: Answers) -> None:
    answers.file.note(FileFault(FaultKind.FULL, "disk is full"))
    for number in range(1025):
        with trio.CancelScope() as scope:
            scope.cancel()
            await answers.delete(keys=[a_key(number)])
    assert answers.wants_new_file
    answers.file.renew(keep=False)
    answers.renewed(None)
    assert answers.statistics()["deletions_pending"] == 0
    assert not answers.wants_new_file


def test_only_so_many_uses_wait(answers: Answers) -> None:
    answers.touch(a_key(number) for number in range(10_000))
    assert not answers.waiting  # uses alone do not make the disk write
    batch = answers.collect()
    assert batch is not None
    assert len(batch.used) == 4096
    carry_out(answers, batch)


def digest_of(number: int) -> bytes:
    """A key as they really are."""
    return b"\x01" + blake2b(number.to_bytes(8), digest_size=32).digest()


def under_digest(number: int) -> StoredAnswer:
    return an_answer(number, key=digest_of(number))


async def absence_known(store: Store) -> None:
    """Let the keys in the file be read."""
    with trio.fail_after(10):
        while True:
            before = told(store)["spared"]
            await store.answers.get(digest_of(10**6))
            if told(store)["spared"] > before:
                return
            await store.flush()


async def test_what_nobody_asked_before_does_not_wait_for_the_disk(opened: Opener) -> None:
    async with opened() as store:
        for number in range(0, 5000, 2):
            store.answers.put(under_digest(number))
            if number % 1000 == 0:
                await store.flush()
    async with opened() as store:
        assert told(store)["spared"] == 0
        assert not store.answers.likely(digest_of(4998))  # which is not known yet
        assert await store.answers.get(digest_of(4998)) == under_digest(4998)  # also before all keys were read
        await absence_known(store)
        spared = told(store)["spared"]
        for number in range(5000):
            found = await store.answers.get(digest_of(number))
            assert (found is not None) == (number % 2 == 0)
            assert number % 2 or store.answers.likely(digest_of(number))
        assert sum(store.answers.likely(digest_of(number)) for number in range(1, 5000, 2)) < 100
        assert told(store)["spared"] - spared >= 2400
        # To drop what was never there takes no disk.
        for number in range(1, 5000, 2):
            if not store.answers.likely(digest_of(number)):
                store.answers.drop(digest_of(number))
        assert not store.answers.waiting
        # What is put is there, gathered and written; what is forgotten is gone.
        store.answers.put(under_digest(1))
        assert await store.answers.get(digest_of(1)) == under_digest(1)
        await store.flush()
        assert await store.answers.get(digest_of(1)) == under_digest(1)
        assert await store.answers.delete(source_id="call-1") == [digest_of(1)]
        assert await store.answers.get(digest_of(1)) is None


def patient(answers: Answers) -> None:
    """Let the disk be waited for as long as this machine takes, however much others do on it."""
    answers.file._brief_wait = BriefWait(10.0)


async def test_what_is_known_to_be_there_is_read_at_once(opened: Opener, clock: StandingClock) -> None:
    async with opened() as store:
        store.answers.put(under_digest(1))
        store.answers.put(an_answer(2, key=digest_of(2), expires_at=NOON + 10, tags=("b", "a")))
        store.answers.put(under_digest(3))
    async with opened() as store:
        patient(store.answers)
        assert store.answers.look(digest_of(1)) is None  # which is not known yet
        await absence_known(store)
        asked = told(store)["asked"]
        assert store.answers.look(digest_of(1)) == under_digest(1)
        found = store.answers.look(digest_of(2))
        assert found is not None
        assert found.tags == ("a", "b")
        assert (told(store)["asked"] - asked, told(store)["found"]) == (2, 2)
        assert store.answers.look(digest_of(4)) is None
        # What was forgotten is not found, also before it is gone from the file; what is put is found before it is there.
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.answers.delete(source_id="call-1")
        assert told(store)["deletions_pending"] == 1
        assert store.answers.look(digest_of(1)) is None
        store.answers.put(an_answer(3, key=digest_of(3), body=b"new"))
        found = store.answers.look(digest_of(3))
        assert found is not None
        assert found.body == b"new"
        clock.now += 20
        assert store.answers.look(digest_of(2)) is None


async def test_a_disk_that_fails_or_lies_is_none_at_once(opened: Opener, state_dir: Path) -> None:
    async with opened() as store:
        for number in (1, 2):
            store.answers.put(under_digest(number))
    alter(state_dir, "UPDATE answers SET model = 'another' WHERE key = ?", digest_of(1))
    async with opened() as store:
        patient(store.answers)
        await absence_known(store)
        assert store.answers.look(digest_of(1)) is None
        assert told(store)["poisoned"] == 1
        broken = store.answers.file._reader
        assert broken is not None
        broken.execute("PRAGMA query_only = OFF")
        broken.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
        assert store.answers.look(digest_of(2)) is None
        assert told(store)["read_faults"] == 1
        assert store.answers.look(digest_of(2)) == under_digest(2)  # over a new connection


async def test_what_is_put_while_the_keys_are_read_is_not_missed(opened: Opener) -> None:
    async with opened() as store:
        for number in range(3000):
            store.answers.put(under_digest(number))
    async with opened() as store:
        for number in range(3000, 3100):  # some before the first step, some between steps
            store.answers.put(under_digest(number))
            if number % 10 == 0:
                await store.flush()
        await absence_known(store)
        for number in range(3100):
            assert await store.answers.get(digest_of(number)) == under_digest(number)


async def test_after_everything_was_forgotten_what_is_put_is_found(opened: Opener) -> None:
    async with opened() as store:
        store.answers.put(under_digest(1))
        await absence_known(store)
        await store.answers.delete(everything=True)
        store.answers.put(under_digest(2))
        await store.flush()
        await absence_known(store)
        assert await store.answers.get(digest_of(1)) is None
        assert await store.answers.get(digest_of(2)) == under_digest(2)


async def test_keys_are_read_anew_when_many_were_put(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiorchd.store.known_keys._MOST_PUT", 4096)
    async with opened() as store:
        await absence_known(store)
        first = store.answers._keys._whole
        for number in range(4100):
            store.answers.put(under_digest(number))
            if number % 500 == 0:
                await store.flush()
        await store.flush()
        await absence_known(store)
        with trio.fail_after(10):
            while store.answers._keys._whole is first:
                await store.flush()
                await absence_known(store)
        for number in (0, 500, 4099):
            assert await store.answers.get(digest_of(number)) == under_digest(number)
