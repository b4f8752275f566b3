"""Turnstiles as a configuration would make them, with a fixed number of permits unless told otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from aiorchd.calls.call import Attempt
from aiorchd.core.concurrency import ConcurrencyBounds
from aiorchd.core.quota_account import Limits, QuotaAccount
from aiorchd.runtime.turnstile import TargetTurnstile, Turn


def fixed(permits: int) -> ConcurrencyBounds:
    """So many permits, whatever happens."""
    return ConcurrencyBounds(initial=permits, most=permits, algorithm="fixed")


def a_turnstile(permits: int, *, max_waiting: int = 1000, name: str = "small", **limits: Any) -> TargetTurnstile:
    """A turnstile with an account of its own; ``limits`` are those of `Limits`."""
    account = QuotaAccount(f"model {name}", Limits(**limits))
    return TargetTurnstile(name, bounds=fixed(permits), accounts=[account], max_waiting=max_waiting)


def change(turnstile: TargetTurnstile, now: float, permits: int, *, max_waiting: int = 1000, **limits: Any) -> None:
    """Do what a reload does."""
    account = turnstile._accounts[0]
    account.reconfigure(now, Limits(**limits))
    turnstile.reconfigure(now, bounds=fixed(permits), accounts=[account], max_waiting=max_waiting)


@asynccontextmanager
async def passing(turnstile: TargetTurnstile, attempt: Attempt) -> AsyncIterator[Turn]:
    """Wait for a turn and hold it for the length of the block, as `stages.gate` does."""
    turn = turnstile.ask(attempt, trio.current_time())
    if not turn.granted:
        await turn.wait()
    try:
        yield turn
    finally:
        turn.leave(trio.current_time())
