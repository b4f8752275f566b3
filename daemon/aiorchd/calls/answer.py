"""A reply in plain data: the map a caller gets, and the body a disk keeps.

The map has a fixed part, equal for everybody who gets this answer, and a part that belongs to one call (its id, cost
and timing). What is fixed of a cached answer is packed once and spliced into each hit.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack
import msgspec
from msgspec.structs import astuple

from aiorch.protocol import pack_around
from aiorchd.calls.reply import Reply, Usage

BODY_VERSION: Final = 1
"""First element of a stored body. A body of another version is a miss, never an error."""


_pack: Final = msgspec.msgpack.Encoder().encode


def fixed_fields(reply: Reply) -> dict[str, Any]:
    """Give the fields of the wire reply that every caller of this answer shares, in a map of the caller's own."""
    model, usage = reply.model, reply.usage
    fields: dict[str, Any] = {
        "text": reply.text,
        "data": reply.data,
        "tool_calls": list(reply.tool_calls),
        "finish_reason": reply.finish_reason,
        "model": model,
        "provider": reply.provider,
        "simulated": reply.simulated,
        "contributing_models": [model] if model else [],
        "confidence": reply.confidence,
        "confidence_scores": {},
        "usage": None if usage is None else usage.to_wire(),
        "validation": reply.validation,
    }
    if reply.extra:
        fields["extra"] = reply.extra
    return fields


def packed_for(reply: Reply, call_id: str, total_s: float) -> bytes:
    """Pack the wire reply for the one caller whose call it answers, ``total_s`` after that came. Raises `LocalProtocolError`
    for what no wire carries, saying where it stands: what was read out of the text of an answer may be such. Of what
    providers answer beside it they see themselves that it can be packed (`Reply`)."""
    fields = fixed_fields(reply)
    fields.update(own_fields(reply))
    fields["id"] = call_id
    fields["timing"] = timing_fields(reply.queue_s, reply.provider_s, total_s)
    if reply.data is None and reply.validation is None:
        try:
            return _pack(fields)
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass  # it is said below where
    return pack_around(fields, foreign_parts(reply))


def foreign_parts(reply: Reply) -> list[Any]:
    """Give what of a wire reply may be what no wire carries (see `packed_for`)."""
    return [] if reply.data is None and reply.validation is None else [reply.data, reply.validation]


def own_fields(reply: Reply) -> dict[str, Any]:
    """Give what this one caller pays and how the answer came, without id and timing."""
    if reply.cache == "miss":
        bill = reply.bill
        fields: dict[str, Any] = {
            "cost_usd": reply.cost_usd if bill is None else bill.known_usd,
            "saved_usd": 0.0,
            "cache": "miss",
            "batched": reply.batched,
            "attempts": reply.attempts,
        }
        if bill is not None and bill.unknown:
            fields |= bill.to_wire()
    else:
        saved, cache = reply.cost_usd, reply.cache
        fields = {"cost_usd": 0.0, "saved_usd": saved, "cache": cache, "batched": False, "attempts": 0}
    if reply.likeness is not None:
        fields |= {"source_id": reply.source_id, "likeness": reply.likeness}
    return fields


def timing_fields(queue_s: float, provider_s: float, total_s: float) -> dict[str, float]:
    """Split the time a call took; overhead is what is left when waiting and the provider are taken off."""
    return {
        "queue_s": queue_s,
        "provider_s": provider_s,
        "overhead_s": max(0.0, total_s - queue_s - provider_s),
        "total_s": total_s,
    }


def to_body(reply: Reply) -> bytes:
    """Pack what must outlive the process."""
    usage = reply.usage
    fields = {
        "text": reply.text,
        "data": reply.data,
        "tool_calls": reply.tool_calls,
        "finish_reason": reply.finish_reason,
        "model": reply.model,
        "provider": reply.provider,
        "provider_model": reply.provider_model,
        "usage": None if usage is None else astuple(usage),
        "cost_usd": reply.cost_usd,
        "vectors": reply.vectors,
        "validation": reply.validation,
        "extra": reply.extra,
        "provider_s": reply.provider_s,
    }
    if reply.exact_key is not None:
        fields["exact_key"] = reply.exact_key
    try:
        return _pack([BODY_VERSION, fields])
    except UnicodeEncodeError:  # half of a surrogate pair
        packed: bytes = msgpack.packb([BODY_VERSION, fields], unicode_errors="surrogatepass")
        return packed


def from_body(body: bytes) -> Reply | None:
    """Read a stored body back; None when it is of another version or makes no sense."""
    try:
        version, fields = msgpack.unpackb(body, unicode_errors="surrogatepass")
        if version != BODY_VERSION:
            return None
        usage = fields["usage"]
        if not all(type(fields[name]) is str for name in ("text", "model", "provider")):
            return None
        return Reply(
            text=fields["text"],
            data=fields["data"],
            tool_calls=tuple(fields["tool_calls"]),
            finish_reason=fields["finish_reason"],
            model=fields["model"],
            provider=fields["provider"],
            provider_model=fields["provider_model"],
            usage=None if usage is None else Usage(*usage),
            cost_usd=fields["cost_usd"],
            vectors=None if fields["vectors"] is None else tuple(fields["vectors"]),
            validation=fields["validation"],
            extra=fields["extra"],
            exact_key=fields.get("exact_key"),
            saved_s=_seconds(fields.get("provider_s")),
        )
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException):
        return None


def _seconds(value: Any) -> float | None:
    """Take what an earlier version did not keep, or kept as 0 when it had not measured it, as unknown."""
    return value if isinstance(value, float) and value > 0 else None
