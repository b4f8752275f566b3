"""Parts add up to the whole: of tokens and of money, to the last digit."""

from __future__ import annotations

import math
import random

from hypothesis import example, given
from hypothesis import strategies as st

from aiorchd.core.shares import exact_shares, parts_of, whole_shares

WEIGHTS = st.lists(st.floats(0, 1e9), min_size=1, max_size=20)


@given(st.integers(0, 10**9), WEIGHTS)
def test_whole_numbers(total, weights):
    shares = whole_shares(total, weights)
    assert sum(shares) == total
    assert min(shares) >= 0
    whole = sum(weights)
    if whole > 1e-6:
        assert all(
            abs(share - total * weight / whole) <= 1.0 + 1e-6 * total
            for share, weight in zip(shares, weights, strict=True)
        )


@example(47587.0, [357913929.9036812, 357913947.9036812, 357913947.9036812, 1e-236], random.Random(1))
@given(st.floats(0, 1e6), WEIGHTS, st.randoms())
def test_money_in_whatever_order(total, weights, rng):
    shares = exact_shares(total, weights)
    assert min(shares) >= 0
    rng.shuffle(shares)
    added = 0.0
    for share in shares:
        added += share
    assert added == math.fsum(shares) == total


def test_what_is_nothing_or_not_known():
    assert exact_shares(0.0, [1, 2]) == [0.0, 0.0]
    assert exact_shares(math.nan, [1]) == [0.0]
    assert whole_shares(5, [0, 0]) == [3, 2]
    [one, other] = parts_of((10, 0), (4,), None, [1, 1], [1, 3])
    assert (one.inputs, one.outputs, one.cost, other.inputs, other.outputs) == ((5, 0), (1,), None, (5, 0), (3,))


def test_who_takes_more_pays_more():
    one, other = parts_of((100,), (100,), 0.03, [1, 3], [1, 1])
    assert (one.inputs, other.inputs) == ((25,), (75,))
    assert one.cost is not None
    assert other.cost is not None
    assert one.cost + other.cost == 0.03
    assert one.cost < other.cost


def test_where_nothing_was_counted_the_cost_goes_by_the_texts():
    one, other = parts_of((0,), (0,), 4.0, [1, 3], [0, 0])
    assert (one.cost, other.cost) == (1.0, 3.0)
