"""What the simulator decides about a request, before anything is sent: a plan that the server then plays.

Deciding is synchronous and pure but for counting; sending, waiting and noticing that the client left are the
server's. That is where dialects and faults meet: a dialect says what the bytes are, a fault changes the plan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from aiorchsim.statistics import Call, Outcome

JSON_TYPE = b"application/json"
STREAM_TYPE = b"text/event-stream; charset=utf-8"


class Ending(Enum):
    """What becomes of the connection once everything was sent."""

    COMPLETE = auto()
    CUT = auto()
    """Closed although more was promised."""
    RESET = auto()
    """Reset (RST), whatever was promised."""
    NEVER = auto()
    """Nothing is sent and the client waits until it gives up."""


class Piece(NamedTuple):
    """A part of a body that is sent at its own time."""

    after_s: float
    """Seconds after the response began."""
    data: bytes
    tokens: int
    """Tokens of the answer in it."""


@dataclass(slots=True)
class Response:
    """A plan: wait `delay_s`, send head and body, or the pieces each at its time, then end as `ending` says.

    A body in pieces is sent in chunks, or, when `length` is given, as a body of that length. `outcome` is what the
    call counts as once all was sent. `prompt_tokens` are billed when sending begins, `completion_tokens` when a body
    was sent; pieces bill their own.
    """

    status: int
    body: bytes = b""
    header_lines: bytes = b""
    content_type: bytes = JSON_TYPE
    delay_s: float = 0.0
    pieces: list[Piece] | None = None
    length: int | None = None
    ending: Ending = Ending.COMPLETE
    outcome: Outcome = Outcome.ANSWERED
    call: Call | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that gets an error instead of work, in words that every dialect can put into its own form."""

    status: int
    kind: str
    """OpenAI's error type: invalid_request_error, server_error, requests, tokens."""
    message: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of provider words its errors."""

    refusal_body: Callable[[Refusal], bytes]
    error_event: Callable[[Refusal], bytes]
    """An error within a stream that began well."""
