"""A provider at the other end of a network: writes in its dialect, sends over the shared transport, reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import trio

from aiorch.errors import CallError, ContentFiltered, IncompleteStream, ProviderAuth, ProviderError
from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import DeltaSink, ProviderCheck, WallClock
from aiorchd.calls.reply import Reply, Usage
from aiorchd.providers.answer import DEEPEST, ChatAnswer, Unreadable, parse_json
from aiorchd.providers.dialect import Dialect, WireRequest
from aiorchd.providers.errors import (
    ERROR_BODY_BYTES,
    Complaint,
    clean,
    complaint_in,
    error_for,
    read_complaint,
    request_id,
)
from aiorchd.providers.google_quota import quotas_violated
from aiorchd.providers.hints import limits_told, tells_limits
from aiorchd.providers.listing import Listing, check_listing
from aiorchd.providers.pricing import cost_usd
from aiorchd.providers.secret import MissingKey, Secret
from aiorchd.providers.sse import EventParser, EventTooLarge
from aiorchd.providers.streaming import Assembler, Delta, ProviderComplaint
from aiorchd.providers.transport import Response, StreamedResponse, Timeouts, Transport
from aiorchd.providers.transport.channel import Headers

# How long to wait, after an answer said that it is complete, for the end of the HTTP body: then the connection can be
# used again. Longer is not worth it.
_ENDING_GRACE_S: Final = 0.05


class RemoteProvider:
    """Satisfies `aiorchd.calls.ports.Provider`; keeps nothing of a call.

    ``name`` is the configuration's name for the endpoint and appears in errors; ``key`` is None where none is needed, and
    a `MissingKey` makes every call fail with `ProviderAuth`.
    ``wall_clock`` reads dates in ``retry-after``. Raises `ValueError`, without any secret, for headers that cannot be sent.

    ``attempt.notes`` is given ``status``, ``provider_request_id``, ``cost_usd``, ``usage`` and, when the answer was streamed,
    ``first_token_s`` (seconds from the sending of the request) and ``malformed_events``; what the headers say of rate limits
    goes to ``attempt.heard``. What of a call the dialect has no field
    for is named in the journal and in the reply's ``extra.not_sent``.
    """

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        key: Secret | MissingKey | None,
        transport: Transport,
        timeouts: Timeouts,
        wall_clock: WallClock,
    ) -> None:
        self.name = name
        self._dialect = dialect
        self._missing_key = key if isinstance(key, MissingKey) else None
        self._key = None if isinstance(key, MissingKey) else key
        self._transport = transport
        self._timeouts = timeouts
        self._wall_clock = wall_clock
        self._headers = dialect.headers(self._key)
        self._headers_embed = [(n, b"gzip") if n == b"accept-encoding" else (n, value) for n, value in self._headers]

    @property
    def attempt_s(self) -> float | None:
        """As the transport is told."""
        return self._timeouts.attempt_s

    async def chat(self, attempt: Attempt) -> Reply:
        """Answer a chat call, streamed when the call has a sink (see `Provider.chat`)."""
        if self._missing_key is not None:
            raise self._keyless(self._missing_key)
        call = attempt.call
        sink = call.sink
        asked = self._dialect.chat_request(
            call.request, attempt.target, stream=sink is not None, recurring=call.recurring
        )
        if asked.not_sent:
            told = f"{self.name} has no field for {', '.join(asked.not_sent)}: left out"
            call.journal.note(trio.current_time(), "provider", told)
        if sink is not None:
            return await self._chat_streamed(attempt, asked, sink)
        headers = _with(self._headers, asked.headers) if asked.headers else self._headers
        response = await self._transport.request("POST", asked.endpoint, headers, asked.body, self._timeouts)
        return self._reply(attempt, asked, self._read_whole(attempt, asked, response))

    async def embed(self, attempt: Attempt) -> Reply:
        """Turn each input string into a vector."""
        if self._missing_key is not None:
            raise self._keyless(self._missing_key)
        request, target = attempt.call.request, attempt.target
        asked = self._dialect.embed_request(request, target)
        headers = _with(self._headers_embed, asked.headers)
        response = await self._transport.request("POST", asked.endpoint, headers, asked.body, self._timeouts)
        self._note(attempt, response)
        payload = self._parse(attempt, response, depth=sys.maxsize)  # nothing but vectors is taken from it
        try:
            embedded = self._dialect.read_vectors(payload, len(request["input"]), request.get("dimensions"))
        except Unreadable as error:
            raise self._nonsense(attempt, error) from error
        return Reply(
            model=target.name,
            provider=target.provider,
            provider_model=embedded.provider_model or target.provider_model,
            simulated=target.simulated,
            usage=embedded.usage,
            cost_usd=cost_usd(embedded.usage, target.price),
            vectors=embedded.vectors,
        )

    async def check(self, models: Sequence[str], timeout_s: float) -> ProviderCheck:
        """Ask for the list of models, which costs nothing (see `Provider.check`)."""
        if self._missing_key is not None:
            return ProviderCheck("no_key", f"{self.name} has no key: {self._missing_key.where}")
        where = self._dialect.model_list()
        listing = Listing(self.name, where.endpoint, self._headers, self._dialect.headers(None), self._key)
        return await check_listing(
            self._transport, listing, models if where.names_count else (), self._wall_clock, timeout_s
        )

    def _keyless(self, missing: MissingKey) -> ProviderAuth:
        return ProviderAuth(f"{self.name} has no key: {missing.where}", details={"provider": self.name, "sent": False})

    async def _chat_streamed(self, attempt: Attempt, asked: WireRequest, sink: DeltaSink) -> Reply:
        assembler, began = self._dialect.assembler(self._key, asked), trio.current_time()
        headers = _with(self._headers, asked.headers)
        try:
            async with self._transport.stream("POST", asked.endpoint, headers, asked.body, self._timeouts) as stream:
                if stream.status >= 400 or _media_type(stream).endswith(("/json", "+json")):
                    # A refusal, or a server that does not stream and answers all at once.
                    limit = ERROR_BODY_BYTES if stream.status >= 400 else self._transport.max_body_bytes
                    whole = Response(stream.status, stream.headers, await stream.read(limit))
                    return await self._deliver_whole(attempt, asked, whole, sink)
                self._note(attempt, stream)
                if _media_type(stream) == "text/html":
                    raise self._nonsense(attempt, Unreadable("with text/html instead of a stream; is base_url right?"))
                await self._pump(attempt, stream, assembler, sink, began)
        except ProviderError as error:
            # What happens to the connection after a complete answer takes nothing away from it.
            if not assembler.complete:
                raise _broken_off(error, sink) from error
        if assembler.malformed:
            attempt.notes["malformed_events"] = assembler.malformed
        try:
            return self._reply(attempt, asked, assembler.answer())
        except Unreadable as unreadable:
            raise _broken_off(self._nonsense(attempt, unreadable), sink) from unreadable

    async def _pump(
        self, attempt: Attempt, stream: StreamedResponse, assembler: Assembler, sink: DeltaSink, began: float
    ) -> None:
        """Pass the pieces on as they come, until the answer is complete; raises what `Provider.chat` does."""
        parser = EventParser()
        try:
            async for chunk in stream.chunks():
                for event in parser.feed(chunk):
                    delta = assembler.take(event)
                    if delta is not None:
                        await self._pass_on(attempt, delta, sink, began)
                    elif event.name != "ping":
                        attempt.alive()
                if assembler.done:
                    # Read on to the end of the body, which is here already or about to be: then the connection is kept.
                    with trio.move_on_after(_ENDING_GRACE_S):
                        async for _ in stream.chunks():
                            pass
                    return
            for event in parser.finish():
                delta = assembler.take(event)
                if delta is not None:
                    await self._pass_on(attempt, delta, sink, began)
        except ProviderComplaint as complained:
            error = self._refusal(attempt, complained.complaint, stream)
            raise _broken_off(error, sink) from complained
        except EventTooLarge as too_large:
            raise self._nonsense(attempt, Unreadable(f"with a stream that cannot be read: {too_large}")) from too_large
        if not assembler.complete:
            damaged = f" ({assembler.malformed} of its events could not be read)" if assembler.malformed else ""
            message = f"with a stream that ends before the answer does{damaged}"
            raise self._nonsense(attempt, Unreadable(message, _told_of_nothing(assembler)))

    async def _pass_on(self, attempt: Attempt, delta: Delta, sink: DeltaSink, began: float) -> None:
        if "first_token_s" not in attempt.notes:
            attempt.notes["first_token_s"] = trio.current_time() - began
        await sink.send(text=delta.text, tool_calls=delta.tool_calls)

    async def _deliver_whole(self, attempt: Attempt, asked: WireRequest, response: Response, sink: DeltaSink) -> Reply:
        reply = self._reply(attempt, asked, self._read_whole(attempt, asked, response))
        calls = tuple({**call, "index": index} for index, call in enumerate(reply.tool_calls))
        if reply.text or calls:
            await sink.send(text=reply.text or None, tool_calls=calls or None)
        return reply

    def _read_whole(self, attempt: Attempt, asked: WireRequest, response: Response) -> ChatAnswer:
        self._note(attempt, response)
        if response.status < 400:
            usual = self._dialect.read_usual(response.body, asked)
            if usual is not None:
                return usual
        payload = self._parse(attempt, response)
        try:
            return self._dialect.read_chat(payload, asked)
        except Unreadable as error:
            raise self._nonsense(attempt, error) from error

    def _parse(self, attempt: Attempt, response: Response, *, depth: int = DEEPEST) -> Any:
        """Check status and form of a whole answer and give its JSON."""
        if response.status >= 400:
            raise self._refusal(attempt, read_complaint(response.status, response.body, self._key), response)
        try:
            payload = parse_json(response.body, depth=depth)
        except Unreadable as unreadable:
            kind = _media_type(response)
            reason = unreadable
            if not response.body:
                reason = Unreadable("with nothing")
            elif kind and "json" not in kind:
                reason = Unreadable(f"with {kind[:40]} instead of JSON; is base_url right?")
            raise self._nonsense(attempt, reason) from unreadable
        complaint = complaint_in(payload, self._key)
        if complaint is not None:
            raise self._refusal(attempt, complaint, response)
        return payload

    def _reply(self, attempt: Attempt, asked: WireRequest, answer: ChatAnswer) -> Reply:
        target = attempt.target
        cost = attempt.notes["cost_usd"] = cost_usd(answer.usage, target.price)
        attempt.notes["usage"] = answer.usage
        if answer.finish_reason == "content_filter" and not answer.text and not answer.tool_calls:
            details = {"provider": self.name}
            if answer.withheld:
                details["provider_message"] = clean(answer.withheld, self._key)
            why = f" ({details['provider_message']})" if answer.withheld else ""
            raise ContentFiltered(f"{self.name} withheld the answer by its content filter{why}", details=details)
        extra = {**answer.extra, "not_sent": list(asked.not_sent)} if asked.not_sent else answer.extra
        return Reply(
            text=answer.text,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            model=target.name,
            provider=target.provider,
            provider_model=answer.provider_model or target.provider_model,
            simulated=target.simulated,
            usage=answer.usage,
            cost_usd=cost,
            extra=extra or None,
        )

    def _note(self, attempt: Attempt, response: Response | StreamedResponse) -> None:
        notes, headers = attempt.notes, response.headers
        notes["status"] = response.status
        given = request_id(headers)
        if given:
            notes["provider_request_id"] = given
        if tells_limits(headers):
            attempt.heard(limits_told(headers, now=trio.current_time(), wall_time=self._wall_clock()))

    def _refusal(self, attempt: Attempt, complaint: Complaint, response: Response | StreamedResponse) -> CallError:
        attempt.heard(quotas_violated(complaint.raw, now=trio.current_time()))
        return error_for(
            complaint,
            response.headers,
            provider=self.name,
            model=attempt.target.provider_model,
            wall_time=self._wall_clock(),
        )

    def _nonsense(self, attempt: Attempt, error: Unreadable) -> ProviderError:
        if error.usage is not None:
            attempt.notes["cost_usd"] = cost_usd(error.usage, attempt.target.price)
            attempt.notes["usage"] = error.usage
        details = {"provider": self.name, "phase": "reading", "sent": True, "status": attempt.notes.get("status")}
        return ProviderError(f"{self.name} answered {error}", details=details)


def _told_of_nothing(assembler: Assembler) -> Usage | None:
    """What a stream told of its tokens although there is no answer in it."""
    try:
        assembler.answer()
    except Unreadable as empty:
        return empty.usage
    return None  # part of an answer: what was told of its tokens may be part of them


def _with(fixed: Headers, further: Headers) -> Headers:
    """Add headers; one of the same name is replaced."""
    if not further:
        return fixed
    names = {name for name, _ in further}
    return [*(one for one in fixed if one[0] not in names), *further]


def _media_type(response: Response | StreamedResponse) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _broken_off(error: CallError, sink: DeltaSink) -> CallError:
    """Once content reached the caller, whatever ends the answer early is an incomplete stream."""
    if not sink.started:
        return error
    return IncompleteStream(
        f"the answer broke off: {error.message}",
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        details=error.details,
    )
