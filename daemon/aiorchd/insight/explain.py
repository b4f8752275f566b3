"""The whole story of one call, from the record it left: who asked, what was decided, tried, waited for and paid.

It holds no prompt and no answer. For a call that was answered by another one's answer, that one's story is told with it,
as far as it belongs to the same user.
"""

from __future__ import annotations

from typing import Any, Final

from aiorch.errors import StorageError
from aiorchd.calls.answer import timing_fields
from aiorchd.calls.journal import CallRecord
from aiorchd.store.records import Records

_DEPTH: Final = 4
"""An answer may come from a call that shared another's, and so on; records of old ones go, so chains are short."""


async def explain(records: Records, request_id: str) -> dict[str, Any] | None:
    """Tell the story of one finished call as plain data, or None when it is not known (any more).

    ``uid`` says whose it is. ``source`` is the call whose answer this one got: its story, or only ``id`` with ``kept``
    false when its record is gone, or ``id``, ``at``, ``model`` and ``provider`` when it is another user's. Raises
    `aiorch.errors.StorageError` when the records cannot be read.
    """
    record = await records.find(request_id)
    if record is None:
        return None
    story = tell(record)
    told, part, seen = record, story, {record.id}
    for _ in range(_DEPTH):
        if told.source_id is None or told.source_id in seen:
            break
        source = await _source(records, told.source_id)
        if source is None:
            part["source"] = {"id": told.source_id, "kept": False}
            break
        if source.uid != record.uid:
            part["source"] = {
                "id": source.id,
                "kept": True,
                "at": source.at,
                "model": source.model,
                "provider": source.provider,
            }
            break
        part["source"] = {"kept": True, **tell(source)}
        told, part = source, part["source"]
        seen.add(source.id)
    return story


async def _source(records: Records, source_id: str) -> CallRecord | None:
    try:
        return await records.find(source_id)
    except StorageError:
        return None  # the call that was asked for is more than nothing


def _cost(record: CallRecord) -> dict[str, Any]:
    if not record.cost_unknown_attempts:
        return {"cost_usd": record.cost_usd}
    return {
        "cost_usd": record.cost_usd,
        "cost_known_usd": record.cost_known_usd,
        "cost_unknown_attempts": record.cost_unknown_attempts,
        "cost_estimate_usd": record.cost_estimate_usd,
    }


def tell(record: CallRecord) -> dict[str, Any]:
    """Give one record as plain data."""
    usage = {
        "input": record.input_tokens,
        "cache_read": record.cache_read_tokens,
        "cache_write": record.cache_write_tokens,
        "output": record.output_tokens,
        "reasoning": record.reasoning_tokens,
    }
    return {
        "id": record.id,
        "at": record.at,
        "uid": record.uid,
        "pid": record.pid,
        "unit": record.unit,
        "kind": record.kind,
        "operation": record.operation,
        "task": record.task,
        "model": record.model,
        "provider": record.provider,
        "simulated": record.simulated,
        "streamed": record.streamed,
        "cache": record.cache,
        "error": record.error,
        "attempts": record.attempts,
        "throttled": record.throttled,
        "fallbacks": record.fallbacks,
        "hedges": record.hedges,
        "usage": None if all(count is None for count in usage.values()) else usage,
        **_cost(record),
        "saved_usd": record.saved_usd,
        "timing": timing_fields(record.queue_s, record.provider_s, record.total_s),
        "tags": list(record.tags),
        "story": record.story,
        "source": None,
    }
