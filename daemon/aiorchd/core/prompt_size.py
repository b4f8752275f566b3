"""How large a prompt is, measured once for the guess (`core.token_estimate`) and for the bound (`core.token_bound`).

Nearly all prompts are messages of a role and a text and nothing else. Of those both follow from how many messages there are
and how many bytes they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aiorchd.core.token_bound import plain_messages_bound
from aiorchd.core.token_estimate import plain_prompt_tokens, prompt_tokens


class PromptSize(NamedTuple):
    """``guessed_tokens`` of all the prompt; ``messages_bound`` is the most tokens that its messages can be billed for, None where
    they are not plain and whoever needs the bound has to look at all of them."""

    guessed_tokens: int
    messages_bound: int | None


def prompt_size(request: Mapping[str, Any]) -> PromptSize:
    """Measure a request (see `Call.request`)."""
    messages = request.get("messages")
    if type(messages) is not list:
        return PromptSize(prompt_tokens(request), None)
    role_bytes = text_bytes = 0
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return PromptSize(prompt_tokens(request), None)
        role, text = message.get("role"), message.get("content")
        if type(role) is not str or type(text) is not str:
            return PromptSize(prompt_tokens(request), None)
        role_bytes += len(role) if role.isascii() else len(role.encode("utf-8", "surrogatepass"))
        text_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    number = len(messages)
    return PromptSize(
        plain_prompt_tokens(request, number, text_bytes), plain_messages_bound(number, role_bytes + text_bytes)
    )
