"""Large messages that come in part, over all connections: bounded, in turn, and nobody waits for ever."""

from __future__ import annotations

import trio
import trio.testing

from aiorch.protocol import SMALL_FRAME_BYTES
from aiorchd.doors.intake import Intake

LARGE = SMALL_FRAME_BYTES + 1


async def gets_a_turn(intake: Intake, holder: str) -> bool:
    with trio.move_on_after(1):
        await intake.turn(holder)
        return True
    return False


async def test_little_needs_no_place(autojump_clock: trio.testing.MockClock) -> None:
    intake = Intake(lambda: 0)
    for number in range(100):
        intake.hold(str(number), SMALL_FRAME_BYTES)
        assert await gets_a_turn(intake, str(number))
    assert intake.held_bytes == 0


async def test_who_began_first_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    intake = Intake(lambda: 2 * LARGE)
    for holder in "abc":
        intake.hold(holder, LARGE)
    assert intake.held_bytes == 3 * LARGE
    assert [await gets_a_turn(intake, holder) for holder in "abc"] == [True, False, False]
    intake.hold("a", 5 * LARGE)
    assert [await gets_a_turn(intake, holder) for holder in "abc"] == [True, False, False]
    intake.hold("a", 0)
    assert [await gets_a_turn(intake, holder) for holder in "bc"] == [True, True]
    intake.hold("b", 0)
    intake.hold("c", 10)
    intake.hold("never there", 0)
    assert intake.held_bytes == 0


async def test_those_who_wait_come_in_when_there_is_room(autojump_clock: trio.testing.MockClock) -> None:
    intake = Intake(lambda: LARGE)
    intake.hold("a", LARGE)
    intake.hold("b", LARGE)
    came: list[str] = []

    async def wait(holder: str) -> None:
        await intake.turn(holder)
        came.append(holder)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert came == []
        intake.hold("a", 0)
        await trio.testing.wait_all_tasks_blocked()
        assert came == ["b"]
