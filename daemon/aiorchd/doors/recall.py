"""Answering what is known, in the reader: what a session asks before anything else is done for a request."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, Protocol

from aiorch.protocol import Request
from aiorchd.calls.caller import Caller
from aiorchd.doors.method import Packed


class Recall(Protocol):
    """Answers from memory."""

    def __call__(self, caller: Caller, request: Request, received_at: float) -> Packed | object:
        """Give the answer, or whatever of the work is done already for the method's handler. Never waits or raises."""
        ...


class RecallKnown(Protocol):
    """Answers from memory to a request that is known by its bytes, before it is decoded."""

    def __call__(self, caller: Caller, argument_bytes: bytes, received_at: float) -> bytes | None:
        """Give the packed result, or None when these bytes are not known or the answer is not. Never waits or raises."""
        ...


class Stored(Enum):
    """What a look on disk may say besides an answer."""

    LATER = "an answer is probably there, and may only be read by who waits for it"


LATER: Final = Stored.LATER


class RecallStored(Protocol):
    """Answers from disk, where that makes nobody wait, in the turn in which the request would begin."""

    def __call__(self, caller: Caller, prepared: object, received_at: float) -> bytes | Literal[Stored.LATER] | None:
        """Give the packed result for what `Recall` made of a request. Else it has to begin: None when it need not look there,
        `LATER` when it should. Holds everybody up for a millisecond at most; never raises."""
        ...


def nothing_known(caller: Caller, argument_bytes: bytes, received_at: float) -> bytes | None:  # noqa: ARG001
    """Know no request by its bytes."""
    return None


def nothing_stored(caller: Caller, prepared: object, received_at: float) -> bytes | None:  # noqa: ARG001
    """Find nothing on any disk."""
    return None
