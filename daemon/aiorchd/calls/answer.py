"""A reply in plain data: the map a caller gets, and the body a disk keeps.

The map has a fixed part, equal for everybody who gets this answer, and a part that belongs to one call (its id, cost
and timing). The fixed part is packed once when an answer is cached and spliced into each hit.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from aiorchd.calls.reply import Reply, Usage

BODY_VERSION: Final = 1
"""First element of a stored body. A body of another version is a miss, never an error."""


def fixed_fields(reply: Reply) -> dict[str, Any]:
    """Give the fields of the wire reply that every caller of this answer shares."""
    fields: dict[str, Any] = {
        "text": reply.text,
        "data": reply.data,
        "tool_calls": list(reply.tool_calls),
        "finish_reason": reply.finish_reason,
        "model": reply.model,
        "provider": reply.provider,
        "simulated": reply.simulated,
        "contributing_models": [reply.model] if reply.model else [],
        "confidence": reply.confidence,
        "confidence_scores": {},
        "usage": reply.usage.to_wire() if reply.usage is not None else None,
        "validation": reply.validation,
    }
    if reply.extra:
        fields["extra"] = reply.extra
    return fields


def foreign_parts(reply: Reply) -> list[Any]:
    """Give what of a wire reply may be what no wire carries: what was read out of the text of an answer. Of what providers
    answer beside it they see themselves that it can be packed (`Reply`)."""
    return [] if reply.data is None and reply.validation is None else [reply.data, reply.validation]


def own_fields(reply: Reply) -> dict[str, Any]:
    """Give what this one caller pays and how the answer came, without id and timing."""
    if reply.cache == "miss":
        bill = reply.bill
        fields: dict[str, Any] = {"cost_usd": reply.cost_usd} if bill is None else bill.to_wire()
        fields |= {"saved_usd": 0.0, "cache": "miss", "batched": reply.batched, "attempts": reply.attempts}
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
    packed: bytes = msgpack.packb(
        [
            BODY_VERSION,
            {
                "text": reply.text,
                "data": reply.data,
                "tool_calls": list(reply.tool_calls),
                "finish_reason": reply.finish_reason,
                "model": reply.model,
                "provider": reply.provider,
                "provider_model": reply.provider_model,
                "usage": None
                if usage is None
                else [
                    usage.input,
                    usage.cache_read,
                    usage.cache_write,
                    usage.output,
                    usage.reasoning,
                    usage.estimated,
                    usage.cache_write_1h,
                ],
                "cost_usd": reply.cost_usd,
                "vectors": None if reply.vectors is None else list(reply.vectors),
                "validation": reply.validation,
                "extra": reply.extra,
                **({} if reply.exact_key is None else {"exact_key": reply.exact_key}),
                "provider_s": reply.provider_s,
            },
        ],
        unicode_errors="surrogatepass",
    )
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
