"""One answer with its usage, cost and provenance.

What is kept of calls and answers is plain data without circles, so the garbage collector need not look through it
(``gc=False``, here and in all records like these).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from aiorchd.calls.bill import Bill

CacheOutcome: TypeAlias = Literal["miss", "exact", "normalised", "semantic", "stale", "coalesced"]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens in one normal form whose parts add up to the provider's total: input that was not cached, input read from
    and written to the provider's own prompt cache, output without reasoning, and reasoning. ``estimated`` marks counts
    that the provider did not report. ``cache_write_1h`` says how many of those written are kept for an hour, which costs
    more at some; it is part of ``cache_write``. Put in plain data it is what `to_wire` gives.
    """

    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    estimated: bool = False
    cache_write_1h: int = 0

    @property
    def total(self) -> int:
        """All tokens."""
        return self.input + self.cache_read + self.cache_write + self.output + self.reasoning

    def plus(self, other: Usage) -> Usage:
        """Add up."""
        return Usage(
            input=self.input + other.input,
            cache_read=self.cache_read + other.cache_read,
            cache_write=self.cache_write + other.cache_write,
            output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
            estimated=self.estimated or other.estimated,
            cache_write_1h=self.cache_write_1h + other.cache_write_1h,
        )

    def to_wire(self) -> dict[str, Any]:
        """Give the plain map of the reply."""
        wire: dict[str, Any] = {
            "input": self.input,
            "cache_read": self.cache_read,
            "cache_write": self.cache_write,
            "output": self.output,
            "reasoning": self.reasoning,
        }
        if self.cache_write_1h:
            wire["cache_write_1h"] = self.cache_write_1h
        if self.estimated:
            wire["estimated"] = True
        return wire


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What came back, before it is addressed to one caller.

    ``text`` is ``""`` when there is none; ``data`` is parsed when JSON or a schema was asked for; ``tool_calls`` has
    OpenAI's shape; ``vectors`` (embeddings only) are little-endian float32. ``cost_usd`` is what the answer cost,
    None when its price or usage is unknown or an estimate; attempts beside it of which nobody said what they cost are not in
    it: ``bill`` has them, None where no attempt was made for this caller. ``extra`` holds fields of the provider that have no
    name here, passed on untouched. ``validation`` tells how the answer was checked.
    Providers see to it that ``tool_calls`` and ``extra`` hold nothing that MessagePack cannot carry.
    """

    text: str = ""
    data: Any = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    model: str = ""
    provider: str = ""
    provider_model: str | None = None
    simulated: bool = False
    usage: Usage | None = None
    cost_usd: float | None = None
    vectors: tuple[bytes, ...] | None = None
    validation: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] | None = None
    # How this answer reached this caller; not part of what is stored.
    cache: CacheOutcome = "miss"
    saved_usd: float | None = 0.0
    source_id: str | None = None
    """On a hit or a shared flight: the call that made the answer."""
    age_s: float | None = None
    exact_key: bytes | None = None
    """The key of the question that it answered, where it is kept under that of the question without its noise."""
    saved_s: float | None = None
    """On a hit: how long the provider took for this answer; None when that is not known."""
    likeness: float | None = None
    """On a semantic hit: how alike the questions are, the cosine of their vectors."""
    confidence: float | None = None
    """On a semantic hit: the probability that the answer is right for this question."""
    batched: bool = False
    """Whether it was asked together with others: then usage and cost are its share of what the one call took."""
    attempts: int = 0
    bill: Bill | None = None
    queue_s: float = 0.0
    provider_s: float = 0.0


def with_cost_of(
    reply: Reply, *, usage: Usage | None, cost_usd: float | None, bill: Bill | None = None, attempts: int = 0
) -> Reply:
    """Add what was paid besides for an answer; unknown and something is unknown."""
    known = reply.cost_usd is not None and cost_usd is not None
    return msgspec.structs.replace(
        reply,
        cost_usd=(reply.cost_usd or 0.0) + (cost_usd or 0.0) if known else None,
        bill=None if reply.bill is None or bill is None else reply.bill.plus(bill),
        usage=None if reply.usage is None or usage is None else reply.usage.plus(usage),
        attempts=reply.attempts + attempts,
    )
