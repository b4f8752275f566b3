"""The clock of the daemon, under Trio itself."""

from __future__ import annotations

import time

import trio

from aiorchd.app.clock import MonotonicClock


def test_trio_sleeps_and_ends_by_it() -> None:
    async def main() -> tuple[float, float, bool]:
        assert trio.lowlevel.current_clock() is clock
        began = trio.current_time()
        await trio.sleep_until(began + 0.01)
        woke = trio.current_time()
        with trio.move_on_after(0.01) as scope:
            await trio.sleep_forever()
        return began, woke, scope.cancelled_caught

    clock = MonotonicClock()
    before = time.monotonic()
    began, woke, ended = trio.run(main, clock=clock)
    assert before <= began
    assert began + 0.01 <= woke <= time.monotonic() - 0.01
    assert ended


def test_a_deadline_that_has_passed_is_not_slept_for() -> None:
    clock = MonotonicClock()
    assert clock.deadline_to_sleep_time(clock.current_time() - 1.0) <= -1.0
    assert 0.0 < clock.deadline_to_sleep_time(clock.current_time() + 60.0) <= 60.0
