"""Build, swap, retire: calls keep the pipeline they began with, and a failed build changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aiorchd.runtime.generations import Generations


class Opened:
    """Remembers which pipelines were opened and closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    @asynccontextmanager
    async def open(self, plan: str) -> AsyncIterator[str]:
        if plan == "broken":
            raise ValueError("cannot be built")
        yield f"pipeline of {plan}"
        await trio.lowlevel.checkpoint()
        self.closed.append(plan)


async def test_calls_finish_on_the_pipeline_they_began_with() -> None:
    opened = Opened()
    async with trio.open_nursery() as nursery:
        generations: Generations[str, str] = Generations(opened.open, nursery)
        assert await generations.replace("one") == 1
        with generations.lease() as mine:
            assert await generations.replace("two") == 2
            assert (mine, generations.current) == ("pipeline of one", "pipeline of two")
            await trio.testing.wait_all_tasks_blocked()
            assert opened.closed == []
            assert generations.statistics().retiring == 1
        await trio.testing.wait_all_tasks_blocked()
        assert opened.closed == ["one"]
        assert generations.statistics().retiring == 0
        generations.close()
    assert opened.closed == ["one", "two"]


async def test_a_failed_build_comes_out_plainly_and_changes_nothing() -> None:
    async with trio.open_nursery() as nursery:
        generations: Generations[str, str] = Generations(Opened().open, nursery)
        await generations.replace("one")
        with pytest.raises(ValueError, match="cannot be built"):
            await generations.replace("broken")
        assert generations.current == "pipeline of one"
        assert generations.statistics().number == 1
        assert await generations.replace("two") == 2
        generations.close()


async def test_an_unused_generation_goes_at_once_and_closing_waits_for_the_last_call() -> None:
    opened = Opened()
    async with trio.open_nursery() as nursery:
        generations: Generations[str, str] = Generations(opened.open, nursery)
        await generations.replace("one")
        await generations.replace("two")
        await trio.testing.wait_all_tasks_blocked()
        assert opened.closed == ["one"]
        with generations.lease():
            generations.close()
            await trio.testing.wait_all_tasks_blocked()
            assert opened.closed == ["one"]


async def test_before_the_first_there_is_nothing_to_lease() -> None:
    async with trio.open_nursery() as nursery:
        generations: Generations[str, str] = Generations(Opened().open, nursery)
        with pytest.raises(RuntimeError), generations.lease():
            pass
        with pytest.raises(RuntimeError):
            _ = generations.current
        generations.close()
