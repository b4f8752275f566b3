"""Money: unknown is never zero."""

from __future__ import annotations

import pytest

from aiorchd.calls.reply import Usage
from aiorchd.calls.target import Price
from aiorchd.providers.pricing import cost_usd


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
    ],
)
def test_costs(usage: Usage | None, price: Price, cost: float | None) -> None:
    assert cost_usd(usage, price) == (cost if cost is None else pytest.approx(cost))
