"""The most tokens a request can be billed for, known before it is sent: what budgets reserve.

Every tokenizer in use makes at most one token of a byte, so the bytes of all text, keys and marks bound the prompt, whatever
the model; `core.token_estimate` guesses about a quarter of that, which is right on average and no bound. Around them providers
put marks of their own for each message, and a preamble where tools are offered. A picture is billed by its size in pixels,
which nobody here looks at: a flat number bounds what providers say of large ones. Other parts (sound, film, documents) are
bounded by a quarter of their characters, and at least by a flat number.

The answer is bounded by what is sent as ``max_tokens``, in the dialects' several names, and multiplied by ``n``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

_PREAMBLE_TOKENS: Final = 64
_TOOLS_PREAMBLE_TOKENS: Final = 1000
"""Anthropic's is up to 700 tokens."""
_TOKENS_PER_VALUE: Final = 8
"""Braces, quotes and commas around a value or key, and a provider's marks around a message."""
_TOKENS_PER_NUMBER: Final = 25
_TOKENS_PER_PICTURE: Final = 5_000
_TOKENS_PER_OTHER_PART: Final = 50_000
_CHARACTERS_PER_TOKEN_OF_PART: Final = 4
_MOST_TOKENS: Final = 1_000_000_000
_LEAST_SHARE_OF_GUESS: Final = 0.1
_PLAIN_MESSAGE_TOKENS: Final = 4 * _TOKENS_PER_VALUE + len("role") + len("content")
"""What a message of a role and a text takes besides the two, counted as everything else is."""
_PICTURES: Final = frozenset({"image_url", "image", "input_image"})
_OTHER_PARTS: Final = frozenset(
    {"input_audio", "audio", "audio_url", "video", "video_url", "file", "input_file", "document"}
)
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
_NESTED: Final = ("generationConfig", "generation_config")
_CHOICES: Final = ("n", "best_of", "candidateCount")
_ASKED: Final = ("input", "tools", "output_schema", "tool_choice")
"""Beside the messages."""


class TokenBound(NamedTuple):
    """``prompt`` tokens at most; answers of ``sent_max`` tokens at most each, None when nothing that is sent says so;
    ``choices`` answers. ``cached_for_an_hour`` tells whether the request asks a provider to keep parts of it that long."""

    prompt: int
    sent_max: int | None
    choices: int
    cached_for_an_hour: bool


def token_bound(request: Mapping[str, Any], added: Mapping[str, Any], messages_bound: int | None = None) -> TokenBound:
    """Bound a request (see `Call.request`); ``added`` are the fields that the configuration puts into every one, and
    ``messages_bound`` is that of its messages where it is known (`core.prompt_size`)."""
    if messages_bound is not None and len(request) == 1 and not added:  # as most are
        return TokenBound(min(_PREAMBLE_TOKENS + messages_bound, _MOST_TOKENS), None, 1, False)
    walk = _Walk()
    if messages_bound is not None:
        walk.tokens = messages_bound
    elif (messages := request.get("messages")) is not None:
        walk.over(messages)
    for name in _ASKED:
        if (value := request.get(name)) is not None:
            walk.over(value)
    extra = request.get("extra")
    own = extra if extra is not None and isinstance(extra, Mapping) else {}
    places = [place for place in (own, added) if place]
    for place in places:
        walk.over(place)
    prompt = _PREAMBLE_TOKENS + walk.tokens
    if request.get("tools") or own.get("tools") or added.get("tools"):
        prompt += _TOOLS_PREAMBLE_TOKENS
    found = _limits(request)
    choices = 1
    for place in places:
        found += _limits(place)
        choices = max(choices, _choices(place))
    return TokenBound(
        prompt=min(prompt, _MOST_TOKENS),
        sent_max=min(max(found), _MOST_TOKENS) if found else None,
        choices=min(choices, _MOST_TOKENS),
        cached_for_an_hour=walk.hour,
    )


def plain_messages_bound(messages: int, text_bytes: int) -> int:
    """Bound so many messages that are a role and a text, which have so many bytes together."""
    return _TOKENS_PER_VALUE + messages * (_TOKENS_PER_VALUE + _PLAIN_MESSAGE_TOKENS) + text_bytes


def answer_bound(text: str, tool_calls: Sequence[Mapping[str, Any]]) -> int:
    """Bound the tokens of an answer by its bytes."""
    walk = _Walk()
    walk.over(text)
    if tool_calls:
        walk.over(list(tool_calls))
    return min(walk.tokens, _MOST_TOKENS)


def implausible(told: int, guess: float) -> bool:
    """Tell whether so few tokens cannot be true of text that is guessed at ``guess`` (a quarter of its bytes): no text has so
    many bytes to a token, and pictures are guessed at no more than ten times what the smallest take."""
    return told < guess * _LEAST_SHARE_OF_GUESS


def _limits(place: Mapping[str, Any]) -> list[int]:
    """Find what is sent as a bound of the answer."""
    found = _limits_in(place)
    for name in _NESTED:
        inner = place.get(name)
        if inner is not None and isinstance(inner, Mapping):
            found += _limits_in(inner)
    return found


def _limits_in(place: Mapping[str, Any]) -> list[int]:
    found = []
    for name in _LIMITS:
        limit = place.get(name)
        if limit is not None and isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
            found.append(limit)
    return found


def _choices(place: Mapping[str, Any]) -> int:
    """Find how many answers are asked for."""
    found = [n for name in _CHOICES if isinstance(n := place.get(name), int) and n > 0]
    return max(found, default=1)


class _Walk:
    """Adds up a value with everything in it. Its depth and number of values were bounded when it came in."""

    def __init__(self) -> None:
        self.tokens = 0
        self.hour = False

    def over(self, value: Any) -> None:
        waiting = [value]
        tokens = 0
        while waiting:
            one = waiting.pop()
            tokens += _TOKENS_PER_VALUE
            if isinstance(one, str):
                tokens += _bytes_of(one)
            elif isinstance(one, dict):
                kind = one.get("type")
                if isinstance(kind, str) and kind in _PICTURES:
                    tokens += _TOKENS_PER_PICTURE
                elif isinstance(kind, str) and kind in _OTHER_PARTS:
                    tokens += max(_TOKENS_PER_OTHER_PART, _characters(one) // _CHARACTERS_PER_TOKEN_OF_PART)
                else:
                    self.hour = self.hour or ("cache_control" in one and _keeps_an_hour(one["cache_control"]))
                    waiting.extend(one)
                    waiting.extend(one.values())
            elif isinstance(one, list | tuple):
                waiting.extend(one)
            elif isinstance(one, bytes):
                tokens += len(one)
            elif isinstance(one, Mapping):
                waiting.append(dict(one))
            else:
                tokens += _TOKENS_PER_NUMBER
        self.tokens += tokens


def _keeps_an_hour(wish: Any) -> bool:
    return isinstance(wish, Mapping) and wish.get("ttl") not in (None, "5m")


def _characters(value: Any) -> int:
    waiting, total = [value], 0
    while waiting:
        one = waiting.pop()
        if isinstance(one, str | bytes):
            total += len(one)
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)
    return total


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
