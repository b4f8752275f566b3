"""The crew: one task after the other's work, each in a scope of its own, and nothing left of what was done."""

from __future__ import annotations

import math
import weakref

import trio

from aiorchd.runtime.crew import Crew


class Diary:
    """Work that notes who does it, and when it is done or cancelled."""

    def __init__(self) -> None:
        self.tasks: list[trio.lowlevel.Task] = []
        self.done: list[str] = []
        self.cancelled: list[str] = []

    async def sleep(self, name: str, seconds: float) -> None:
        self.tasks.append(trio.lowlevel.current_task())
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.cancelled.append(name)
            raise
        self.done.append(name)


async def test_one_task_does_one_thing_after_the_other(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        first = crew.begin(10, diary.sleep, "first", 1)
        assert first.deadline == 10
        await trio.sleep(2)
        assert crew.resting == 1
        assert crew.begin(20, diary.sleep, "second", 1) is first
        assert 20 <= first.deadline <= 21
        assert crew.resting == 0
        await trio.sleep(2)
        assert diary.done == ["first", "second"]
        assert diary.tasks[0] is diary.tasks[1]


async def test_who_rests_ends_at_the_deadline_of_its_last_work(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        crew.begin(10, diary.sleep, "one", 1)
        await trio.sleep(2)
        crew.begin(30, diary.sleep, "two", 1)
    assert 30 <= trio.current_time() <= 31
    assert (crew.resting, diary.done) == (0, ["one", "two"])


async def test_a_deadline_is_never_early_and_at_most_a_second_late(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        wanted = [10.0, 10.3, 10.9, 11.3, 9.0, math.inf, 12.0, math.inf, 60.0]
        given = []
        for deadline in wanted:
            given.append(crew.begin(deadline, trio.lowlevel.checkpoint).deadline)
            await trio.testing.wait_all_tasks_blocked()
    assert all(deadline <= at for deadline, at in zip(wanted, given, strict=True))
    assert all(at <= deadline + 1.0 for deadline, at in zip(wanted, given, strict=True))
    assert given[1:3] == [given[1]] * 2  # not moved for each


async def test_side_by_side_each_has_its_own_task_and_few_rest(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery, most_resting=2)
        scopes = {crew.begin(100, diary.sleep, str(number), 1) for number in range(3)}
        assert len(scopes) == 3
        await trio.sleep(2)
        assert len(set(diary.tasks)) == 3
        assert crew.resting == 2
        assert len(nursery.child_tasks) == 2


async def test_a_scope_that_was_cancelled_is_not_used_again(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        crew.begin(5, diary.sleep, "too long", 7)
        await trio.sleep(6)
        assert (diary.cancelled, crew.resting) == (["too long"], 0)
        crew.begin(20, diary.sleep, "in time", 1)
        await trio.sleep(2)
        late = crew.begin(20, diary.sleep, "ended as it wakes", 1)
        late.cancel()
        await trio.sleep(2)
        assert (diary.cancelled, crew.resting) == (["too long", "ended as it wakes"], 0)
        new = crew.begin(20, diary.sleep, "ended before it starts", 1)
        new.cancel()
        await trio.sleep(2)
        assert diary.cancelled[2:] == ["ended before it starts"]
        assert (diary.done, crew.resting) == (["in time"], 0)


async def test_what_is_cancelled_when_it_is_done_does_not_rest(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()

    async def ends_itself() -> None:
        scope.cancel()

    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        scope = crew.begin(20, ends_itself)
        await trio.testing.wait_all_tasks_blocked()
        assert crew.resting == 0
        crew.begin(20, diary.sleep, "after it", 1)
    assert diary.done == ["after it"]


async def test_closed_it_lets_those_go_that_rest_and_the_others_finish(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        crew.begin(math.inf, diary.sleep, "short", 1)
        crew.begin(math.inf, diary.sleep, "long", 5)
        await trio.sleep(2)
        assert crew.resting == 1
        crew.close()
        crew.begin(math.inf, diary.sleep, "last", 1)
    assert trio.current_time() == 5
    assert (diary.done, diary.cancelled, crew.resting) == (["short", "last", "long"], [], 0)


async def test_with_the_nursery_all_end(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        crew.begin(math.inf, diary.sleep, "short", 1)
        crew.begin(math.inf, diary.sleep, "long", 5)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
        assert crew.resting == 0
    assert (diary.done, diary.cancelled) == (["short"], ["long"])


async def test_who_rests_holds_nothing_of_what_it_did(autojump_clock: trio.testing.MockClock) -> None:
    class Prompt:
        pass

    async def read(prompt: Prompt) -> None:
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        for _ in range(2):
            prompt = Prompt()
            gone = weakref.ref(prompt)
            crew.begin(10, read, prompt)
            del prompt
            await trio.testing.wait_all_tasks_blocked()
            assert crew.resting == 1
            assert gone() is None
