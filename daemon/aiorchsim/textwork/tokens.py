"""How many tokens a text has, by a fixed rule that needs no vocabulary.

A text of n characters (code points) has ceil(n / 4) tokens. A prompt has that for each message and tool definition,
plus 4 for each message (its role and its separators), 85 for each image, and 3 for the beginning of the answer. The
overheads are those of OpenAI's chat format; four characters for a token is their rule of thumb for English.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

CHARACTERS_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4
TOKENS_PER_IMAGE: Final = 85
TOKENS_TO_BEGIN: Final = 3


def text_tokens(text: str) -> int:
    """Tokens of one plain text; 0 when it is empty."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def prompt_tokens(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> int:
    """Tokens of a chat prompt in OpenAI's shape: messages whose content is a string, a list of parts, or null."""
    total = TOKENS_TO_BEGIN
    for message in messages:
        total += TOKENS_PER_MESSAGE
        content = message.get("content")
        if isinstance(content, str):
            total += -(-len(content) // CHARACTERS_PER_TOKEN)
        elif isinstance(content, list):
            for part in content:
                text = part.get("text") if isinstance(part, dict) else None
                total += text_tokens(text) if isinstance(text, str) else TOKENS_PER_IMAGE
        calls = message.get("tool_calls")
        if calls:
            total += text_tokens(json.dumps(calls, separators=(",", ":")))
    if tools:
        total += text_tokens(json.dumps(tools, separators=(",", ":")))
    return total
