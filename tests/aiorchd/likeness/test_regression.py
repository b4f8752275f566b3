"""The fit: it finds what made the labels, and no column can break it."""

from __future__ import annotations

import random
from array import array

import pytest

from aiorchd.core.semantic_model import FEATURES, Weights
from aiorchd.likeness import regression


def fit(data: list[tuple[float, ...]], labels: list[bool]) -> Weights:
    return regression.fit(array("f", [value for row in data for value in row]).tobytes(), bytes(labels))


def rows(count: int, seed: int = 1) -> list[tuple[float, ...]]:
    rng = random.Random(seed)
    return [tuple(rng.gauss(0, 1) for _ in range(FEATURES)) for _ in range(count)]


def test_what_made_the_labels_is_found() -> None:
    data = rows(2000)
    labels = [row[0] - 0.5 * row[3] + 0.2 > 0 for row in data]
    found = fit(data, labels)
    fresh = rows(500, seed=2)
    right = sum((found.probability(row) > 0.5) == (row[0] - 0.5 * row[3] + 0.2 > 0) for row in fresh)
    assert right > 475


@pytest.mark.parametrize("label", [True, False])
def test_equal_labels_and_constant_columns_are_no_trouble(label: bool) -> None:
    data = [(1.0,) * FEATURES for _ in range(200)]
    found = fit(data, [label] * 200)
    assert (found.probability(data[0]) > 0.5) is label


def test_one_column_that_runs_away_is_clipped() -> None:
    data = [(*row[:-1], 1e9 if number == 0 else 0.0) for number, row in enumerate(rows(400))]
    labels = [row[0] > 0 for row in data]
    found = fit(data, labels)
    assert all(abs(weight) < 50 for weight in found.weights)
