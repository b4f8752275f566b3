"""Anthropic's token counts: the parts add up, and nonsense is unknown instead of zero."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.calls.reply import Usage
from aiorchd.providers.anthropic.usage import read_usage


@pytest.mark.parametrize(
    "raw",
    [None, "x", {}, {"input_tokens": 5}, {"output_tokens": 5}, {"input_tokens": -1, "output_tokens": 5}, {"input_tokens": "5", "output_tokens": 1}],
)  # fmt: skip
def test_what_is_unknown(raw: Any) -> None:
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        ({}, Usage(5, 0, 0, 7, 0)),
        ({"cache_creation_input_tokens": None, "cache_read_input_tokens": None}, Usage(5, 0, 0, 7, 0)),
        ({"cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}}, Usage(5, 0, 7, 7, 0, cache_write_1h=4)),
        ({"cache_creation_input_tokens": 3, "cache_creation": {"ephemeral_1h_input_tokens": 4}}, Usage(5, 0, 3, 7, 0, cache_write_1h=3)),
        ({"output_tokens_details": {"thinking_tokens": 99}}, Usage(5, 0, 0, 0, 7)),
        ({"output_tokens_details": {"thinking_tokens": -1}}, Usage(5, 0, 0, 7, 0)),
        ({"output_tokens_details": "x", "cache_creation": "x"}, Usage(5, 0, 0, 7, 0)),
    ],
)  # fmt: skip
def test_oddities(more: dict[str, Any], usage: Usage) -> None:
    assert read_usage({"input_tokens": 5, "output_tokens": 7, **more}) == usage


counts = st.one_of(st.none(), st.integers(-2, 50), st.booleans(), st.floats(), st.text(max_size=3))
groups = st.none() | st.dictionaries(
    st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "thinking_tokens"]), counts
)


@given(
    raw=st.fixed_dictionaries(
        {"input_tokens": st.integers(0, 50), "output_tokens": st.integers(0, 50)},
        optional={
            "cache_read_input_tokens": counts,
            "cache_creation_input_tokens": counts,
            "cache_creation": groups,
            "output_tokens_details": groups,
        },
    )
)
def test_parts_are_never_negative_and_add_up(raw: dict[str, Any]) -> None:
    usage = read_usage(raw)
    assert usage is not None
    parts = (usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning)
    assert min(parts) >= 0
    assert 0 <= usage.cache_write_1h <= usage.cache_write
    assert usage.input == raw["input_tokens"]
    assert usage.output + usage.reasoning == raw["output_tokens"]
    read, written = raw.get("cache_read_input_tokens"), raw.get("cache_creation_input_tokens")
    if type(read) is int and type(written) is int and min(read, written) >= 0:
        assert usage.total == raw["input_tokens"] + raw["output_tokens"] + read + written
