"""The dialect ``host``: a process of the host answers, asked over its own connection to the daemon.

What it answers is a stranger's: it is checked for shape, size and depth before anybody believes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import trio

from aiorch.errors import CallError, HostError, NoModels, UnknownModel
from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import HostDirectory, ProviderCheck
from aiorchd.calls.reply import Reply, Usage
from aiorchd.providers.answer import DEEPEST, packable, whole_text
from aiorchd.providers.pricing import cost_usd

_FIELDS: Final = frozenset(("text", "data", "usage", "tool_calls", "finish_reason"))
_COUNTS: Final = ("input", "cache_read", "cache_write", "output", "reasoning")
_MOST_TOKENS: Final = 10**12
_REASON_CHARACTERS: Final = 100
_TOLD: Final = frozenset(
    (
        "host_error rate_limited provider_error provider_auth overloaded context_exceeded content_filtered unknown_model "
        "invalid_request too_large budget_exceeded"
    ).split()
)
"""Codes that a host may use for its own failures; others say something about the daemon, and become ``host_error``."""


class HostProvider:
    """Satisfies `aiorchd.calls.ports.Provider`. ``directory`` knows who answers; ``attempt_s`` is how long one may take."""

    attempt_s: Final = None
    """Whoever answers is told how long there is; others end it."""

    def __init__(self, name: str, directory: HostDirectory, *, attempt_s: float) -> None:
        self.name = name
        self._directory = directory
        self._attempt_s = attempt_s

    async def chat(self, attempt: Attempt) -> Reply:
        """Answer a chat call; of a streamed one the whole answer is its one piece. Raises `NoModels` when nobody answers for
        the model, `HostError` when whoever does has failed."""
        call, target = attempt.call, attempt.target
        offer = self._directory.choose(attempt)
        if offer is None and not call.by_host and await self._directory.returned(call.caller.uid, target.name):
            offer = self._directory.choose(attempt)
        if offer is None:
            raise _nobody(attempt)
        left_s = min(call.deadline - trio.current_time(), self._attempt_s)
        question = {
            **call.request,
            **target.extra,
            "name": target.name,
            "model": target.provider_model,
            "request_id": call.id,
            "deadline_s": max(0.0, left_s),
        }
        try:
            answer = await offer.ask(question)
        except CallError as error:
            raise _told(error, target.name) from None
        reply = _reply(answer, attempt)
        attempt.notes["cost_usd"] = reply.cost_usd
        sink = call.sink
        if sink is not None:
            if reply.text:
                await sink.send(text=reply.text)
            if reply.tool_calls:
                await sink.send(tool_calls=[{"index": place, **one} for place, one in enumerate(reply.tool_calls)])
        return reply

    async def embed(self, attempt: Attempt) -> Reply:
        """Refuse: a host answers chat calls."""
        name = attempt.target.name
        raise UnknownModel(f"{name} is answered for by a process of the host, which makes no vectors", stage="host")

    async def check(self, models: Sequence[str], timeout_s: float) -> ProviderCheck:  # noqa: ARG002 - as the port has it
        """Say that there is no endpoint to ask."""
        return ProviderCheck(
            "ok", f"{self.name} is whichever process of the caller's own user registered for its models"
        )


def _nobody(attempt: Attempt) -> CallError:
    """Say that there is nobody to ask: there was, and it has gone, or there never was."""
    name, before = attempt.target.name, attempt.call.journal.attempts
    details = {"model": name}
    if attempt.call.by_host or (before and before[-1].model == name and before[-1].code == HostError.code):
        message = f"the connection of the process that answered for {name} was lost, and there is no other"
        return HostError(message, retryable=True, stage="host", details=details)
    message = (
        f"no process of your user answers for the model {name}: register a function for it (models.register; in Python "
        "client.register_model), or give one with the call (the argument host; in Python model_call_func)"
    )
    return NoModels(message, stage="host", details=details)


def _told(error: CallError, name: str) -> CallError:
    """Give what a host said of its failure, as far as it may say that."""
    if error.stage == "host":
        return error  # ours
    message = f"{name}: {whole_text(error.message)[:500]}"
    known = error.code in _TOLD and type(error) is not CallError
    kind = type(error) if known else HostError
    wait = error.retry_after_s
    return kind(
        message,
        retryable=error.retryable if known else False,
        retry_after_s=wait if wait is not None and 0 <= wait <= 86_400 else None,
        stage="host",
    )


def _reply(answer: Any, attempt: Attempt) -> Reply:
    """Read an answer. Raises `HostError`, saying what is wrong with it and never what it says."""
    target = attempt.target

    def wrong(what: str) -> HostError:
        return HostError(f"{target.name}: {what}", stage="host", details={"reason": "nonsense"})

    if type(answer) is str:
        answer = {"text": answer}
    if type(answer) is not dict:
        raise wrong(f"the answer must be a map with text or data, or a text; it is a {type(answer).__name__}")
    if unknown := answer.keys() - _FIELDS:
        near = ", ".join(sorted(_FIELDS))
        raise wrong(f"the answer has a field {min(unknown)[:60]!r}; known are {near}")
    if (why := _not_plain(answer)) is not None:
        raise wrong(f"the answer {why}")
    answer = packable(answer)
    text, data, reason = answer.get("text"), answer.get("data"), answer.get("finish_reason")
    calls = answer.get("tool_calls") or ()
    if text is not None and type(text) is not str:
        raise wrong(f"text must be text; it is a {type(text).__name__}")
    if type(calls) not in (list, tuple) or not all(type(one) is dict for one in calls):
        raise wrong("tool_calls must be a list of maps")
    if reason is not None and (type(reason) is not str or len(reason) > _REASON_CHARACTERS):
        raise wrong("finish_reason must be a short text")
    if not text and data is not None:
        try:
            text = json.dumps(data, ensure_ascii=False, allow_nan=False)
        except ValueError:
            raise wrong("data holds a number that JSON has no word for") from None
    if not text and not calls:
        raise wrong("the answer is empty: give text, data or tool_calls")
    try:
        usage = _usage(answer.get("usage"))
    except ValueError as error:
        raise wrong(str(error)) from None
    return Reply(
        text=text or "",
        data=data,
        tool_calls=tuple(calls),
        finish_reason=reason or ("tool_calls" if calls else "stop"),
        model=target.name,
        provider=target.provider,
        provider_model=target.provider_model,
        usage=usage,
        cost_usd=0.0 if usage is None and target.price.free else cost_usd(usage, target.price),
    )


def _usage(told: Any) -> Usage | None:
    """Read the counts; raises ValueError. What is not there was not used; nothing at all means nothing is known."""
    if told is None or told == {}:
        return None
    if type(told) is not dict:
        raise ValueError("usage must be a map")
    if unknown := told.keys() - {*_COUNTS, "estimated"}:
        raise ValueError(f"usage has a field {min(unknown)[:60]!r}; known are {', '.join(_COUNTS)} and estimated")
    counts = {name: told.get(name) or 0 for name in _COUNTS}
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count <= _MOST_TOKENS:
            raise ValueError(f"usage.{name} must be a whole number of tokens")
    return Usage(**counts, estimated=told.get("estimated") is True)


def _not_plain(value: Any) -> str | None:
    """Say what no reply can carry; walks level by level, for a stranger chooses the depth."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        following: list[Any] = []
        for node in level:
            for child in node.values() if type(node) is dict else node:
                kind = type(child)
                if kind is bytes:
                    return "holds bytes, which have no place in it"
                if kind is dict or kind is list:
                    following.append(child)
        if not following:
            return None
        level = following
    return f"is nested deeper than {DEEPEST} levels"
