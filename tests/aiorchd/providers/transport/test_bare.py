"""Cancelled is cancelled, whatever was cancelled inside."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from aiorchd.providers.transport.bare import bare_cancellation


async def _in_nurseries() -> None:
    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        outer.start_soon(trio.sleep_forever)
        inner.start_soon(trio.sleep_forever)
        await trio.sleep_forever()


async def test_a_cancellation_is_taken_out_of_its_groups() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.Cancelled), bare_cancellation():
            await _in_nurseries()
        await trio.lowlevel.checkpoint()  # and it goes on
    assert scope.cancelled_caught


async def test_what_is_more_than_a_cancellation_stays_in_its_group() -> None:
    async def breaks() -> None:
        raise OSError("broken")

    with pytest.raises(BaseExceptionGroup), bare_cancellation():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(breaks)
            await trio.sleep_forever()
