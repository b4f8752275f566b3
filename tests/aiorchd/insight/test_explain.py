"""The story of one call: pending or written, with the call whose answer it got, as far as it is the same user's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from store_values import NOON, a_hit, a_record

from aiorch.errors import StorageError
from aiorchd.insight.explain import explain
from aiorchd.store.records import Records


def write(records: Records) -> None:
    batch = records.collect()
    assert batch is not None
    records.file.transact(lambda connection: records.write(connection, batch))
    records.written(batch)


@pytest.mark.parametrize("written", [False, True])
async def test_a_call_that_a_provider_answered(records: Records, written: bool) -> None:
    records.record(a_record(1, tags=("a",), operation="tag"))
    if written:
        write(records)
    told = await explain(records, "call-1")
    assert told is not None
    assert told == {
        "id": "call-1",
        "at": NOON,
        "uid": 1000,
        "pid": 4242,
        "unit": "user",
        "kind": "chat",
        "operation": "tag",
        "task": None,
        "model": "small",
        "provider": "main",
        "simulated": False,
        "streamed": False,
        "cache": "miss",
        "error": None,
        "attempts": 1,
        "throttled": 0,
        "fallbacks": 0,
        "hedges": 0,
        "usage": {"input": 100, "cache_read": 0, "cache_write": 0, "output": 20, "reasoning": 0},
        "cost_usd": 0.25,
        "saved_usd": 0.0,
        "timing": {
            "queue_s": 0.01,
            "provider_s": 0.2,
            "overhead_s": pytest.approx(0.001),
            "total_s": 0.211,
        },
        "tags": ["a"],
        "story": {"notes": [[0.0, "route", "small"]], "attempts": []},
        "source": None,
    }
    assert json.dumps(told)


async def test_an_unknown_call_has_no_story(records: Records) -> None:
    assert await explain(records, "call-1") is None


async def test_a_hit_is_told_with_the_call_that_paid(records: Records) -> None:
    records.record(a_record(1))
    write(records)
    records.record_hits([a_hit(1)])
    told = await explain(records, "hit-1")
    assert told is not None
    assert (told["cache"], told["cost_usd"], told["saved_usd"], told["usage"]) == ("exact", 0.0, 0.25, None)
    assert told["source"]["id"] == "call-1"
    assert told["source"]["kept"] is True
    assert told["source"]["story"] == {"notes": [[0.0, "route", "small"]], "attempts": []}


async def test_a_chain_is_followed_and_a_ring_is_not(records: Records) -> None:
    records.record(a_record(1))
    records.record_hits([a_hit(2, source_id="call-1"), a_hit(3, source_id="hit-2")])
    told = await explain(records, "hit-3")
    assert told is not None
    assert told["source"]["source"]["id"] == "call-1"
    assert told["source"]["source"]["source"] is None
    records.record_hits([a_hit(4, source_id="hit-5"), a_hit(5, source_id="hit-4"), a_hit(6, source_id="hit-6")])
    ring = await explain(records, "hit-4")
    assert ring is not None
    assert ring["source"]["source"] is None
    itself = await explain(records, "hit-6")
    assert itself is not None
    assert itself["source"] is None


async def test_a_source_whose_record_is_gone_is_named(records: Records) -> None:
    records.record_hits([a_hit(1)])
    told = await explain(records, "hit-1")
    assert told is not None
    assert told["source"] == {"id": "call-1", "kept": False}


async def test_another_users_call_is_not_told(records: Records) -> None:
    records.record(a_record(1, uid=5, tags=("secret",)))
    records.record_hits([a_hit(1)])
    told = await explain(records, "hit-1")
    assert told is not None
    assert told["source"] == {"id": "call-1", "kept": True, "at": NOON, "model": "small", "provider": "main"}


async def test_the_call_itself_is_told_though_its_source_cannot_be_read(records: Records) -> None:
    records.record_hits([a_hit(1)])

    async def fail(question: Any) -> Any:
        raise StorageError("no")

    records.ask = fail  # type: ignore[method-assign]
    told = await explain(records, "hit-1")
    assert told is not None
    assert told["source"] == {"id": "call-1", "kept": False}
    with pytest.raises(StorageError):
        await explain(records, "call-9")
