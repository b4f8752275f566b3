"""Read OpenAI's token counts into the normal form, whose parts add up to the provider's total.

``prompt_tokens`` includes what was read from and written to the provider's cache, ``completion_tokens`` includes
reasoning; the details say how much. Known deviations, each with a golden answer in the tests: DeepSeek has
``prompt_cache_hit_tokens``; xAI does not include reasoning in ``completion_tokens``, and Gemini's compatible endpoint
does not even name it, but in both the total tells; Groq puts the usage of a stream under ``x_groq``; Azure and some
gateways send -1 or null.
"""

from __future__ import annotations

from typing import Any, Final

from aiorchd.calls.reply import Usage
from aiorchd.providers.token_counts import token_count

KNOWN_FIELDS: Final = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
    | {"prompt_cache_hit_tokens", "prompt_cache_miss_tokens"}
)


def read_usage(raw: Any) -> Usage | None:
    """Bring counts to the normal form; None when they are missing or make no sense: unknown is never zero."""
    if not isinstance(raw, dict):
        return None
    prompt = token_count(raw.get("prompt_tokens"))
    completion = token_count(raw.get("completion_tokens"))
    total = token_count(raw.get("total_tokens"))
    if prompt is None:
        return None
    cached = _told(raw.get("prompt_tokens_details"), "cached_tokens")
    if cached is None:
        cached = token_count(raw.get("prompt_cache_hit_tokens"))
    cache_write = _told(raw.get("prompt_tokens_details"), "cache_write_tokens")
    reasoning = _told(raw.get("completion_tokens_details"), "reasoning_tokens")
    return usage_of(prompt, completion, total, cached, cache_write, reasoning)


def usage_of(
    prompt: int,
    completion: int | None,
    total: int | None,
    cached: int | None,
    cache_write: int | None,
    told: int | None,
) -> Usage | None:
    """Part the provider's counts, ``told`` being those of its reasoning; None when they make no sense together."""
    if completion is None:
        if total is None or total < prompt:
            return None
        completion = total - prompt
    if cached or cache_write:
        cache_read = min(cached or 0, prompt)
        cache_write = min(cache_write or 0, prompt - cache_read)
    else:
        cache_read = cache_write = 0
    beyond = total - prompt - completion if total is not None else 0
    if beyond > 0 and (not told or beyond == told):
        # More in all than prompt and completion: reasoning that was counted beside the completion.
        return Usage(prompt - cache_read - cache_write, cache_read, cache_write, completion, beyond)
    reasoning = min(told, completion) if told else 0
    return Usage(prompt - cache_read - cache_write, cache_read, cache_write, completion - reasoning, reasoning)


def _told(details: Any, name: str) -> int | None:
    """Read a count out of a group of them; None where there is none."""
    return token_count(details[name]) if isinstance(details, dict) and name in details else None
