"""Who waits until something is on the disk, and is told whether it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import trio

from aiorch.errors import StorageError
from aiorchd.store.writer import Waker


@dataclass(slots=True, eq=False, kw_only=True)
class Waiting:
    """One that waits; ``error`` is why it is not on the disk, once that is settled."""

    settled: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None


WaitingT = TypeVar("WaitingT", bound=Waiting)


class LineToDisk(Generic[WaitingT]):
    """At most ``most`` wait; the next round of ``writer`` takes all of them."""

    def __init__(self, writer: Waker, most: int, what: str) -> None:
        self._writer: Final = writer
        self._most: Final = most
        self._what: Final = what
        self._line: list[WaitingT] = []
        self._under_way = 0

    def __len__(self) -> int:
        """How many wait, those of a round under way among them."""
        return len(self._line) + self._under_way

    @property
    def begun(self) -> bool:
        """Whether anybody waits for the next round."""
        return bool(self._line)

    @property
    def full(self) -> bool:
        """Whether nobody more may wait."""
        return len(self._line) >= self._most

    async def wait(self, waiting: WaitingT) -> None:
        """Wait until it is settled; raises `StorageError` when too many do, and else what it was settled with. Cancelling does
        not wait for the round that it is in."""
        if self.full:
            raise StorageError(f"too many {self._what} wait for the disk", retry_after_s=1.0, stage="store")
        self._line.append(waiting)
        self._writer.wake(hurry=True)
        try:
            await waiting.settled.wait()
        except trio.Cancelled:
            if waiting in self._line:
                self._line.remove(waiting)
            raise
        if waiting.error is not None:
            raise waiting.error

    def take(self) -> list[WaitingT]:
        """Hand over who waits to a round."""
        taken, self._line = self._line, []
        self._under_way = len(taken)
        return taken

    def settle(self, taken: list[WaitingT]) -> None:
        """The round is over: wake all."""
        self._under_way = 0
        for each in taken:
            each.settled.set()
