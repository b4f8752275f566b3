"""Who waits for the disk: all of one round together, those who leave in time not at all."""

from __future__ import annotations

import pytest
import trio
from store_values import StillWriter
from trio.testing import wait_all_tasks_blocked

from aiorch.errors import StorageError
from aiorchd.store.line_to_disk import LineToDisk, Waiting


async def test_a_round_takes_all_and_settles_each() -> None:
    line: LineToDisk[Waiting] = LineToDisk(StillWriter(), 2, "changes")
    ended: list[str] = []

    async def wait(name: str, waiting: Waiting) -> None:
        try:
            await line.wait(waiting)
        except StorageError as error:
            ended.append(f"{name}: {error.message}")
        else:
            ended.append(name)

    async with trio.open_nursery() as nursery:
        good, bad = Waiting(), Waiting()
        nursery.start_soon(wait, "good", good)
        nursery.start_soon(wait, "bad", bad)
        await wait_all_tasks_blocked()
        with pytest.raises(StorageError, match="too many changes wait for the disk"):
            await line.wait(Waiting())
        taken = line.take()
        assert (len(taken), len(line), line.begun, line.full) == (2, 2, False, False)
        bad.error = StorageError("full")
        line.settle(taken)
    assert sorted(ended) == ["bad: full", "good"]
    assert len(line) == 0


async def test_who_leaves_before_the_round_is_not_in_it() -> None:
    line: LineToDisk[Waiting] = LineToDisk(StillWriter(), 2, "changes")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.wait, Waiting())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (line.begun, line.take()) == (False, [])
