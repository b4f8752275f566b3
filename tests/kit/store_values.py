"""Answers and records for tests of the store, and a wall clock that stands still until it is moved."""

from __future__ import annotations

from typing import Any

from aiorchd.calls.journal import CallRecord
from aiorchd.calls.ports import StoredAnswer

NOON = 1_790_000_000.0 // 86_400 * 86_400 + 43_200


class StandingClock:
    """Tells ``now`` until somebody sets it."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class StillWriter:
    """A writer that never comes by itself: the test is the writer."""

    def __init__(self) -> None:
        self.hurried = False

    def wake(self, *, hurry: bool = False) -> None:
        """Remember whether there was a hurry."""
        self.hurried = self.hurried or hurry

    def tidy_soon(self) -> None:
        """Nothing to remember."""


def a_key(number: int) -> bytes:
    """The key of answer ``number``."""
    return b"\x01" + number.to_bytes(32, "big")


def an_answer(number: int, **fields: Any) -> StoredAnswer:
    """Answer ``number``: fresh at `NOON` for an hour."""
    return StoredAnswer(
        **{
            "key": a_key(number),
            "body": f"answer {number}".encode(),
            "stored_at": NOON,
            "expires_at": NOON + 3600,
            "source_id": f"call-{number}",
            "uid": 1000,
            "partition": "",
            "model": "small",
            "tags": (),
            "cost_usd": 0.25,
            **fields,
        }
    )


def a_record(number: int, **fields: Any) -> CallRecord:
    """A call that a provider answered."""
    return CallRecord(
        **{
            "id": f"call-{number}",
            "at": NOON,
            "uid": 1000,
            "pid": 4242,
            "unit": "user",
            "kind": "chat",
            "model": "small",
            "provider": "main",
            "cache": "miss",
            "attempts": 1,
            "input_tokens": 100,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "output_tokens": 20,
            "reasoning_tokens": 0,
            "cost_usd": 0.25,
            "saved_usd": 0.0,
            "queue_s": 0.01,
            "provider_s": 0.2,
            "total_s": 0.211,
            "story": {"notes": [[0.0, "route", "small"]], "attempts": []},
            **fields,
        }
    )


def a_hit(number: int, **fields: Any) -> CallRecord:
    """A call that was answered from the cache."""
    return CallRecord(
        **{
            "id": f"hit-{number}",
            "at": NOON,
            "uid": 1000,
            "pid": 4242,
            "unit": "user",
            "kind": "chat",
            "model": "small",
            "provider": "main",
            "cache": "exact",
            "cost_usd": 0.0,
            "saved_usd": 0.25,
            "total_s": 20e-6,
            "source_id": "call-1",
            **fields,
        }
    )
