"""Read Anthropic's token counts into the normal form, whose parts add up to the provider's total.

``input_tokens`` does not include what was read from or written to the prompt cache; ``output_tokens`` includes thinking,
and ``output_tokens_details.thinking_tokens`` says how much where it is there. Of what was written to the cache
``cache_creation`` tells how much is kept for an hour, which has a price of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiorchd.calls.reply import Usage
from aiorchd.providers.token_counts import token_count

KNOWN_FIELDS: Final = frozenset(
    {"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"}
    | {"output_tokens_details", "cache_creation"}
)


def read_usage(raw: Any) -> Usage | None:
    """Bring counts to the normal form; None when they are missing or make no sense: unknown is never zero."""
    if not isinstance(raw, Mapping):
        return None
    fresh, output = token_count(raw.get("input_tokens")), token_count(raw.get("output_tokens"))
    if fresh is None or output is None:
        return None
    by_length = raw.get("cache_creation")
    short = long = None
    if isinstance(by_length, Mapping):
        short = token_count(by_length.get("ephemeral_5m_input_tokens"))
        long = token_count(by_length.get("ephemeral_1h_input_tokens"))
    written = token_count(raw.get("cache_creation_input_tokens"))
    if written is None:
        written = (short or 0) + (long or 0)
    details = raw.get("output_tokens_details")
    thinking = token_count(details.get("thinking_tokens")) if isinstance(details, Mapping) else None
    reasoning = min(thinking or 0, output)
    return Usage(
        fresh,
        token_count(raw.get("cache_read_input_tokens")) or 0,
        written,
        output - reasoning,
        reasoning,
        cache_write_1h=min(long or 0, written),
    )
