"""One model at one provider: what an attempt is sent to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; None where unknown, and then every cost made with it is unknown too."""

    input_usd_per_1m: float | None = None
    output_usd_per_1m: float | None = None
    cache_read_usd_per_1m: float | None = None
    cache_write_usd_per_1m: float | None = None


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
    simulated: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
