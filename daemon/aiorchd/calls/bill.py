"""What some attempts cost: what is known, of how many it is not known, and what these are counted as.

An attempt that was cut off (the slower one of two tries, a timeout, a broken stream) may have been billed, and nobody says
how much. It is neither 0 nor lost: what is known of the others stays known, and beside it stands the most that it can have
cost, which is what budgets count for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Bill(msgspec.Struct, frozen=True, gc=False):
    """``known_usd`` is the cost of those attempts whose cost is known, ``unknown`` the number of the others, and
    ``estimate_usd`` what these are counted as together, beside ``known_usd``; None when that is not known either."""

    known_usd: float = 0.0
    unknown: int = 0
    estimate_usd: float | None = 0.0

    @classmethod
    def of(cls, costs: Iterable[tuple[float | None, float | None]]) -> Bill:
        """Add up attempts, each as what it cost, None when that is unknown, and what it is counted as then."""
        known_usd, unknown = 0.0, 0
        estimate_usd: float | None = 0.0
        for cost_usd, counted_usd in costs:
            if cost_usd is not None:
                known_usd += cost_usd
            else:
                unknown += 1
                estimate_usd = None if estimate_usd is None or counted_usd is None else estimate_usd + counted_usd
        return cls(known_usd, unknown, estimate_usd)

    @property
    def cost_usd(self) -> float | None:
        """What all of them cost; None when it is unknown of one."""
        return None if self.unknown else self.known_usd

    def plus(self, other: Bill) -> Bill:
        """Add those of another one."""
        mine, theirs = self.estimate_usd, other.estimate_usd
        return Bill(
            self.known_usd + other.known_usd,
            self.unknown + other.unknown,
            None if mine is None or theirs is None else mine + theirs,
        )

    def to_wire(self) -> dict[str, Any]:
        """Give the fields of a reply: ``cost_usd``, and where it is unknown what there is beside it."""
        if not self.unknown:
            return {"cost_usd": self.known_usd}
        return {
            "cost_usd": None,
            "cost_known_usd": self.known_usd,
            "cost_unknown_attempts": self.unknown,
            "cost_estimate_usd": self.estimate_usd,
        }
