"""One model at one provider: what an attempt is sent to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Tier:
    """What is paid instead for the whole request when its prompt has more than ``above_tokens``; None: as without it."""

    above_tokens: int
    input_usd_per_1m: float | None = None
    output_usd_per_1m: float | None = None
    cache_read_usd_per_1m: float | None = None
    cache_write_usd_per_1m: float | None = None
    cache_write_1h_usd_per_1m: float | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; None where unknown, and then every cost made with it is unknown too.

    ``cache_write`` is what providers keep for minutes, ``cache_write_1h`` what they keep for an hour. ``tiers`` go up.
    ``source`` tells a person where the price comes from: ``configuration``, a table, or nothing when it is unknown.
    """

    input_usd_per_1m: float | None = None
    output_usd_per_1m: float | None = None
    cache_read_usd_per_1m: float | None = None
    cache_write_usd_per_1m: float | None = None
    cache_write_1h_usd_per_1m: float | None = None
    tiers: tuple[Tier, ...] = ()
    source: str = ""

    @property
    def known(self) -> bool:
        """Whether a call that touches no cache has a known cost, whatever it answers."""
        return self.input_usd_per_1m is not None and self.output_usd_per_1m is not None

    @property
    def free(self) -> bool:
        """Whether it is known that nothing is ever paid."""
        parts = (self.cache_read_usd_per_1m, self.cache_write_usd_per_1m, self.cache_write_1h_usd_per_1m)
        return (
            self.input_usd_per_1m == 0 and self.output_usd_per_1m == 0 and not any(map(bool, parts)) and not self.tiers
        )

    def for_prompt(self, tokens: int) -> Price:
        """Give the price of a request whose prompt has so many tokens, cached ones included: one without tiers."""
        if not self.tiers:
            return self
        rates = {name: getattr(self, name) for name in _RATES}
        for tier in self.tiers:
            if tokens > tier.above_tokens:
                rates |= {name: rate for name in _RATES if (rate := getattr(tier, name)) is not None}
        return Price(**rates, source=self.source)


_RATES: Final = (
    "input_usd_per_1m",
    "output_usd_per_1m",
    "cache_read_usd_per_1m",
    "cache_write_usd_per_1m",
    "cache_write_1h_usd_per_1m",
)


@dataclass(frozen=True, slots=True)
class ListedModel:
    """What a table of prices says of a model; ``context_tokens`` is None where it does not say."""

    price: Price
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A model as the configuration describes it. ``name`` is what callers say, ``provider_model`` what the provider says.

    ``address`` identifies where answers come from (dialect and base URL; never a key); it is part of the cache key.
    """

    name: str
    provider: str
    dialect: str
    provider_model: str
    address: str
    price: Price = Price()
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    """How long one answer may be at most; None where only the context bounds it, or nothing is known."""
    simulated: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
