"""What the simulator decides about a request, before anything is sent: a plan that the server then plays.

Deciding is synchronous and pure but for counting; sending, waiting and noticing that the client left are the
server's. That is where dialects and faults meet: a dialect says what the bytes are, a fault changes the plan.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from aiorchsim.buckets import RateLimits, Refused
from aiorchsim.prompt_cache import NOTHING_CACHED, Cached
from aiorchsim.statistics import Call, Outcome

JSON_TYPE = b"application/json"
STREAM_TYPE = b"text/event-stream; charset=utf-8"
HTML_TYPE = b"text/html; charset=utf-8"


class Ending(Enum):
    """What becomes of the connection once everything was sent."""

    COMPLETE = auto()
    CUT = auto()
    """Closed although more was promised."""
    RESET = auto()
    """Reset (RST), whatever was promised."""
    NEVER = auto()
    """Nothing more is sent and the client waits until it gives up."""


class Piece(NamedTuple):
    """A part of a body that is sent at its own time."""

    after_s: float
    """Seconds after the response began."""
    data: bytes
    tokens: int
    """Tokens of the answer in it."""


class Shape(Enum):
    """Which form of an answer is told."""

    WHOLE = auto()
    EMPTY = auto()
    """No choice, no content, no candidate; otherwise in order."""
    FILTERED = auto()
    """Withheld by the provider's content filter."""


class Rendering(NamedTuple):
    """What goes into the bytes of an answer beside the answer itself."""

    serial: int
    """Makes its id unique."""
    created: int
    """Seconds since 1970."""
    cached: Cached = NOTHING_CACHED
    usage: bool = True
    """Whether tokens are told."""
    shape: Shape = Shape.WHOLE


@dataclass(slots=True)
class Response:
    """A plan: wait `delay_s`, send head and body, or the pieces each at its time, then end as `ending` says.

    A body in pieces is sent in chunks, or, when `length` is given, as a body of that length. `outcome` is what the
    call counts as once all was sent. `prompt_tokens` are billed when sending begins, `completion_tokens` when a body
    was sent; pieces bill their own. `skew_s` is how far ahead the clock of the Date header is.
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
    cached: Cached = NOTHING_CACHED
    completion_tokens: int = 0
    skew_s: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that gets an error instead of work, in words that every dialect can put into its own form."""

    status: int
    kind: str
    """OpenAI's error type: invalid_request_error, server_error, requests, tokens."""
    message: str
    code: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    """When to come again, where that is to be told."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of provider words its errors, limits and ids, and where it looks for the key."""

    name: str
    refusal_body: Callable[[Refusal], bytes]
    error_event: Callable[[Refusal], bytes]
    """An error within a stream that began well."""
    broken_event: bytes
    """An event of a stream that is no JSON."""
    rate_limited: Callable[[str, Refused, bool], Refusal]
    """The refusal of a call to a model that its limits did not let in; whether it says when to come again."""
    limit_lines: Callable[[RateLimits, float, int], bytes]
    """Header lines that tell the limits: now on the simulator's clock, and in seconds since 1970."""
    retry_lines: Callable[[float], bytes]
    """Header lines of a 429 that may come again after so many seconds."""
    key_of: Callable[[Mapping[str, str], str], str]
    """The API key in a request's headers or query; empty when there is none."""
    id_line: bytes = b""
    """The header line that names a response, with %x for its number; none when empty."""
    time_line: bytes = b""
    """The header line that tells how many milliseconds the work took, with %d for them; none when empty."""
    statuses: Mapping[str, int] | None = None
    """Statuses that are this provider's own, by the refusal's code."""

    def refused(self, refusal: Refusal) -> Response:
        """The response that a refusal is."""
        status = refusal.status
        if self.statuses is not None and refusal.code is not None:
            status = self.statuses.get(refusal.code, status)
        outcome = Outcome.RATE_LIMITED if status == 429 else Outcome.ERRORS
        response = Response(status, self.refusal_body(refusal), outcome=outcome)
        if refusal.retry_after_s is not None:
            response.header_lines = self.retry_lines(refusal.retry_after_s)
        return response
