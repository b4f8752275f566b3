"""The crew: one task after the other's work, each in a scope of its own, and nothing left of what was done."""

from __future__ import annotations

import math
import random
import weakref

import pytest
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
        assert first.deadline == 20
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
    assert trio.current_time() == 30
    assert (crew.resting, diary.done) == (0, ["one", "two"])


async def test_each_is_cancelled_at_its_own_deadline_wherever_it_was_moved(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended: dict[str, float] = {}

    async def wait(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended[name] = trio.current_time()

    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        moved_on = crew.begin(5, wait, "moved on")
        moved_forth = crew.begin(math.inf, wait, "moved forth")
        crew.begin(7, wait, "left alone")
        crew.begin(0, wait, "too late")
        never = crew.begin(math.inf, wait, "never")
        await trio.sleep(1)
        moved_on.end_at(9)
        moved_forth.end_at(2)
        await trio.sleep(20)
        assert not never.cancel_called
        assert moved_on.cancel_called
        never.end_at(25)
        crew.begin(23, wait, "another")
    assert ended == {"too late": 0, "moved forth": 2, "left alone": 7, "moved on": 9, "another": 23, "never": 25}


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_begun_and_moved_ends_when_it_should(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    chance = random.Random(seed)
    ended: list[float] = []
    wanted: list[float] = []

    async def one(crew: Crew) -> None:
        await trio.sleep(chance.randrange(40))
        began, needs, number = trio.current_time(), chance.randrange(1, 20) + 0.5, len(ended)
        deadline = began + chance.choice([1, 3, 10, 30, math.inf])
        ended.append(math.nan)
        wanted.append(min(began + needs, deadline))

        async def work() -> None:
            try:
                await trio.sleep(needs)
            finally:
                ended[number] = trio.current_time()

        place = crew.begin(deadline, work)
        if chance.random() < 0.5:
            await trio.sleep(chance.randrange(5) + 0.25)
            if math.isnan(ended[number]):  # else it is somebody else's
                moved = trio.current_time() + chance.choice([0, 1, 2, 5, 20, math.inf])
                place.end_at(moved)
                wanted[number] = min(began + needs, moved)

    async with trio.open_nursery() as nursery:
        crew = Crew(nursery, most_resting=3)
        for _ in range(40):
            nursery.start_soon(one, crew)
        await trio.sleep(1000)
        crew.close()
    assert ended == wanted


async def test_the_row_of_deadlines_is_no_longer_than_the_tasks_are_many(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery, most_resting=0)
        for _ in range(1000):
            crew.begin(1e6, trio.lowlevel.checkpoint)
            await trio.testing.wait_all_tasks_blocked()
            crew.begin(2e6, trio.sleep, 1)
            await trio.sleep(0.5)
            assert len(crew._row) <= 100
    assert trio.current_time() < 1e6


async def test_who_takes_time_to_end_keeps_nobody_busy(autojump_clock: trio.testing.MockClock) -> None:
    async def unwind() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        Crew(nursery).begin(5, unwind)
    assert trio.current_time() == 15


async def test_with_the_last_of_its_tasks_the_one_that_keeps_deadlines_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    diary = Diary()
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        crew.begin(1000, diary.sleep, "one", 1)
        await trio.sleep(2)
        crew.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        crew.begin(1000, diary.sleep, "another", 1)
        crew.begin(4, diary.sleep, "a third", 10)
    assert (diary.done, diary.cancelled) == (["one", "another"], ["a third"])
    assert trio.current_time() == 4


async def test_side_by_side_each_has_its_own_task_and_few_rest(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()
    async with trio.open_nursery() as nursery:
        crew = Crew(nursery, most_resting=2)
        places = {crew.begin(100, diary.sleep, str(number), 1) for number in range(3)}
        assert len(places) == 3
        await trio.sleep(2)
        assert len(set(diary.tasks)) == 3
        assert crew.resting == 2
        assert len(nursery.child_tasks) == 3  # and one that keeps their deadlines


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
        place.cancel()

    async with trio.open_nursery() as nursery:
        crew = Crew(nursery)
        place = crew.begin(20, ends_itself)
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
