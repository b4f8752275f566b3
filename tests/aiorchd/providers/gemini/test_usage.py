"""Gemini's token counts: the parts add up, and nonsense is unknown instead of zero."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.calls.reply import Usage
from aiorchd.providers.gemini.usage import read_usage


@pytest.mark.parametrize(
    "raw", [None, "x", {}, {"promptTokenCount": 5}, {"candidatesTokenCount": 5}, {"promptTokenCount": -1, "totalTokenCount": 5}]
)  # fmt: skip
def test_what_is_unknown(raw: Any) -> None:
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"promptTokenCount": 5, "totalTokenCount": 5}, Usage(5, 0, 0, 0, 0)),
        ({"promptTokenCount": 5, "totalTokenCount": 9}, Usage(5, 0, 0, 4, 0)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 9}, Usage(5, 0, 0, 2, 2)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 3}, Usage(5, 0, 0, 2, 0)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2, "cachedContentTokenCount": 99}, Usage(0, 5, 0, 2, 0)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 2, "toolUsePromptTokenCount": 7}, Usage(12, 0, 0, 2, 0)),
    ],
)
def test_oddities(raw: dict[str, Any], usage: Usage) -> None:
    assert read_usage(raw) == usage


counts = st.one_of(st.none(), st.integers(-2, 50), st.booleans(), st.floats(), st.text(max_size=3))
good = st.none() | st.integers(0, 50)


@given(
    prompt=st.integers(0, 50),
    cached=counts,
    tools=good,
    candidates=good,
    thoughts=good,
    beyond=st.integers(0, 9) | st.none(),
)
def test_parts_are_never_negative_and_add_up_to_the_total(
    prompt: int, cached: Any, tools: int | None, candidates: int | None, thoughts: int | None, beyond: int | None
) -> None:
    known = prompt + (tools or 0) + (candidates or 0) + (thoughts or 0)
    raw = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "toolUsePromptTokenCount": tools,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": None if beyond is None else known + beyond,
    }
    usage = read_usage(raw)
    if beyond is None and candidates is None and thoughts is None:
        assert usage is None
        return
    assert usage is not None
    assert min(usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning) >= 0
    assert usage.total == known + (beyond or 0)
