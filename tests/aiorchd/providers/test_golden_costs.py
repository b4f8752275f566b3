"""What the dialects' golden answers cost: the dollars that genai-prices 0.2.3 makes of the same answers by its own reading.

Their table of prices is ours, but reading the usage, cached parts, tiers and multiplying out are two programs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiorchd.calls.reply import Usage
from aiorchd.providers.anthropic.usage import read_usage as read_anthropic
from aiorchd.providers.gemini.usage import read_usage as read_gemini
from aiorchd.providers.openai.usage import read_usage as read_openai
from aiorchd.providers.price_table import look_up, read_table
from aiorchd.providers.pricing import cost_usd

HERE = Path(__file__).parent
DAY = "2026-11-28"
READERS: dict[str, tuple[str, str, str, Callable[[Any], Usage | None]]] = {
    "anthropic": ("https://api.anthropic.com/v1", "claude-sonnet-4-5", "usage", read_anthropic),
    "gemini": (
        "https://generativelanguage.googleapis.com/v1beta",
        "gemini-2.5-flash",
        "usageMetadata",
        read_gemini,
    ),
    "openai": ("https://api.openai.com/v1", "gpt-4o-mini", "usage", read_openai),
}


@pytest.fixture(scope="module")
def table() -> Any:
    return read_table()


@pytest.mark.parametrize(
    ("dialect", "answer", "dollars"),
    [
        ("anthropic", "plain", 0.000300),
        ("anthropic", "prompt_cache", 0.017379),  # read, written for minutes, written for an hour
        ("anthropic", "thinking", 0.00465),
        ("anthropic", "redacted_thinking_cut_by_max_tokens", 0.122907),
        ("anthropic", "tool_use", 0.002751),
        ("gemini", "plain", 0.0000324),
        ("gemini", "cached", 0.000175),
        ("gemini", "thoughts", 0.001081),
        ("gemini", "all_thought", 0.0025627),
        ("openai", "openai", 0.0003369),  # partly from the cache
        ("openai", "openai_reasoning", 0.00072285),
        ("openai", "azure", 0.0000057),
    ],
)
def test_the_dollars_of_a_golden_answer(table: Any, dialect: str, answer: str, dollars: float) -> None:
    base_url, model, place, read = READERS[dialect]
    response = json.loads((HERE / dialect / "golden" / f"{answer}.json").read_text())["response"]
    [listed] = look_up(table, [(base_url, model)], DAY)
    assert listed is not None
    assert cost_usd(read(response[place]), listed.price) == pytest.approx(dollars, rel=1e-9)


@pytest.mark.parametrize("dialect", READERS)
def test_an_answer_without_usage_has_no_cost(table: Any, dialect: str) -> None:
    base_url, model, place, read = READERS[dialect]
    response = json.loads((HERE / dialect / "golden" / "no_usage.json").read_text())["response"]
    [listed] = look_up(table, [(base_url, model)], DAY)
    assert listed is not None
    assert cost_usd(read(response.get(place)), listed.price) is None


def test_writing_to_a_cache_without_a_price_for_it_is_unknown(table: Any) -> None:
    base_url, model, place, read = READERS["openai"]
    response = json.loads((HERE / "openai" / "golden" / "openai_cache_write.json").read_text())["response"]
    [listed] = look_up(table, [(base_url, model)], DAY)
    assert listed is not None
    assert listed.price.cache_write_usd_per_1m is None
    assert cost_usd(read(response[place]), listed.price) is None  # the library takes it as fresh input
