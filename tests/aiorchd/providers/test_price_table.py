"""The bundled prices: found by address and name, and the same dollars as the library they come from computes."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from aiorchd.calls.reply import Usage
from aiorchd.calls.target import ListedModel
from aiorchd.providers.price_table import look_up, read_table
from aiorchd.providers.pricing import cost_usd

DAY = "2026-11-28"
OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta"


def listed(base_url: str, model: str, day: str = DAY) -> ListedModel | None:
    return look_up(read_table(), [(base_url, model)], day)[0]


# What genai_prices.calc_price (0.2.3) says of the same usage on the same day.
@pytest.mark.parametrize(
    ("base_url", "model", "usage", "dollars"),
    [
        (OPENAI, "gpt-4o-mini", Usage(500, 1500, 0, 200, 100), 0.0003675),
        (OPENAI, "gpt-4o-2024-08-06", Usage(2000, 0, 0, 300, 0), 0.008),
        (OPENAI, "text-embedding-3-small", Usage(1000, 0, 0, 0, 0), 0.00002),
        (ANTHROPIC, "claude-sonnet-4-5-20250929", Usage(1000, 4000, 5000, 500, 0), 0.03045),
        (ANTHROPIC, "claude-sonnet-4-5-20250929", Usage(1000, 4000, 5000, 500, 0, cache_write_1h=2000), 0.03495),
        (GOOGLE, "gemini-2.5-pro", Usage(150_000, 100_000, 0, 400, 600), 0.415),
        (GOOGLE, "gemini-2.5-pro", Usage(200_000, 0, 0, 1000, 0), 0.26),
        ("https://openrouter.ai/api/v1", "openai/gpt-4o-mini", Usage(1000, 0, 0, 100, 0), 0.00021),
        ("https://mine.openai.azure.com/openai/v1", "gpt-4o-mini", Usage(1000, 0, 0, 100, 0), 0.00021),
    ],
)
def test_costs_are_those_of_the_library(base_url: str, model: str, usage: Usage, dollars: float) -> None:
    found = listed(base_url, model)
    assert found is not None
    assert cost_usd(usage, found.price) == pytest.approx(dollars)
    assert found.price.source.startswith("genai-prices ")


def test_a_price_by_the_hour_stands_as_its_dearest() -> None:
    found = listed("https://api.deepseek.com/v1", "deepseek-chat")
    assert found is not None
    assert cost_usd(Usage(400, 600, 0, 100, 0), found.price) == pytest.approx(0.00026)  # at night it is 0.00013


@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        ("http://localhost:11434/v1", "gpt-4o-mini"),  # somebody else's server, whatever it calls its models
        ("https://gateway.example.com/v1", "gpt-4o"),
        (OPENAI, "my-own-fine-thing"),
        (OPENAI, ""),
        ("", "gpt-4o"),
    ],
)
def test_what_is_not_listed_is_unknown(base_url: str, model: str) -> None:
    assert listed(base_url, model) is None


def test_a_context_comes_with_it_where_it_is_known() -> None:
    found = listed(OPENAI, "GPT-4o-mini")
    assert found is not None
    assert found.context_tokens == 128_000


def test_a_price_holds_from_its_day_on() -> None:
    table = {
        "from": "a test",
        "providers": [
            {
                "id": "p",
                "url": "https://p",
                "models": [
                    {
                        "id": "m",
                        "match": ["and", ["starts_with", "m"], ["or", ["ends_with", "1"], ["regex", "^m-\\d+-[ab]$"]]],
                        "prices": [[None, {"input": 2, "output": 4}], ["2026-12-01", {"input": 1, "output": 2}]],
                    }
                ],
            }
        ],
    }
    for day, dollars in (("2026-11-30", 2), ("2026-12-01", 1), ("2027-01-01", 1)):
        found = look_up(table, [("https://p/v1", "m-1")], day)[0]
        assert found is not None
        assert found.price.input_usd_per_1m == dollars
    assert look_up(table, [("https://p/v1", "m-2-a"), ("https://p/v1", "m-2-c"), ("https://p/v1", "n-1")], DAY)[1:] == [
        None,
        None,
    ]


def test_every_pattern_of_the_table_can_be_read() -> None:
    table = read_table()
    urls = {row["id"]: row["url"] for row in table["providers"]}
    assert {"openai", "anthropic", "google", "azure", "groq", "mistral"} <= urls.keys()
    for row in table["providers"]:
        for model in row["models"]:
            # Asked for by the table's own name each must be found without an error, though maybe as another one.
            look_up({"from": "t", "providers": [{**row, "url": "", "also": []}]}, [("", model["id"])], DAY)
            for _, rates in model["prices"]:
                assert rates["input"] >= 0


_READING: Final = """
import time

from aiorchd.providers.price_table import look_up, read_table

began = time.process_time()
look_up(read_table(), [(%r, "gpt-4o-mini"), (%r, "claude-sonnet-4-5")], %r)
print(time.process_time() - began)
"""


@pytest.mark.slow
def test_reading_it_is_quick() -> None:
    """In a process of its own, as at a daemon's start: here the objects of all other tests would be looked through for garbage."""
    done = subprocess.run(
        [sys.executable, "-c", _READING % (OPENAI, ANTHROPIC, DAY)], capture_output=True, check=True, text=True
    )
    assert float(done.stdout) < 0.1
