"""Dotted paths into an input."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.config import operations
from aiorchd.core.input_paths import ANY, DEEP, PathError, find_at, is_plain, matches, parse_path, written


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("input.a", ("a",)),
        ("input.a.b-c", ("a", "b-c")),
        ("input[0].x", (0, "x")),
        ("input.l[*].x", ("l", ANY, "x")),
        ("input.*.x", (ANY, "x")),
        ("input.**.x", (DEEP, "x")),
        ('input["a b"].c', ("a b", "c")),
    ],
)
def test_paths_that_are_read(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path
    assert re.fullmatch(operations._PATH, text)


@pytest.mark.parametrize(
    "text", ["", "input", "a.b", "input.", "input..a", "input[x]", "input.a b", "inputs.a", "input[-1]"]
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(PathError):
        parse_path(text)
    assert not re.fullmatch(operations._PATH, text)


@given(
    st.lists(
        st.text(min_size=1).filter(lambda name: name not in (ANY, DEEP)) | st.integers(0, 999), min_size=1, max_size=5
    )
)
def test_what_is_written_can_be_read(steps: list[str | int]) -> None:
    assert parse_path(written(steps)) == tuple(steps)


def test_what_a_path_means() -> None:
    assert matches(("a", ANY, "b"), ("a", 3, "b"))
    assert not matches(("a", ANY, "b"), ("a", 3, 4, "b"))
    assert matches((DEEP, "b"), ("b",))
    assert matches((DEEP, "b"), ("a", 3, 4, "b"))
    assert not matches((DEEP, "b"), ("a", "b", "c"))
    assert is_plain(("a", 1))
    assert not is_plain(("a", DEEP))
    assert find_at({"a": [{"b": None}]}, ("a", 0, "b")) == (True, None)
    assert find_at({"a": [{}]}, ("a", 0, "b")) == (False, None)
    assert find_at({"a": [{}]}, ("a", 1)) == (False, None)
    assert find_at({"a": "text"}, ("a", 1)) == (False, None)
