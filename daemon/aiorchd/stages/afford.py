"""Refuses an attempt that cannot be paid for before it queues for its target: the outermost stage of each.

What it sees is only what is certain, from memory: that a budget is used up whatever the calls under way turn out to cost, or
that the call's own limit does not reach for this target. The router then asks the next target of the chain, which may be
cheaper, unless the budget says otherwise. `stages.spend` reserves when the attempt starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import Purse, Service
from aiorchd.calls.reply import Reply


@dataclass(frozen=True, slots=True)
class AffordStatistics:
    """Attempts inside now, and how many were refused since this stage was built."""

    inside: int
    refused: int


class Afford:
    """Refuse what cannot be paid for before it queues."""

    def __init__(self, inner: Service[Attempt], purse: Purse) -> None:
        self._inner = inner
        self._purse = purse
        self._inside = self._refused = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Ask unless that is in vain. Raises `BudgetExceeded` at once."""
        refusal = self._purse.refusal(attempt)
        if refusal is not None:
            self._refused += 1
            try:
                raise refusal
            finally:
                del refusal  # its traceback refers to this frame: no cycle that would keep the prompt
        self._inside += 1
        try:
            return await self._inner(attempt)
        finally:
            self._inside -= 1

    def statistics(self) -> AffordStatistics:
        """Tell who is inside."""
        return AffordStatistics(self._inside, self._refused)
