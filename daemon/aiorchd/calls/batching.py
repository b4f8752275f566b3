"""Questions that are asked together: what they must have in common, and what is known of asking them so, as protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from aiorchd.calls.reply import Usage

Compared: TypeAlias = Literal["agreed", "batch_odd", "single_odd", "all_differ"]
"""What came of asking an item alone, too; see `core.batch_size`."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchScope:
    """What is known of a question that may be asked together with others. ``key`` is equal for those that may be; ``text`` is
    what is its own: its prompt. ``schema`` is that of the whole answer, and ``structured`` tells whether a single one is JSON.
    ``context_tokens`` and ``output_tokens`` bound what the model takes and gives, None where that is not known; ``max_tokens``
    is how long one answer may be, None where nobody says. ``free`` tells whether the model could be asked at once."""

    key: bytes
    operation: str
    model: str
    text: str
    system: str | None
    structured: bool
    schema: Mapping[str, Any]
    most: int
    max_wait_s: float
    context_tokens: int | None
    output_tokens: int | None
    max_tokens: int | None
    free: Callable[[], bool]


class BatchLearned(Protocol):
    """What is known of asking questions of one operation and model together; see `runtime.batch_memory.Learned`."""

    @property
    def usual_s(self) -> float:
        """How long a batch takes."""
        ...

    @property
    def answer_tokens(self) -> float | None:
        """How long one answer is."""
        ...

    def allowed(self, most: int) -> int:
        """Give how many may be asked together."""
        ...

    def checks(self, items: int) -> int:
        """Say how many items are to be asked alone, too."""
        ...

    def checked(self, outcome: Compared, items: int) -> None:
        """An item was compared."""
        ...

    def departed(self, *, items: int, questions: int, why: str) -> None:
        """A batch left."""
        ...

    def answered(self, *, items: int, took_s: float, usage: Usage | None, cost_usd: float | None) -> None:
        """A batch was answered."""
        ...

    def abandoned(self, after_s: float) -> None:
        """Everybody left it before it was answered."""
        ...

    def too_slow(self) -> None:
        """A question has little time for what a batch takes."""
        ...

    def taken_apart(self, *, items: int, wrong: Mapping[str, str], extra: int) -> None:
        """Its answer was taken apart."""
        ...

    def broke(self, kind: str, *, items: int) -> None:
        """A whole batch was of no use."""
        ...

    def asked_alone(self, why: str, *, too_small: bool = False) -> None:
        """A question goes by itself."""
        ...

    def single(self, usage: Usage | None, cost_usd: float | None) -> None:
        """A question was answered by itself."""
        ...

    def besides(self, usage: Usage | None, cost_usd: float | None, *, again: bool = False) -> None:
        """A question of a batch was asked by itself, too."""
        ...


class ArrivalPauses(Protocol):
    """How fast questions come; see `core.batch_departure.Pauses`."""

    def came(self, now: float) -> None:
        """A question came."""
        ...

    def expected_until(self, now: float, until: float, usual_s: float) -> float:
        """Give the moment from which on nothing is expected any more."""
        ...


class BatchMemory(Protocol):
    """All that is known; see `runtime.batch_memory.BatchMemory`."""

    def of(self, operation: str, model: str) -> BatchLearned:
        """Find what is known of an operation and model."""
        ...

    def pauses(self, group: bytes) -> ArrivalPauses:
        """Find how fast questions come that may be asked together."""
        ...
