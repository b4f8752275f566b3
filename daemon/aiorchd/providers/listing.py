"""Whether an endpoint is there and takes the key: ``GET /models``, which costs nothing.

Not everybody has that list, and Azure's is not that of its deployments; so an endpoint without one is ``unclear`` and
not broken, and a configured model that is missing in it is told and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final

import trio

from aiorch.errors import CallError, Overloaded, ProviderAuth, RateLimited, UnknownModel
from aiorchd.calls.ports import ProviderCheck, WallClock
from aiorchd.providers.answer import Unreadable, parse_json
from aiorchd.providers.errors import Complaint, complaint_in, error_for, read_complaint
from aiorchd.providers.secret import Secret
from aiorchd.providers.transport import Endpoint, Timeouts, Transport
from aiorchd.providers.transport.channel import Headers

_MOST_BYTES: Final = 8 * 1024 * 1024
_NO_SUCH_THING: Final = frozenset((404, 405, 410, 501))


@dataclass(frozen=True, slots=True)
class Listing:
    """Where and how to ask. ``key`` is only kept out of what is told; ``headers`` carry it, ``bare_headers`` do not."""

    provider: str
    endpoint: Endpoint
    headers: Headers
    bare_headers: Headers
    key: Secret | None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    took_s: float


async def check_listing(
    transport: Transport, listing: Listing, models: Sequence[str], wall_clock: WallClock, timeout_s: float
) -> ProviderCheck:
    """Ask for the list of models and judge the answer. A request may take ``timeout_s`` seconds to connect or to be
    answered, and twice that in all. Where it succeeded with the key there is a second one without it: a list that anybody
    gets says nothing about the key."""
    try:
        answer = await _ask(transport, listing.endpoint, listing.headers, timeout_s)
    except CallError as error:  # of the network, or no connection came free
        status = error.details.get("status")
        result = "unclear" if isinstance(error, Overloaded) else "failed" if status else "unreachable"
        return ProviderCheck(result, error.message, status)
    verdict = _judge(answer, listing, models, wall_clock)
    if verdict.result == "ok" and listing.key is not None:
        try:
            public = (await _ask(transport, listing.endpoint, listing.bare_headers, timeout_s)).status < 400
        except CallError:
            public = False
        if public:
            sentence = (
                f"{listing.provider} gives its list of models to anybody, so whether it takes the key was not seen"
            )
            return replace(verdict, result="unclear", sentence=sentence)
    return verdict


async def _ask(transport: Transport, endpoint: Endpoint, headers: Headers, timeout_s: float) -> _Answer:
    timeouts = Timeouts(connect_s=timeout_s, first_byte_s=timeout_s, idle_s=timeout_s, attempt_s=2 * timeout_s)
    began = trio.current_time()
    async with transport.stream("GET", endpoint, headers, b"", timeouts) as stream:
        body = await stream.read(_MOST_BYTES)
        return _Answer(stream.status, stream.headers, body, trio.current_time() - began)


def _judge(answer: _Answer, listing: Listing, models: Sequence[str], wall_clock: WallClock) -> ProviderCheck:
    provider, status = listing.provider, answer.status
    made = partial(ProviderCheck, status=status, took_s=answer.took_s, clock_s=_clock(answer.headers))
    payload: Any = None
    if status >= 400:
        complaint: Complaint | None = read_complaint(status, answer.body, listing.key)
    else:
        try:
            payload = parse_json(answer.body)
        except Unreadable:
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            said = kind[:40] if kind and "json" not in kind else "something that cannot be read"
            return made("failed", f"{provider} answers with {said} instead of its list of models; is base_url right?")
        complaint = complaint_in(payload, listing.key)
    if complaint is not None:
        error = error_for(complaint, answer.headers, provider=provider, model="any", wall_time=wall_clock())
        return made(*_refusal(error, status, listing))
    listed = _names(payload)
    missing = tuple(name for name in dict.fromkeys(models) if listed and not _has(listed, name))
    taken = "answers and takes the key" if listing.key is not None else "answers; the configuration names no key"
    return made("ok", f"{provider} {taken}", listed=None if listed is None else len(listed), missing=missing)


def _refusal(error: CallError, status: int, listing: Listing) -> tuple[str, str]:
    if isinstance(error, ProviderAuth):
        if listing.key is not None:
            return "refused", error.message
        return "refused", f"{listing.provider} wants a key ({status}) and the configuration names none"
    if status in _NO_SUCH_THING or isinstance(error, UnknownModel):
        told = (
            f"{listing.provider} answers {status} when asked for its models: it has no such list, or base_url is wrong"
        )
        return "unclear", told
    if isinstance(error, RateLimited) and error.retryable:
        return "unclear", error.message
    return "failed", error.message


def _names(payload: Any) -> frozenset[str] | None:
    """Find the ids in a list of models, in OpenAI's form or bare, or the names in Google's; None when it is no list."""
    google = isinstance(payload, Mapping) and "data" not in payload
    rows = payload.get("data", payload.get("models")) if isinstance(payload, Mapping) else payload
    if not isinstance(rows, list):
        return None
    named = [row.get("id", row.get("name") if google else None) for row in rows if isinstance(row, Mapping)]
    return frozenset(name for name in named if isinstance(name, str))


def _has(listed: frozenset[str], name: str) -> bool:
    """Tell whether a list has a model: by its name, below a prefix (``models/gemini…``) or with a tag (``…:latest``)."""
    return name in listed or any(one.rpartition("/")[2] == name or one.partition(":")[0] == name for one in listed)


def _clock(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None
