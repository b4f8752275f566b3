"""Places for requests under way: in turn, and none lost when who waits is cancelled or their number changes."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from aiorchd.providers.transport.places import Places


async def test_who_comes_beyond_waits_in_turn() -> None:
    places, came = Places(1), []

    async def come(name: str) -> None:
        await places.take()
        came.append(name)

    assert places.take_free()
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(come, name)
            await wait_all_tasks_blocked()
        assert (places.taken, places.waiting) == (1, 3)
        for _ in "abc":
            places.leave()
            assert not places.take_free()  # it is somebody else's turn
            await wait_all_tasks_blocked()
    assert came == ["a", "b", "c"]
    places.leave()
    assert (places.taken, places.waiting) == (0, 0)


async def test_who_is_cancelled_while_waiting_has_taken_none() -> None:
    places = Places(1)
    assert places.take_free()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(places.take)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (places.taken, places.waiting) == (1, 0)
    places.leave()
    assert places.take_free()


async def test_more_places_let_in_who_waits_and_fewer_take_none_away() -> None:
    places = Places(1)
    await places.take()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(places.take)
        await wait_all_tasks_blocked()
        places.resize(3)
        await wait_all_tasks_blocked()
        assert (places.taken, places.waiting) == (3, 1)
        places.resize(1)
        places.leave()
        places.leave()
        await wait_all_tasks_blocked()
        assert (places.taken, places.waiting) == (1, 1)
        places.leave()
    assert (places.taken, places.waiting) == (1, 0)
