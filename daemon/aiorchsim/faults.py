"""Named faults: things that go wrong at providers, on demand, in every dialect.

Some come instead of any work, others change how an answer is rendered, others spoil the plan of an answer that was
good. A call suffers one by a rule (`fault_rules`), by the header `x-aiorchsim-fault` of its request, or by the end of
the model's name: `small+stall` is the model `small` and the fault `stall`. Either may bring the fault's own number of
seconds: `slow_first_token=0.3`.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from email.utils import formatdate
from enum import StrEnum
from typing import Final, NamedTuple, Self

from aiorchsim.responses import (
    HTML_TYPE,
    STREAM_TYPE,
    Dialect,
    Ending,
    Piece,
    Refusal,
    Rendering,
    Response,
    Shape,
)
from aiorchsim.statistics import Outcome

SLOW_PIECES: Final = 8
SKEW_S: Final = 3600
LONGEST_S: Final = 86_400.0
NONSENSE: Final = b'{"id": chatcmpl-\xff\x00<html><body>502 Bad Gateway</body></html>'
PAGE: Final = (
    b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>\n"
)


class Fault(StrEnum):
    """The faults there are, each with what it does."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        """A member is its name; the meaning is kept beside it."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    HANG = "hang", "never answers, the connection stays open; with seconds: answers so much later"
    REFUSE = "refuse", "closes the connection at once, without an answer"
    RESET = "reset", "resets the connection at once (RST)"
    CUT_STREAM = "cut_stream", "closes the connection in the middle of the answer, streamed or not"
    NONSENSE = "nonsense", "200 with a body that is no JSON; a stream of one event that is no JSON"
    ERROR_500 = "error_500", "500 as the provider words it"
    ERROR_503 = "error_503", "503 as the provider words it, overloaded"
    RATE_LIMITED = "rate_limited", "429 that says when to come again (1 s, or its seconds), whatever the limits say"
    SLOW_STREAM = "slow_stream", "a quarter of a second (or its seconds) between the pieces, streamed or not"
    AUTH = "auth", "the answer to a key that is wrong: 401, for Gemini 400"
    REDIRECT = "redirect", "302 to the same simulator under another host name, where being followed is counted"
    STREAM_ERROR = (
        "stream_error",
        "an error event in the middle of a stream that began with 200; 500 when the answer is not streamed",
    )
    ERROR_502 = "error_502", "502 with a page of HTML, as a proxy in between answers"
    ERROR_529 = "error_529", "529 overloaded, Anthropic's own status; for Gemini 503 UNAVAILABLE"
    RATE_LIMITED_NO_HINT = "rate_limited_no_hint", "429 that does not say when to come again"
    NO_CREDIT = "no_credit", "the account is empty: 429 insufficient_quota, for Anthropic 400, for Gemini 429"
    SKEWED_CLOCK = (
        "skewed_clock",
        "429 that says when to come again (1 s) by the date of a clock that is an hour ahead, as its Date header is",
    )
    QUOTA_EATEN = (
        "quota_eaten",
        "somebody else has used up the model's limits a moment before; then as usual (429, where it has limits)",
    )
    SLOW_FIRST_TOKEN = "slow_first_token", "a stream begins at once, its first token comes 1 s (or its seconds) later"
    STALL = "stall", "half of the answer, then nothing more while the connection stays open; with seconds: a pause"
    MALFORMED_LINE = "malformed_line", "a stream with an event in its middle that is no JSON, otherwise whole"
    ERROR_IN_200 = "error_in_200", "200 whose body, or whose first event, is an error"
    TRUNCATED_JSON = "truncated_json", "200 that ends in the middle of its JSON, as if it were whole; so too a stream"
    ENDS_EARLY = "ends_early", "a stream that ends in order after half of its events, without its last"
    WRONG_CONTENT_TYPE = "wrong_content_type", "200 with a page of HTML"
    EMPTY_CHOICES = "empty_choices", "200 in order, without any choice, content or candidate"
    CONTENT_FILTER = "content_filter", "200 whose answer the provider's filter has withheld"
    MISSING_USAGE = "missing_usage", "an answer that does not tell its tokens"
    DUPLICATED_CHUNKS = "duplicated_chunks", "a stream whose pieces of text each come twice"
    DUPLICATED_END = "duplicated_end", "a stream whose closing events (finish reason, usage) come twice"


FAULTS: Final[Mapping[str, Fault]] = {fault.value: fault for fault in Fault}

STREAMS_ONLY: Final = frozenset([Fault.MALFORMED_LINE, Fault.ENDS_EARLY, Fault.DUPLICATED_CHUNKS, Fault.DUPLICATED_END])
"""A whole answer that is to suffer one of these goes its way unspoiled."""

SECONDS: Final[Mapping[Fault, float]] = {
    Fault.RATE_LIMITED: 1.0,
    Fault.SLOW_STREAM: 0.25,
    Fault.SLOW_FIRST_TOKEN: 1.0,
    Fault.SKEWED_CLOCK: 1.0,
}
_TIMED: Final = frozenset([*SECONDS, Fault.HANG, Fault.STALL])

REFUSALS: Final[Mapping[Fault, Refusal]] = {
    Fault.ERROR_500: Refusal(
        500, "server_error", "The server had an error while processing your request. Sorry about that!"
    ),
    Fault.ERROR_503: Refusal(
        503,
        "server_error",
        "The server is currently overloaded with other requests. Please try again later.",
        "server_is_overloaded",
    ),
    Fault.ERROR_529: Refusal(529, "server_error", "Overloaded", "overloaded"),
    Fault.AUTH: Refusal(401, "invalid_request_error", "Incorrect API key provided.", "invalid_api_key"),
    Fault.NO_CREDIT: Refusal(
        429,
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
    ),
}


class Suffered(NamedTuple):
    """A fault that a call suffers, with its seconds where it has any."""

    fault: Fault
    seconds: float | None


def suffered(fault: Fault, seconds: float | None = None) -> Suffered:
    """A fault with its seconds, or those it has by itself."""
    return Suffered(fault, SECONDS.get(fault) if seconds is None else seconds)


def fault_named(written: str) -> Suffered | str:
    """The fault that somebody named, as `name` or `name=seconds`; else a sentence that says what is wrong with it."""
    name, equals, number = written.partition("=")
    fault = FAULTS.get(name)
    if fault is None:
        near = get_close_matches(name, list(Fault), n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"The faults are {', '.join(Fault)}."
        return f"there is no fault {name[:40]!r}. {remedy}"
    if not equals:
        return suffered(fault)
    try:
        seconds = float(number)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_S or fault not in _TIMED:
        return f"{name} takes no number of seconds such as {number[:40]!r}."
    return Suffered(fault, seconds)


def fault_at_end(model: str) -> tuple[str, Suffered | None]:
    """The model and the fault in `model+fault`; the whole name and None where its end names no fault."""
    name, _, end = model.rpartition("+")
    if name and end.partition("=")[0] in FAULTS:
        named = fault_named(end)
        if isinstance(named, Suffered):
            return name, named
    return model, None


def instead(suffers: Suffered, dialect: Dialect, created: int) -> Response | None:
    """The plan of a fault that comes instead of work, or None. Redirects are planned by who knows hosts."""
    match suffers.fault:
        case Fault.HANG if suffers.seconds is None:
            return Response(200, ending=Ending.NEVER, outcome=Outcome.ERRORS)
        case Fault.REFUSE:
            return Response(0, ending=Ending.CUT, outcome=Outcome.ERRORS)
        case Fault.RESET:
            return Response(0, ending=Ending.RESET, outcome=Outcome.ERRORS)
        case Fault.ERROR_502:
            return Response(502, PAGE, content_type=HTML_TYPE, outcome=Outcome.ERRORS)
        case Fault.WRONG_CONTENT_TYPE:
            return Response(200, PAGE, content_type=HTML_TYPE, outcome=Outcome.ERRORS)
        case Fault.RATE_LIMITED:
            return dialect.refused(_too_many(suffers.seconds))
        case Fault.RATE_LIMITED_NO_HINT:
            return dialect.refused(_too_many(None))
        case Fault.SKEWED_CLOCK:
            response = dialect.refused(_too_many(None))
            again = formatdate(created + SKEW_S + (suffers.seconds or 0), usegmt=True)
            response.header_lines += f"retry-after: {again}\r\n".encode("ascii")
            response.skew_s = SKEW_S
            return response
        case Fault.NO_CREDIT:
            return dialect.refused(REFUSALS[Fault.NO_CREDIT])
        case fault if fault in REFUSALS:
            return dialect.refused(REFUSALS[fault])
        case _:
            return None


def rendering_of(fault: Fault, plain: Rendering) -> Rendering:
    """How an answer is told under a fault that concerns what is in it."""
    match fault:
        case Fault.EMPTY_CHOICES:
            return plain._replace(shape=Shape.EMPTY)
        case Fault.CONTENT_FILTER:
            return plain._replace(shape=Shape.FILTERED)
        case Fault.MISSING_USAGE:
            return plain._replace(usage=False)
        case _:
            return plain


def spoil(suffers: Suffered, response: Response, dialect: Dialect) -> None:
    """Change the plan of a good answer into what the fault makes of it."""
    seconds = suffers.seconds or 0.0
    match suffers.fault:
        case Fault.CUT_STREAM:
            _halve(response)
            response.ending = Ending.CUT
            response.outcome = Outcome.ERRORS
        case Fault.STALL:
            _stall(response, suffers.seconds)
        case Fault.NONSENSE | Fault.TRUNCATED_JSON | Fault.ENDS_EARLY | Fault.EMPTY_CHOICES:
            response.outcome = Outcome.ERRORS
            _garble(suffers.fault, response)
        case Fault.SLOW_STREAM:
            _slow(response, seconds)
        case Fault.SLOW_FIRST_TOKEN | Fault.HANG:
            if response.pieces is None or suffers.fault is Fault.HANG:
                response.delay_s += seconds
            else:
                first = next((index for index, piece in enumerate(response.pieces) if piece.tokens), 0)
                _pause(response.pieces, first, seconds)
        case Fault.STREAM_ERROR | Fault.ERROR_IN_200:
            _fail(suffers.fault, response, dialect)
        case Fault.MALFORMED_LINE if response.pieces is not None:
            middle = len(response.pieces) // 2
            response.pieces.insert(middle, Piece(response.pieces[middle].after_s, dialect.broken_event, 0))
        case Fault.DUPLICATED_CHUNKS if response.pieces is not None:
            response.pieces = [
                twin
                for piece in response.pieces
                for twin in ((piece, piece._replace(tokens=0)) if piece.tokens else (piece,))
            ]  # what is sent twice is billed once
        case Fault.DUPLICATED_END if response.pieces is not None:
            pieces = response.pieces
            last = max((index for index, piece in enumerate(pieces) if piece.tokens), default=-1)
            response.pieces = pieces[: last + 1] + [piece for piece in pieces[last + 1 :] for _ in range(2)]
        case _:
            pass


def _too_many(retry_after_s: float | None) -> Refusal:
    message = "Rate limit reached for requests."
    return Refusal(429, "requests", message, "rate_limit_exceeded", retry_after_s=retry_after_s)


def _halve(response: Response) -> None:
    """Leave the first half of an answer; the second is still promised where it was not streamed."""
    if response.pieces is None:
        response.length = len(response.body)
        half = response.body[: len(response.body) // 2]
        response.pieces = [Piece(0.0, half, response.completion_tokens // 2)]
    else:
        response.pieces = response.pieces[: max(1, len(response.pieces) // 2)]


def _stall(response: Response, seconds: float | None) -> None:
    if seconds is None:
        _halve(response)
        response.ending = Ending.NEVER
    elif response.pieces is not None:
        _pause(response.pieces, len(response.pieces) // 2, seconds)
    else:
        body = response.body
        response.length = len(body)
        middle = len(body) // 2
        tokens = response.completion_tokens
        response.pieces = [Piece(0.0, body[:middle], tokens // 2), Piece(seconds, body[middle:], tokens - tokens // 2)]


def _garble(fault: Fault, response: Response) -> None:
    pieces = response.pieces
    if fault is Fault.EMPTY_CHOICES:
        return
    if pieces is None:
        response.body = NONSENSE if fault is Fault.NONSENSE else response.body[: len(response.body) // 2]
    elif fault is Fault.NONSENSE:
        tokens = sum(piece.tokens for piece in pieces)
        response.pieces = [Piece(0.0, b"data: " + NONSENSE + b"\n\n", tokens)]
    else:
        middle = max(1, len(pieces) // 2)
        response.pieces = pieces[:middle]
        if fault is Fault.TRUNCATED_JSON and middle < len(pieces):
            half = pieces[middle].data[: len(pieces[middle].data) // 2]
            response.pieces.append(pieces[middle]._replace(data=half))


def _fail(fault: Fault, response: Response, dialect: Dialect) -> None:
    """An error where an answer was announced."""
    response.outcome = Outcome.ERRORS
    error = REFUSALS[Fault.ERROR_500]
    if response.pieces is None:
        response.status = error.status if fault is Fault.STREAM_ERROR else 200
        response.body = dialect.refusal_body(error)
        response.prompt_tokens = response.completion_tokens = 0
    elif fault is Fault.ERROR_IN_200:
        response.pieces = [Piece(0.0, dialect.error_event(error), 0)]
        response.prompt_tokens = 0
    else:
        _halve(response)
        pieces = response.pieces
        pieces.append(Piece(pieces[-1].after_s, dialect.error_event(error), 0))


def _pause(pieces: list[Piece], start: int, seconds: float) -> None:
    """Send what stands from `start` on so many seconds later."""
    pieces[start:] = [piece._replace(after_s=piece.after_s + seconds) for piece in pieces[start:]]


def _slow(response: Response, gap_s: float) -> None:
    if response.pieces is not None:
        response.pieces = [
            Piece(max(piece.after_s, position * gap_s), piece.data, piece.tokens)
            for position, piece in enumerate(response.pieces)
        ]
        return
    assert response.content_type != STREAM_TYPE
    body = response.body
    size = -(-len(body) // SLOW_PIECES)
    response.length = len(body)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    last = len(parts) - 1
    response.pieces = [
        Piece(position * gap_s, part, response.completion_tokens if position == last else 0)
        for position, part in enumerate(parts)
    ]
