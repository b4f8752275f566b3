"""Records read from the wire: whole, short, newer and strange maps."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import pytest

import aiorch
from aiorch.reply import Embedding, Reply, Server, Timing, Usage

WHOLE: dict[str, Any] = {
    "id": "r1",
    "text": "three tags",
    "data": {"tags": ["a"]},
    "tool_calls": [{"id": "t"}],
    "finish_reason": "stop",
    "model": "small",
    "provider": "main",
    "simulated": True,
    "contributing_models": ["small", "large"],
    "confidence": 0.75,
    "confidence_scores": {"small": 0.5},
    "usage": {"input": 1, "cache_read": 2, "cache_write": 3, "output": 4, "reasoning": 5, "estimated": True},
    "cost_usd": 0.25,
    "saved_usd": 0.5,
    "cache": "exact",
    "batched": True,
    "attempts": 2,
    "timing": {"queue_s": 0.1, "provider_s": 0.2, "overhead_s": 0.3, "total_s": 0.6},
    "validation": {"schema": "ok"},
    "extra": {"system_fingerprint": "x"},
}


def test_a_whole_reply() -> None:
    reply = Reply.from_wire(WHOLE)
    plain = {name: getattr(reply, name) for name in WHOLE}
    assert plain == {
        **WHOLE,
        "tool_calls": ({"id": "t"},),
        "contributing_models": ("small", "large"),
        "usage": Usage(1, 2, 3, 4, 5, estimated=True),
        "timing": Timing(0.1, 0.2, 0.3, 0.6),
    }
    assert reply.usage is not None
    assert reply.usage.total == 15


def test_what_is_missing_takes_its_default() -> None:
    reply = Reply.from_wire({})
    assert (reply.id, reply.text, reply.data, reply.tool_calls, reply.finish_reason) == ("", "", None, (), None)
    assert (reply.usage, reply.timing, reply.cache, reply.attempts) == (None, Timing(), "miss", 0)
    assert (reply.cost_usd, reply.saved_usd, reply.confidence) == (None, None, None)
    assert (reply.simulated, reply.batched) == (False, False)
    assert (reply.contributing_models, dict(reply.confidence_scores), dict(reply.extra)) == ((), {}, {})


def test_what_is_new_stays_in_raw() -> None:
    assert Reply.from_wire({"text": "x", "mood": "good"}).raw["mood"] == "good"


def test_a_reply_is_a_value() -> None:
    reply = Reply.from_wire(WHOLE)
    assert reply == Reply.from_wire(dict(WHOLE))
    assert reply != Reply.from_wire({})
    assert pickle.loads(pickle.dumps(reply)) == reply
    with pytest.raises((AttributeError, TypeError)):
        reply.text = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        reply.raw = {}  # type: ignore[misc]
    assert repr(reply) == "<Reply r1 text='three tags' model='small' cache='exact' cost_usd=0.25 finish_reason='stop'>"
    assert len(repr(Reply.from_wire({"text": "x" * 5000}))) < 200


@pytest.mark.parametrize("result", [None, [], "text", 7])
def test_what_is_no_map_is_no_reply(result: Any) -> None:
    for record in (Reply, Embedding, Server):
        with pytest.raises(aiorch.RemoteProtocolError, match="the result must be a map"):
            record.from_wire(result)


def test_vectors_in_either_encoding_are_the_same() -> None:
    numbers = (1.0, -0.5, 0.25)
    packed = Embedding.from_wire({"vectors": [struct.pack("<3f", *numbers)], "model": "e", "id": "x", "more": 1})
    listed = Embedding.from_wire({"vectors": [list(numbers)], "model": "e", "id": "x", "more": 1})
    assert packed == listed
    assert packed.vectors == (numbers,)
    assert packed.raw == {"model": "e", "id": "x", "more": 1}
    assert Embedding.from_wire({}).vectors == ()


@pytest.mark.parametrize("vector", [b"abc", "text", None, 7])
def test_what_is_no_vector_is_refused(vector: Any) -> None:
    with pytest.raises(aiorch.RemoteProtocolError, match="a vector must be"):
        Embedding.from_wire({"vectors": [vector]})


def test_greetings() -> None:
    server = Server.from_wire(
        {"version": "1", "protocol": 1, "uid": 0, "gid": 0, "pid": 5, "unit": "user", "admin": True}
    )
    assert (server.version, server.protocol, server.uid, server.pid, server.unit, server.admin) == (
        "1",
        1,
        0,
        5,
        "user",
        True,
    )
    assert Server.from_wire({}).uid is None
