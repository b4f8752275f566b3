"""Pipelines come and go with configurations: build, swap, retire.

A new generation is built completely before anything changes; if that fails, the error comes out of `replace` and the old
one goes on. The swap is one assignment. Calls lease the pipeline they began with, and a retired one is closed after its
last call has left, by its own host task, so that its stages can finish what they hold.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

PipelineT = TypeVar("PipelineT")
PlanT = TypeVar("PlanT")


@dataclass(frozen=True, slots=True)
class GenerationStatistics:
    """The number of the generation in force, calls that lease it, and older generations not yet left by their calls."""

    number: int
    leases: int
    retiring: int


class _Generation(Generic[PipelineT]):
    __slots__ = ("leases", "left", "number", "pipeline", "retired")

    def __init__(self, number: int, pipeline: PipelineT) -> None:
        self.number = number
        self.pipeline = pipeline
        self.leases = 0
        self.retired = False
        self.left = trio.Event()

    def retire(self) -> None:
        self.retired = True
        if not self.leases:
            self.left.set()


def _leave_alone(pipeline: object) -> None:
    """Let what is retired end by itself."""


class _Lease(Generic[PipelineT]):
    """A class and not a generator: one is taken for every call."""

    __slots__ = ("_generation",)

    def __init__(self, generation: _Generation[PipelineT]) -> None:
        self._generation = generation

    def __enter__(self) -> PipelineT:
        self._generation.leases += 1
        return self._generation.pipeline

    def __exit__(self, *_: object) -> None:
        generation = self._generation
        generation.leases -= 1
        if generation.retired and not generation.leases:
            generation.left.set()


class Generations(Generic[PlanT, PipelineT]):
    """The pipeline in force and its predecessors. ``open_pipeline`` builds one from a plan as an async context,
    and ``on_retire`` is told when no new calls will come to one."""

    def __init__(
        self,
        open_pipeline: Callable[[PlanT], AbstractAsyncContextManager[PipelineT]],
        nursery: trio.Nursery,
        *,
        on_retire: Callable[[PipelineT], None] = _leave_alone,
    ) -> None:
        self._open_pipeline = open_pipeline
        self._on_retire = on_retire
        self._nursery = nursery
        self._replacing = trio.Lock()
        self._number = 0
        self._current: _Generation[PipelineT] | None = None
        self._retiring = 0

    @property
    def current(self) -> PipelineT:
        """The pipeline in force. Only for work that does not wait; whatever waits takes a lease."""
        if self._current is None:
            raise RuntimeError("no generation yet: await replace() first")
        return self._current.pipeline

    def lease(self) -> _Lease[PipelineT]:
        """Hold the pipeline in force open for the length of one call, which is a ``with`` block."""
        if self._current is None:
            raise RuntimeError("no generation yet: await replace() first")
        return _Lease(self._current)

    async def replace(self, plan: PlanT) -> int:
        """Build a generation from ``plan`` and put it in force; returns its number. A failed build changes nothing."""
        async with self._replacing:
            built: _Generation[PipelineT] = await self._nursery.start(self._host, plan)
            old, self._current = self._current, built
            self._number = built.number
            if old is not None:
                self._retiring += 1
                old.retire()
                self._on_retire(old.pipeline)
            return built.number

    def close(self) -> None:
        """Retire the generation in force: its host ends after its last call, and no calls may come any more."""
        if self._current is not None and not self._current.retired:
            self._retiring += 1
            self._current.retire()
            self._on_retire(self._current.pipeline)

    def statistics(self) -> GenerationStatistics:
        """Tell what is in force."""
        current = self._current
        return GenerationStatistics(self._number, current.leases if current is not None else 0, self._retiring)

    async def _host(self, plan: PlanT, task_status: trio.TaskStatus[_Generation[PipelineT]]) -> None:
        async with self._open_pipeline(plan) as pipeline:
            generation = _Generation(self._number + 1, pipeline)
            task_status.started(generation)
            await generation.left.wait()
        self._retiring -= 1
