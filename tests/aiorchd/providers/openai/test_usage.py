"""Token counts: the parts add up, and nonsense is unknown instead of zero."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.calls.reply import Usage
from aiorchd.providers.openai.usage import read_usage


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "x",
        [],
        {},
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": -1},
        {"prompt_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": False},
        {"prompt_tokens": "5", "completion_tokens": "6"},
        {"prompt_tokens": 5.5, "completion_tokens": 6},
        {"prompt_tokens": math.nan, "completion_tokens": math.inf},
        {"prompt_tokens": 2**60, "completion_tokens": 1},
        {"prompt_tokens": 5, "total_tokens": 4},
        {"completion_tokens": 5, "total_tokens": 10},
    ],
)
def test_what_is_unknown(raw: Any) -> None:
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0, 0, 0, 0)),
        ({"prompt_tokens": 8.0, "completion_tokens": 2.0}, Usage(8, 0, 0, 2, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage(0, 0, 0, 0, 0)),
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 3}, Usage(8, 0, 0, 2, 0)),
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": "many"}, Usage(8, 0, 0, 2, 0)),
        ({"prompt_tokens": 8, "completion_tokens": 2, "prompt_tokens_details": "none"}, Usage(8, 0, 0, 2, 0)),
        ({"prompt_tokens": 8, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": -1}}, Usage(8, 0, 0, 2, 0)),
        ({"prompt_tokens": 8, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 99}}, Usage(0, 8, 0, 2, 0)),
        (
            {"prompt_tokens": 8, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 99}},
            Usage(8, 0, 0, 0, 2),
        ),
        (
            {"prompt_tokens": 8, "completion_tokens": 20, "total_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 5}},
            Usage(8, 0, 0, 15, 5),
        ),
    ],
)  # fmt: skip
def test_oddities(raw: Any, usage: Usage) -> None:
    assert read_usage(raw) == usage


counts = st.one_of(st.none(), st.integers(-2, 50), st.booleans(), st.floats(), st.text(max_size=3))
details = st.one_of(
    st.none(), st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens"]), counts)
)


@given(
    raw=st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": counts,
            "completion_tokens": counts,
            "total_tokens": counts,
            "prompt_tokens_details": details,
            "completion_tokens_details": details,
            "prompt_cache_hit_tokens": counts,
        },
    )
)
def test_parts_are_never_negative_and_add_up(raw: dict[str, Any]) -> None:
    usage = read_usage(raw)
    if usage is None:
        return
    assert min(usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning) >= 0
    assert usage.input + usage.cache_read + usage.cache_write == raw["prompt_tokens"]
    said = raw.get("completion_tokens")
    if type(said) is int and said >= 0:
        assert usage.output + usage.reasoning >= said
