"""``complete`` and ``embed``: from named arguments to a call, and from a reply to what the wire carries."""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Literal, Protocol

import trio

from aiorch.errors import CallError, Cancelled
from aiorch.protocol import Request
from aiorchd.calls.answer import own_fields, packed_for, timing_fields
from aiorchd.calls.call import Call
from aiorchd.calls.caller import Caller
from aiorchd.calls.host_model import HostOffer
from aiorchd.calls.leash import Leash
from aiorchd.calls.ports import DeltaSink
from aiorchd.calls.question import Prepared, Question
from aiorchd.calls.reply import Reply
from aiorchd.doors.arguments import named_arguments, parse_complete, parse_embed
from aiorchd.doors.deltas import Deltas
from aiorchd.doors.method import Asked, Packed
from aiorchd.doors.recall import LATER, Stored
from aiorchd.runtime.host_models import HostModels

_REMEMBERED_BYTES: Final = 8192
"""Longer requests are not remembered by their bytes; working out their key is little beside sending them."""


class Answering(Protocol):
    """As much of a pipeline as the doors need."""

    def prepare(self, caller: Caller, question: Question) -> Prepared:
        """Work out the identity of a question. Raises `CallError` for what can be refused by looking at it."""
        ...

    def recognise(self, caller: Caller, argument_bytes: bytes) -> Prepared | None:
        """Find what `remember` was told of equal bytes from this user."""
        ...

    def remember(self, caller: Caller, argument_bytes: bytes, prepared: Prepared) -> None:
        """Keep a prepared question for when the same bytes come again."""
        ...

    def try_hit(self, caller: Caller, prepared: Prepared, received_at: float) -> bytes | None:
        """Give the packed reply if a fresh exact answer is in memory; counted and journalled like any call."""
        ...

    def try_known_hit(self, caller: Caller, argument_bytes: bytes, received_at: float) -> bytes | None:
        """Do the same for what `recognise` finds."""
        ...

    def may_fetch(self, prepared: Prepared) -> bool:
        """Tell, without looking, whether the next two are worth asking."""
        ...

    async def fetch_hit(self, caller: Caller, prepared: Prepared, received_at: float) -> bytes | None:
        """Give the packed reply if a fresh exact answer is known to be on disk; counted and journalled like any call."""
        ...

    def read_hit(self, caller: Caller, prepared: Prepared, received_at: float) -> bytes | None:
        """Do the same without giving anybody else a turn: None also when the disk would let them wait."""
        ...

    def open_call(
        self,
        caller: Caller,
        prepared: Prepared,
        received_at: float,
        sink: DeltaSink | None,
        leash: Leash | None = None,
    ) -> Call:
        """Make the call, with its id, deadline and journal; ``leash`` ends it."""
        ...

    async def answer(self, call: Call) -> Reply:
        """Send it down the stages."""
        ...

    def dialect_of(self, model: str) -> str | None:
        """Give the dialect that a configured model is asked in, enabled or not; None when there is no such model."""
        ...


class InForce(Protocol):
    """Where the pipeline in force is found."""

    @property
    def current(self) -> Answering:
        """The pipeline, for work that does not wait."""
        ...

    def lease(self) -> AbstractContextManager[Answering]:
        """Hold it open for the length of one call."""
        ...


class Questions:
    """The handlers of ``complete`` and ``embed``, and the recall that spares a hit its task."""

    def __init__(self, generations: InForce, host_models: HostModels) -> None:
        self._generations = generations
        self._host_models = host_models

    def recall(self, caller: Caller, request: Request, received_at: float) -> Packed | object:
        """Answer from memory, or hand on the prepared question. What is wrong with it, the handler will find and say."""
        if request.method != "complete":
            return None
        pipeline = self._generations.current
        raw = request.argument_bytes
        prepared = pipeline.recognise(caller, raw) if raw is not None else None
        if prepared is None:
            try:
                prepared = pipeline.prepare(caller, parse_complete(named_arguments(request.params)))
            except CallError:
                return None
            if raw is not None and len(raw) <= _REMEMBERED_BYTES:
                pipeline.remember(caller, raw, prepared)
        packed = pipeline.try_hit(caller, prepared, received_at)
        return Packed(packed) if packed is not None else prepared

    def recall_known(self, caller: Caller, argument_bytes: bytes, received_at: float) -> bytes | None:
        """Answer from memory a request that came before in the same bytes; see `RecallKnown`."""
        return self._generations.current.try_known_hit(caller, argument_bytes, received_at)

    def recall_stored(
        self, caller: Caller, prepared: object, received_at: float
    ) -> bytes | Literal[Stored.LATER] | None:
        """Answer from disk what `recall` could not from memory; see `RecallStored`."""
        pipeline = self._generations.current
        if type(prepared) is not Prepared or prepared.owner is not pipeline or not pipeline.may_fetch(prepared):
            return None
        return pipeline.read_hit(caller, prepared, received_at) or LATER

    async def complete(self, asked: Asked) -> Any:
        """Handle ``complete``."""
        caller = asked.session.caller
        with self._generations.lease() as pipeline:
            prepared, stored = asked.prepared, asked.stored
            if type(prepared) is not Prepared or prepared.owner is not pipeline:
                prepared = pipeline.prepare(caller, parse_complete(named_arguments(asked.params)))
                stored = pipeline.may_fetch(prepared)
            if stored:
                # What is on disk needs none of the stages either, only a thread where it was not read at once; it has half a
                # second, after which a caller who ended this meanwhile is heard.
                packed = await pipeline.fetch_hit(caller, prepared, asked.received_at)
                if packed is not None:
                    return Packed(packed)
            question = prepared.question
            sink = None
            if question.call_id is not None:
                asked.session.register_call_id(question.call_id, asked.msgid)
            waited_s = 0.0
            if question.model is not None and self._host_models.awaits(caller.uid, question.model):
                began = trio.current_time()
                with trio.CancelScope(deadline=asked.received_at + (question.timeout_s or math.inf)) as patience:
                    asked.leash.hold(patience.cancel)
                    await self._returned(pipeline, caller, question)
                if asked.leash.cut:
                    raise Cancelled("cancelled by the caller", stage="door")
                prepared = pipeline.prepare(caller, prepared.asked or question)
                question, waited_s = prepared.question, trio.current_time() - began
            if question.stream:
                sink = Deltas(asked.session.outbox, question.call_id, question.notify)
            call = pipeline.open_call(caller, prepared, asked.received_at, sink, asked.leash)
            if waited_s:
                told = f"waited {waited_s:.3g} s for a process that answered for {question.model} before the daemon was started"
                call.journal.note(trio.current_time(), "host", told)
            if question.host is None:
                reply = await pipeline.answer(call)
            else:
                with self._answered_by(asked, question, call):
                    reply = await pipeline.answer(call)
        return Packed(packed_for(reply, call.id, trio.current_time() - asked.received_at))

    async def _returned(self, pipeline: Answering, caller: Caller, question: Question) -> None:
        """Wait for a model whose process may still be on its way from the daemon before. Who answers is part of what a
        question is known by, so that has to be worked out anew then."""
        model = question.model
        if model is not None and question.host is None and pipeline.dialect_of(model) is None:
            await self._host_models.returned(caller.uid, model)

    @contextmanager
    def _answered_by(self, asked: Asked, question: Question, call: Call) -> Iterator[None]:
        """Let the connection that asks answer for the model of this call, while it lasts."""
        session = asked.session
        fields: dict[str, Any] = {"msgid": asked.msgid}
        if question.call_id is not None:
            fields["call_id"] = question.call_id
        offer = HostOffer(session.callbacks, question.host or (), fields)
        with session.answers(), self._host_models.offered(call, offer):
            yield

    async def embed(self, asked: Asked) -> Any:
        """Handle ``embed``."""
        caller = asked.session.caller
        question = parse_embed(named_arguments(asked.params))
        with self._generations.lease() as pipeline:
            prepared = pipeline.prepare(caller, question)
            call = pipeline.open_call(caller, prepared, asked.received_at, None, asked.leash)
            reply = await pipeline.answer(call)
        vectors = reply.vectors or ()
        return {
            "vectors": list(vectors) if question.vectors_as_bytes else [_floats(vector) for vector in vectors],
            "model": reply.model,
            "provider": reply.provider,
            "simulated": reply.simulated,
            "usage": reply.usage.to_wire() if reply.usage is not None else None,
            **own_fields(reply),
            "id": call.id,
            "timing": timing_fields(reply.queue_s, reply.provider_s, trio.current_time() - asked.received_at),
        }


def _floats(vector: bytes) -> list[float]:
    numbers = array.array("f")
    numbers.frombytes(vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
