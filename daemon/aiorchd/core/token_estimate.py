"""How many tokens an attempt will use, guessed before it starts: prompt and expected answer.

The rate limits reserve this number and settle it when the usage is known, so it has to be cheap and about right:

    prompt = UTF-8 bytes of the text / 4, and some for each message, and a flat number for each picture or sound
    answer = what the caller allows (``max_tokens``), else the exponentially weighted average of this target's answers to
             this task, else of all its answers

Four characters a token is OpenAI's own rule of thumb for English; bytes instead of characters make it hold roughly for
other scripts, which take more tokens a character. ``max_tokens`` is what providers count when they decide to let a call in.

Cost: lengths only, no tokenizer. Text that is not ASCII is judged by a sample, pictures are never looked at, and at most
`_MOST_NODES` values are visited; beyond them the rest is taken to be like what was seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

_BYTES_PER_TOKEN: Final = 4.0
_TOKENS_PER_MESSAGE: Final = 4.0
_TOKENS_PER_PART: Final = 800.0
"""A picture of 1024 x 1024 is 765 tokens at OpenAI."""
_SAMPLE_CHARACTERS: Final = 2048
_MOST_NODES: Final = 2000
_FIRST_GUESS_TOKENS: Final = 256.0
_SMOOTHING: Final = 0.1
_MOST_REMEMBERED: Final = 2000
"""Pairs of target and task: tasks are named by callers."""
_MOST_TOKENS: Final = 10_000_000
"""Beyond any context there is; a caller's ``max_tokens`` of a quintillion must not put the bucket in debt for ever."""


def prompt_tokens(request: Mapping[str, Any]) -> int:
    """Guess the tokens of a request by its text (see `Call.request`); never more than ten million."""
    messages = request.get("messages")
    tokens = _each(messages, _message) if isinstance(messages, Sequence) else 0.0
    if len(request) > 1 or messages is None:
        tokens += _beside_messages(request)
    return min(int(tokens) + 1, _MOST_TOKENS)


def plain_prompt_tokens(request: Mapping[str, Any], messages: int, text_bytes: int) -> int:
    """Guess the same for so many messages that are a role and a text, whose texts have so many bytes."""
    tokens = messages * _TOKENS_PER_MESSAGE + text_bytes / _BYTES_PER_TOKEN
    if len(request) > 1:
        tokens += _beside_messages(request)
    return min(int(tokens) + 1, _MOST_TOKENS)


class TokenEstimator:
    """Guesses for the targets of the house; remembers how long each one's answers to each task are. Outlives reloads."""

    def __init__(self, first_guess_tokens: float = _FIRST_GUESS_TOKENS) -> None:
        self._first_guess_tokens = first_guess_tokens
        # This is all the mutable state. The task None stands for all answers of a target.
        self._mean_output: dict[tuple[str, str | None], float] = {}

    def output_tokens(self, target: str, task: str | None, request: Mapping[str, Any]) -> int:
        """Guess the tokens of a chat answer: what the caller allows, else what this target usually gives to such a task."""
        for place in (request, request.get("extra")) if len(request) > 1 else ():
            if place is not None and isinstance(place, Mapping):
                for name in ("max_tokens", "max_completion_tokens"):
                    allowed = place.get(name)
                    if allowed is not None and isinstance(allowed, int) and allowed > 0:
                        return min(allowed, _MOST_TOKENS)
        mean = self._mean_output.get((target, task))
        if mean is None:
            mean = self._mean_output.get((target, None), self._first_guess_tokens)
        return int(mean) + 1

    def learn(self, target: str, task: str | None, output_tokens: int) -> None:
        """Remember how long an answer was, reasoning included."""
        means = self._mean_output
        for key in ((target, None),) if task is None else ((target, None), (target, task)):
            mean = means.pop(key, None)
            if mean is not None:
                means[key] = mean + _SMOOTHING * (output_tokens - mean)
                continue
            if len(means) >= _MOST_REMEMBERED:
                del means[next(iter(means))]  # what was not seen for longest
            means[key] = float(output_tokens)

    def keep_only(self, targets: Collection[str]) -> None:
        """Forget targets that the configuration no longer has."""
        for gone in [key for key in self._mean_output if key[0] not in targets]:
            del self._mean_output[gone]

    def mean_outputs(self) -> Mapping[str, float]:
        """Tell the average answer of each target that has answered."""
        return {target: mean for (target, task), mean in self._mean_output.items() if task is None}


def _beside_messages(request: Mapping[str, Any]) -> float:
    tokens = 0.0
    if (inputs := request.get("input")) is not None:
        several = isinstance(inputs, Sequence) and not isinstance(inputs, str)
        tokens += _each(inputs if several else [inputs], _structure)
    for name in ("tools", "output_schema"):
        if (value := request.get(name)) is not None:
            tokens += _structure(value)
    return tokens


def _each(values: Sequence[Any], guess: Any) -> float:
    """Add up guesses; of very many values, the first ones stand for all."""
    seen = values[:_MOST_NODES] if len(values) > _MOST_NODES else values
    total = 0.0
    for value in seen:
        total += guess(value)
    return total * len(values) / len(seen) if seen else 0.0


def _message(message: Any) -> float:
    if not isinstance(message, Mapping):
        return _TOKENS_PER_MESSAGE
    content = message.get("content")
    tokens = _TOKENS_PER_MESSAGE
    if isinstance(content, str):
        tokens += _text(content)
    elif isinstance(content, Sequence):
        tokens += _each(content, _part)
    if (calls := message.get("tool_calls")) is not None:
        tokens += _structure(calls)
    return tokens


def _part(part: Any) -> float:
    """A part of a message: text by its length, anything else (pictures, sound, files) by a flat number, unread."""
    text = part.get("text") if isinstance(part, Mapping) else part
    return _text(text) if isinstance(text, str) else _TOKENS_PER_PART


def _structure(value: Any) -> float:
    """Plain data as it would be written out, up to the limit of values."""
    waiting = [value]
    tokens = 0.0
    for _ in range(_MOST_NODES):
        if not waiting:
            break
        value = waiting.pop()
        if isinstance(value, str):
            tokens += _text(value)
        elif isinstance(value, Mapping):
            waiting.extend(value.keys())
            waiting.extend(value.values())
        elif isinstance(value, Sequence) and not isinstance(value, bytes):
            waiting.extend(value)
        else:
            tokens += 1.0
    return tokens


def _text(text: str) -> float:
    if text.isascii():
        return len(text) / _BYTES_PER_TOKEN
    sample = text[:_SAMPLE_CHARACTERS]
    return len(text) * len(sample.encode("utf-8", "surrogatepass")) / (len(sample) * _BYTES_PER_TOKEN)
