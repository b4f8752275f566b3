"""Dividing what several caused together, so that the parts add up to the whole exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_OUTPUT_PRICE: Final = 4
"""About so many tokens of a prompt cost what one of an answer does."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is one's own of several counts of a prompt and of an answer, and of a cost; None where that is not known."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    cost: float | None


def parts_of(
    inputs: Sequence[int], outputs: Sequence[int], cost: float | None, asked: Sequence[float], answered: Sequence[float]
) -> list[Part]:
    """Divide what one call took between those who shared it; the parts add up to the whole exactly. ``asked`` and ``answered``
    are how much of the prompt and of the answer is each one's; the cost is divided by what falls to each."""
    inputs_of = list(zip(*(whole_shares(count, asked) for count in inputs), strict=True)) or [()] * len(asked)
    outputs_of = list(zip(*(whole_shares(count, answered) for count in outputs), strict=True)) or [()] * len(asked)
    weights = [sum(own) + _OUTPUT_PRICE * sum(other) for own, other in zip(inputs_of, outputs_of, strict=True)]
    if not any(weights):
        weights = [one + _OUTPUT_PRICE * other for one, other in zip(asked, answered, strict=True)]
    costs = [None] * len(asked) if cost is None else exact_shares(cost, weights)
    return [Part(*each) for each in zip(inputs_of, outputs_of, costs, strict=True)]


def whole_shares(total: int, weights: Sequence[float]) -> list[int]:
    """Divide a number into whole ones in proportion to the weights (largest remainder; Hamilton's method). Weights that are all
    0 count as equal."""
    whole = math.fsum(weights)
    parts = [weight / whole for weight in weights] if whole > 0 else [1.0 / len(weights)] * len(weights)
    shares = [int(total * part) for part in parts]
    order = sorted(range(len(parts)), key=lambda at: shares[at] - total * parts[at])
    left = total - sum(shares)
    for at in range(left):
        shares[order[at % len(order)]] += 1
    if left < 0:  # a total of sixteen digits and more was rounded up; the largest share bears that
        shares[shares.index(max(shares))] += left
    return shares


def exact_shares(total: float, weights: Sequence[float]) -> list[float]:
    """Divide an amount that is not negative into such whose sum is the amount, in whatever order they are added: each is a
    whole multiple of the last digit that the amount has in binary."""
    if not total > 0 or not math.isfinite(total):
        return [0.0] * len(weights)
    unit = math.ulp(total)
    return [share * unit for share in whole_shares(round(total / unit), weights)]
