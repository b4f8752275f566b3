"""Money: unknown is never zero."""

from __future__ import annotations

import pytest

from aiorchd.calls.reply import Usage
from aiorchd.calls.target import Price, Tier
from aiorchd.providers.pricing import cost_usd

TIERED = Price(
    1,
    10,
    0.1,
    tiers=(Tier(200_000, input_usd_per_1m=2.5, cache_read_usd_per_1m=0.25), Tier(500_000, 10, 20)),
)


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        (None, Price(1, 2), None),
        (Usage(1_000_000, 0, 0, 0, 0), Price(0.15, 0.6), 0.15),
        (Usage(1_000_000, 0, 0, 500_000, 500_000), Price(0.15, 0.6), 0.75),
        (Usage(0, 1_000_000, 0, 0, 0), Price(0.15, 0.6, 0.075), 0.075),
        (Usage(0, 1_000_000, 0, 0, 0), Price(0.15, 0.6), 0.15),
        (Usage(0, 0, 1_000_000, 0, 0), Price(0.15, 0.6), None),
        (Usage(0, 0, 1_000_000, 0, 0), Price(0.15, 0.6, None, 0.2), 0.2),
        (Usage(10, 0, 0, 10, 0), Price(), None),
        (Usage(10, 0, 0, 10, 0), Price(0.15), None),
        (Usage(10, 0, 0, 10, 0), Price(None, 0.6), None),
        (Usage(1_000_000, 0, 0, 0, 0), Price(0.15), 0.15),
        (Usage(0, 0, 0, 0, 0), Price(), None),
        (Usage(0, 0, 0, 0, 0), Price(0.15, 0.6), 0),
        (Usage(1_000_000, 0, 0, 5, 0), Price(0, 0), 0),
        (Usage(0, 0, 1_000_000, 0, 0, cache_write_1h=400_000), Price(3, 15, 0.3, 3.75, 6), 4.65),
        (Usage(0, 0, 1_000_000, 0, 0, cache_write_1h=1), Price(3, 15, 0.3, 3.75), None),
        (Usage(200_000, 0, 0, 10_000, 0), TIERED, 0.3),
        (Usage(200_001, 0, 0, 10_000, 0), TIERED, 0.6000025),
        (Usage(100_001, 100_000, 0, 10_000, 0), TIERED, 0.3750025),
        (Usage(600_000, 0, 0, 10_000, 0), TIERED, 6.2),
    ],
)
def test_costs(usage: Usage | None, price: Price, cost: float | None) -> None:
    assert cost_usd(usage, price) == (cost if cost is None else pytest.approx(cost))
