"""JSON out of answers, checked: into ``data`` when a schema or JSON was asked for, or a clear no.

What was asked for is ``output_schema``, or ``extra.response_format`` of type ``json_schema`` or ``json_object``. A schema
that is wrong is refused before anything is spent.

An answer is read leniently but honestly (see ``core/json_answer``): ``validation`` says ``schema`` (whether there was
one), ``ok``, ``repaired`` (what wrapping was undone) and ``reasked`` (how often it had to be asked again). A bad answer
is asked for again, elsewhere if there is an elsewhere: ``Call.avoid`` names whose answer was bad, and Route decides. Not
asked again are: a streamed call once content was sent, which is told by ``validation.ok`` false, with ``path`` and
``reason``; an answer cut at its limit of tokens, which the same limit would cut again; and when time is up. An answer that
calls tools is no answer yet, and is passed on as it is. What bad answers cost is added to the good one's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio
from msgspec.structs import replace

from aiorch.errors import CallError, ValidationFailed
from aiorchd.calls.call import Call
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply, with_cost_of
from aiorchd.core.json_answer import NotOneJsonValueError, read_json_answer


class Schemas(Protocol):
    """Makes checks of JSON Schemas."""

    def check(self, schema: Any, where: str) -> Callable[[Any], tuple[str, str] | None]:
        """Give the check of a schema, which looks at a value and gives the place and the reason of what is wrong, or None.
        Raises `InvalidRequest` for a wrong schema, naming the place below ``where``."""
        ...


@dataclass(frozen=True, slots=True)
class ValidateStatistics:
    """Calls inside now; and since this stage was built: answers checked, found bad, asked for again, and read only after
    some wrapping was undone."""

    inside: int
    checked: int
    bad: int
    reasked: int
    repaired: int


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What an answer must be: JSON, and valid for ``check`` if there is one. ``check`` gives path and reason, or None."""

    check: Callable[[Any], tuple[str, str] | None] | None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What came of one answer."""

    data: Any = None
    repaired: tuple[str, ...] = ()
    path: str = "$"
    reason: str | None = None
    """Why it is bad; None when it is good."""


class Validate:
    """Check answers to calls that asked for JSON. ``max_reasks`` bounds how often a bad answer is asked for again.

    Raises `InvalidRequest` for a wrong schema and `ValidationFailed` for a bad answer, with ``details``: ``path``,
    ``reason``, ``model``, ``reasked``, ``finish_reason``, ``cost_usd``; of the answer itself at most a short excerpt.
    """

    def __init__(self, inner: Service[Call], schemas: Schemas, *, max_reasks: int = 1) -> None:
        self._inner = inner
        self._schemas = schemas
        self._max_reasks = max_reasks
        self._inside = self._checked = self._bad = self._reasked = self._repaired = 0

    def __call__(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Answer ``call`` with ``data`` as asked."""
        if len(call.request) == 1:  # as most: nothing but messages
            return self._inner(call)
        wanted = self._wanted(call)
        return self._inner(call) if wanted is None else self._check(call, wanted)

    def statistics(self) -> ValidateStatistics:
        """Tell what was checked."""
        return ValidateStatistics(
            inside=self._inside,
            checked=self._checked,
            bad=self._bad,
            reasked=self._reasked,
            repaired=self._repaired,
        )

    async def _check(self, call: Call, wanted: _Wanted) -> Reply:
        self._inside += 1
        try:
            return await self._answer(call, wanted)
        finally:
            self._inside -= 1

    async def _answer(self, call: Call, wanted: _Wanted) -> Reply:
        reply = await self._inner(call)
        asking = call
        reasked = 0
        while not reply.tool_calls:
            verdict = self._judge(wanted, reply)
            if verdict.reason is None:
                return replace(reply, data=verdict.data, validation=_told(wanted, verdict, reasked))
            self._bad += 1
            now = trio.current_time()
            call.journal.note(now, "validate", f"the answer of {reply.model} is no good at {verdict.path}")
            if call.sink is not None and call.sink.started:
                return replace(reply, data=None, validation=_told(wanted, verdict, reasked))
            if reasked >= self._max_reasks or reply.finish_reason == "length" or now >= asking.deadline:
                raise _failure(reply, verdict, reasked)
            reasked += 1
            self._reasked += 1
            asking = replace(call, avoid=(*asking.avoid, reply.model))
            try:
                another = await self._inner(asking)
            except CallError as error:
                # The bad answer is what the caller should hear of; why there is no other comes with it.
                failure = _failure(reply, verdict, reasked)
                failure.details["reask_error"] = error.code
                try:
                    raise failure from error
                finally:
                    del failure  # its traceback refers to this frame: no cycle that would keep the prompt
            reply = _with_cost_of(another, reply)
        return reply

    def _judge(self, wanted: _Wanted, reply: Reply) -> _Verdict:
        self._checked += 1
        try:
            answer = read_json_answer(reply.text)
        except NotOneJsonValueError as error:
            cut = ", and it was cut at its limit of tokens" if reply.finish_reason == "length" else ""
            return _Verdict(reason=f"{error}{cut}")
        self._repaired += bool(answer.repaired)
        wrong = wanted.check(answer.value) if wanted.check is not None else None
        if wrong is not None:
            return _Verdict(path=wrong[0], reason=wrong[1])
        return _Verdict(data=answer.value, repaired=answer.repaired)

    def _wanted(self, call: Call) -> _Wanted | None:
        schema = call.request.get("output_schema")
        if schema is not None:
            return _Wanted(self._schemas.check(schema, "output_schema"))
        extra = call.request.get("extra")
        if extra is None:
            return None
        wanted = extra.get("response_format") if isinstance(extra, Mapping) else None
        if not isinstance(wanted, Mapping):
            return None
        if wanted.get("type") == "json_object":
            return _ANY_JSON
        if wanted.get("type") == "json_schema":
            named = wanted.get("json_schema")
            schema = named.get("schema") if isinstance(named, Mapping) else None
            if schema is None:
                return _ANY_JSON
            return _Wanted(self._schemas.check(schema, "extra.response_format.json_schema.schema"))
        return None


_ANY_JSON: Final = _Wanted(None)


def _told(wanted: _Wanted, verdict: _Verdict, reasked: int) -> dict[str, Any]:
    told = {
        "schema": wanted.check is not None,
        "ok": verdict.reason is None,
        "repaired": list(verdict.repaired),
        "reasked": reasked,
    }
    return told if verdict.reason is None else {**told, "path": verdict.path, "reason": verdict.reason}


def _failure(reply: Reply, verdict: _Verdict, reasked: int) -> ValidationFailed:
    return ValidationFailed(
        f"the answer of {reply.model} is not what was asked for at {verdict.path}: {verdict.reason}",
        stage="validate",
        details={
            "path": verdict.path,
            "reason": verdict.reason,
            "model": reply.model,
            "reasked": reasked,
            "finish_reason": reply.finish_reason,
            **({"cost_usd": reply.cost_usd} if reply.bill is None else reply.bill.to_wire()),
        },
    )


def _with_cost_of(reply: Reply, earlier: Reply) -> Reply:
    """Add what an earlier, bad answer took to the one that came after it."""
    summed = with_cost_of(
        reply, usage=earlier.usage, cost_usd=earlier.cost_usd, bill=earlier.bill, attempts=earlier.attempts
    )
    return replace(summed, queue_s=reply.queue_s + earlier.queue_s, provider_s=reply.provider_s + earlier.provider_s)
