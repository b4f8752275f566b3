"""What takes too long is given up in time, and nothing else is."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from aiorchd.providers.transport.watch import Watch


class One:
    """Remembers when it was given up."""

    def __init__(self) -> None:
        self.expired_at: list[float] = []

    def expire(self) -> None:
        self.expired_at.append(trio.current_time())


async def test_each_is_given_up_at_its_end_and_not_after_it(autojump_clock: MockClock) -> None:
    watch, ones = Watch(), [One() for _ in range(4)]
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        watch.begin(ones[0], 10.0)
        await trio.sleep(1)
        watch.begin(ones[1], 10.0)
        watch.begin(ones[2], 2.0)  # sooner than who came before
        watch.begin(ones[3], 10.0)
        await trio.sleep(4)
        watch.end(ones[1], 10.0)
        watch.end(ones[2], 2.0)  # long ago: nothing more happens
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert [[at - began for at in one.expired_at] for one in ones] == [
        [pytest.approx(10.0)],
        [],
        [pytest.approx(3.0)],
        [pytest.approx(11.0)],
    ]
    assert not watch._rows


async def test_one_that_begins_anew_gets_its_time_from_then(autojump_clock: MockClock) -> None:
    watch, one = Watch(), One()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        watch.begin(one, 5.0)
        for _ in range(3):
            await trio.sleep(4)
            watch.end(one, 5.0)
            watch.begin(one, 5.0)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert one.expired_at == [pytest.approx(began + 17.0)]
