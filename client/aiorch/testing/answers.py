"""What a fake daemon is asked, what it shall answer, and how that looks on the wire."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, Union

from aiorch.errors import CallError, InvalidRequest
from aiorch.questions import CompleteOptions, EmbedOptions


@dataclass(slots=True)
class Asked:
    """One request as it came: what it said and who sent it. ``cancelled`` turns true when its caller lost interest."""

    method: str
    arguments: dict[str, Any]
    uid: int
    pid: int
    connection: int
    """Connections are numbered from 1 in the order they came."""
    cancelled: bool = False

    @property
    def prompt(self) -> str:
        """The prompt, or the text of the last message; ``""`` for requests that have none."""
        prompt = self.arguments.get("prompt")
        if prompt is None:
            messages = self.arguments.get("messages")
            last = messages[-1] if isinstance(messages, list) and messages else None
            prompt = last.get("content") if isinstance(last, dict) else None
        return prompt if isinstance(prompt, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A scripted reply. Names are those of `aiorch.Reply`; besides them:

    ``delay_s`` passes before the answer or its first piece, ``pause_s`` before each further piece. ``pieces`` is how a
    streamed answer is cut (by words otherwise). With ``cut_after`` the connection is closed after that many pieces,
    0 meaning before anything. ``fields`` are laid over the reply as it would be sent.
    """

    text: str = ""
    data: Any = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    finish_reason: str = "stop"
    model: str = "fake"
    cost_usd: float | None = 0.0
    cache: str = "miss"
    delay_s: float = 0.0
    pieces: Sequence[str] | None = None
    pause_s: float = 0.0
    cut_after: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def cut(self) -> Sequence[str]:
        """Give the pieces in which it streams."""
        return self.pieces if self.pieces is not None else re.findall(r"\s*\S+\s*$|\s*\S+|\s+", self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A scripted error: ``delay_s`` later, and of a streamed answer after these ``pieces``."""

    error: CallError
    delay_s: float = 0.0
    pieces: Sequence[str] = ()
    pause_s: float = 0.0


Answerable: TypeAlias = Union[str, Answer, Failure, CallError, "Callable[[Asked], Answerable]"]
"""What may be scripted for a prompt. Functions run in a thread of their own and may block."""


def echo(asked: Asked) -> str:
    """Answer with the prompt."""
    return asked.prompt


def check(asked: Asked) -> None:
    """Refuse arguments as the daemon does, as far as a fake needs to. Raises `InvalidRequest` naming the field."""
    known = _KNOWN.get(asked.method)
    arguments = asked.arguments
    for name in arguments:
        if known is not None and name not in known:
            raise InvalidRequest(f"{name[:60]}: no such argument; known are {', '.join(sorted(known))}")
    for name, (kinds, must) in _KINDS.items():
        value = arguments.get(name)
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise InvalidRequest(f"{name}: must be {must}, got {type(value).__name__}")
    if asked.method == "complete":
        if arguments.get("prompt") is None and not arguments.get("messages"):
            raise InvalidRequest("prompt: missing; send prompt or messages")
        if arguments.get("prompt") == "":
            raise InvalidRequest("prompt: must not be empty")
        if arguments.get("stream") and arguments.get("call_id") is None and arguments.get("notify") is None:
            raise InvalidRequest("call_id: a streamed call needs one, chosen by the caller")
    if asked.method == "embed":
        texts = arguments.get("input")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise InvalidRequest("input: must be a list of at least one text that is not empty")
    timeout_s = arguments.get("timeout_s")
    if timeout_s is not None and not timeout_s > 0:
        raise InvalidRequest(f"timeout_s: must be more than 0 seconds, got {timeout_s:g}")


def reply(asked: Asked, answer: Answer, request_id: str) -> dict[str, Any]:
    """Give the result of ``complete`` as the wire carries it."""
    data = answer.data
    if data is None and asked.arguments.get("output_schema") is not None:
        try:
            data = json.loads(answer.text)
        except ValueError:
            pass  # the script says what the host gets to see
    return {
        "id": request_id,
        "text": answer.text,
        "data": data,
        "tool_calls": [dict(call) for call in answer.tool_calls],
        "finish_reason": answer.finish_reason,
        "model": asked.arguments.get("model") or answer.model,
        "provider": "fake",
        "simulated": True,
        "contributing_models": [answer.model],
        "confidence": None,
        "confidence_scores": {},
        "usage": usage(len(asked.prompt.split()), len(answer.text.split())),
        "cost_usd": answer.cost_usd,
        "saved_usd": 0.0,
        "cache": answer.cache,
        "batched": False,
        "attempts": 1 if answer.cache == "miss" else 0,
        "timing": _TIMING,
        "validation": None,
        **answer.fields,
    }


def embedding(asked: Asked, request_id: str) -> dict[str, Any]:
    """Give the result of ``embed``: vectors of length one that depend on the text alone."""
    dimensions = asked.arguments.get("dimensions") or 8
    texts = asked.arguments["input"]
    vectors = [_vector(text, dimensions) for text in texts]
    return {
        "id": request_id,
        "vectors": [struct.pack(f"<{dimensions}f", *vector) for vector in vectors]
        if asked.arguments.get("encoding") == "bytes"
        else vectors,
        "model": asked.arguments.get("model") or "fake",
        "provider": "fake",
        "simulated": True,
        "usage": usage(sum(len(text.split()) for text in texts), 0),
        "cost_usd": 0.0,
        "saved_usd": 0.0,
        "cache": "miss",
        "batched": False,
        "attempts": 1,
        "timing": _TIMING,
    }


def usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Count words as tokens."""
    return {"input": input_tokens, "cache_read": 0, "cache_write": 0, "output": output_tokens, "reasoning": 0}


def _vector(text: str, dimensions: int) -> list[float]:
    numbers = [
        int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8, salt=place.to_bytes(4)).digest())
        / 2**63
        - 1.0
        for place in range(dimensions)
    ]
    length = math.hypot(*numbers) or 1.0
    return [number / length for number in numbers]


_TIMING: Final[Mapping[str, float]] = {"queue_s": 0.0, "provider_s": 0.0, "overhead_s": 0.0, "total_s": 0.0}

_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "complete": frozenset((*CompleteOptions.__annotations__, "prompt", "stream", "notify", "host"))
    - {"retries", "model_call_func"},
    "embed": frozenset((*EmbedOptions.__annotations__, "input", "encoding")) - {"retries"},
}
_KINDS: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "prompt": ((str,), "text"),
    "messages": ((list,), "a list of at least one map with role and content"),
    "model": ((str,), "text"),
    "timeout_s": ((int, float), "a number of seconds"),
    "temperature": ((int, float), "a finite number"),
    "max_tokens": ((int,), "a whole number"),
    "dimensions": ((int,), "a whole number"),
    "stream": ((bool, int), "true or false"),
    "tags": ((list,), "a list of texts"),
    "tools": ((list,), "a list of tool definitions"),
    "extra": ((dict, list), "a map"),
}
