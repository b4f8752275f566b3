"""Read Gemini's token counts into the normal form, whose parts add up to the provider's total.

``promptTokenCount`` includes what was read from the cache (``cachedContentTokenCount``); what tools of Google's put into
the prompt (``toolUsePromptTokenCount``) comes on top of it, and thoughts (``thoughtsTokenCount``) on top of
``candidatesTokenCount``. ``totalTokenCount`` is all four. Counts of nothing are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiorchd.calls.reply import Usage
from aiorchd.providers.token_counts import token_count

KNOWN_FIELDS: Final = frozenset(
    {"promptTokenCount", "candidatesTokenCount", "totalTokenCount", "cachedContentTokenCount", "thoughtsTokenCount"}
    | {"toolUsePromptTokenCount"}
)


def read_usage(raw: Any) -> Usage | None:
    """Bring counts to the normal form; None when they are missing or make no sense: unknown is never zero."""
    if not isinstance(raw, Mapping):
        return None
    prompt, total = token_count(raw.get("promptTokenCount")), token_count(raw.get("totalTokenCount"))
    candidates, thoughts = token_count(raw.get("candidatesTokenCount")), token_count(raw.get("thoughtsTokenCount"))
    if prompt is None or (candidates is None and thoughts is None and total is None):
        return None
    cached = min(token_count(raw.get("cachedContentTokenCount")) or 0, prompt)
    tools = token_count(raw.get("toolUsePromptTokenCount")) or 0
    output, reasoning = candidates or 0, thoughts or 0
    beyond = total - prompt - tools - output - reasoning if total is not None else 0
    if beyond > 0:
        # More in all than its parts: the answer where it was not counted, thoughts that were not named otherwise.
        if candidates is None:
            output += beyond
        else:
            reasoning += beyond
    return Usage(prompt - cached + tools, cached, 0, output, reasoning)
