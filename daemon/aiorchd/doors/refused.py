"""Who hears of calls that were turned away before anything was begun for them."""

from __future__ import annotations

from typing import Protocol

from aiorchd.calls.caller import Caller


class Refused(Protocol):
    """Hears of calls that were turned away before anything was begun for them."""

    def __call__(self, caller: Caller, code: str) -> None:
        """Count one, refused with this error code. Never waits or raises."""
        ...


def nobody_counts(caller: Caller, code: str) -> None:
    """Do nothing with it."""
