"""Whatever the dialect: the parts of a usage are never negative and add up to what the provider counts in all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.calls.reply import Usage
from aiorchd.providers.anthropic.usage import read_usage as anthropic
from aiorchd.providers.gemini.usage import read_usage as gemini
from aiorchd.providers.openai.usage import read_usage as openai

count = st.integers(0, 2**40)


def told(dialect: str, usage: Usage) -> Usage | None:
    """Say a usage in the provider's words, as its reference defines them, and read it back."""
    prompt = usage.input + usage.cache_read + usage.cache_write
    answer = usage.output + usage.reasoning
    if dialect == "openai":
        details = {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write}
        reasoning = {"reasoning_tokens": usage.reasoning}
        raw = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        return openai({**raw, "prompt_tokens_details": details, "completion_tokens_details": reasoning})
    if dialect == "anthropic":
        kept = {"ephemeral_1h_input_tokens": usage.cache_write_1h}
        return anthropic(
            {
                "input_tokens": usage.input,
                "cache_read_input_tokens": usage.cache_read,
                "cache_creation_input_tokens": usage.cache_write,
                "cache_creation": {**kept, "ephemeral_5m_input_tokens": usage.cache_write - usage.cache_write_1h},
                "output_tokens": answer,
                "output_tokens_details": {"thinking_tokens": usage.reasoning},
            }
        )
    return gemini(
        {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": usage.cache_read,
            "candidatesTokenCount": usage.output,
            "thoughtsTokenCount": usage.reasoning,
            "totalTokenCount": prompt + answer,
        }
    )


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
@given(fresh=count, read=count, written=count, output=count, reasoning=count, share=st.floats(0, 1))
def test_what_a_provider_tells_is_read_as_it_was_meant(
    dialect: str, fresh: int, read: int, written: int, output: int, reasoning: int, share: float
) -> None:
    written = 0 if dialect == "gemini" else written  # Google tells of no writing
    long = int(written * share) if dialect == "anthropic" else 0
    meant = Usage(fresh, read, written, output, reasoning, cache_write_1h=long)
    found = told(dialect, meant)
    assert found == meant
    assert found is not None
    assert found.total == fresh + read + written + output + reasoning
