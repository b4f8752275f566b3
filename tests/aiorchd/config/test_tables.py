"""Tables laid over each other, without changing what was handed in."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from aiorchd.config.tables import laid_over, paths_of, with_value

TABLES: dict[str, Any] = {"a": {"x": 1, "t": {"p": 1}}, "m": [{"name": "one"}, {"name": "two"}], "top": 5}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("a", "x"), {"a": {"x": 9, "t": {"p": 1}}}),
        (("a", "t", "q"), {"a": {"x": 1, "t": {"p": 1, "q": 9}}}),
        (("b", "y"), {"b": {"y": 9}}),
        (("top",), {"top": 9}),
        (("m", 1, "id"), {"m": [{"name": "one"}, {"name": "two", "id": 9}]}),
        (("m", 0, "extra", "k"), {"m": [{"name": "one", "extra": {"k": 9}}, {"name": "two"}]}),
    ],
)
def test_one_value_is_set(path: tuple[str | int, ...], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(TABLES)
    assert with_value(TABLES, path, 9) == {**TABLES, **expected}
    assert before == TABLES


@pytest.mark.parametrize("path", [("top", "x"), ("a", "x", "y"), ("m", 2, "id"), ("m", 0), ("m", "one", "id")])
def test_nothing_is_set_where_something_else_stands(path: tuple[str | int, ...]) -> None:
    before = copy.deepcopy(TABLES)
    assert with_value(TABLES, path, 9) is None
    assert before == TABLES


def test_sections_are_merged_and_everything_else_is_replaced() -> None:
    upper = {"a": {"x": 2, "y": 3}, "m": [], "new": {"z": 1}, "top": {"not": "a number"}}
    before = copy.deepcopy(TABLES)
    assert laid_over(TABLES, upper) == {
        "a": {"x": 2, "t": {"p": 1}, "y": 3},
        "m": [],
        "new": {"z": 1},
        "top": {"not": "a number"},
    }
    assert before == TABLES


def test_paths() -> None:
    assert paths_of(TABLES) == [("a", "x"), ("a", "t"), ("m",), ("top",)]
