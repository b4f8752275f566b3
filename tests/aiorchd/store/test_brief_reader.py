"""A thread that is waited for briefly: it gives what it read, and when it is late, nobody stands still for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from aiorchd.store.brief_reader import BriefReader

LONG_S = 10.0
"""No limit that a test could meet."""


@pytest.fixture
def reader() -> Iterator[BriefReader]:
    reader = BriefReader()
    yield reader
    reader.close()
    for thread in reading_threads():
        thread.join(LONG_S)


def never_late(_: list[int]) -> None:
    raise AssertionError("it was in time")


def reading_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "aiorchd reader"}


async def test_it_gives_what_another_thread_read(reader: BriefReader) -> None:
    for _ in range(100):
        results = reader.ask(threading.get_ident, LONG_S, never_late)
        assert results is not None
        assert results != [threading.get_ident()]


async def test_what_is_late_is_told_later_and_does_not_meet_the_next_question(reader: BriefReader) -> None:
    leave, told = threading.Event(), list[list[int]]()
    heard = trio.Event()

    def late(results: list[int]) -> None:
        told.append(results)
        heard.set()

    assert reader.ask(lambda: int(leave.wait(LONG_S)), 0.001, late) is None
    assert told == []
    leave.set()
    with trio.fail_after(LONG_S):
        await heard.wait()
    assert told == [[1]]
    assert reader.ask(lambda: 2, LONG_S, never_late) == [2]


async def test_what_is_done_at_the_last_moment_is_told_once(reader: BriefReader) -> None:
    """The thread ends as the asker gives up: one of the two ways is taken, whichever comes first."""
    times = told = 0

    def late(_: list[int]) -> None:
        nonlocal told
        told += 1

    for number in range(300):
        begun = threading.Event()

        def soon(begun: threading.Event = begun, number: int = number) -> int:
            begun.wait(0.0008 + number % 5 * 0.0001)
            return number

        results = reader.ask(soon, 0.001, late)
        assert results is None or results == [number]
        times += results is not None
        with trio.fail_after(LONG_S):
            while times + told <= number:
                await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert times + told == 300


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_defect_ends_the_thread_and_the_next_question_begins_another(reader: BriefReader) -> None:
    def defective() -> int:
        raise RuntimeError("a defect")

    assert reader.ask(lambda: 1, LONG_S, never_late) == [1]
    (thread,) = reading_threads()
    assert reader.ask(defective, LONG_S, never_late) == []
    thread.join(LONG_S)
    assert reader.ask(lambda: 3, LONG_S, never_late) == [3]
    reader.close()


async def test_closing_ends_the_thread_and_leaves_no_descriptor(reader: BriefReader) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert reader.ask(lambda: 1, LONG_S, never_late) == [1]
        (thread,) = reading_threads()
        reader.close()
        reader.close()
        thread.join(LONG_S)
        assert set(os.listdir("/proc/self/fd")) == before


def test_whoever_is_late_after_all_have_gone_bothers_nobody() -> None:
    reader, leave = BriefReader(), threading.Event()

    async def ask() -> None:
        assert reader.ask(lambda: leave.wait(LONG_S), 0.001, lambda _: None) is None
        reader.close()

    trio.run(ask)
    (thread,) = reading_threads()
    leave.set()
    thread.join(LONG_S)
    assert not thread.is_alive()
