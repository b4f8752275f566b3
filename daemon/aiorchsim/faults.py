"""Named faults: things that go wrong at providers, on demand.

A model suffers one by its profile (`fault`, `fault_rate`, `fault_first`), a single request by the header
`x-aiorchsim-fault`. Some come instead of any work, others spoil an answer that was good.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from aiorchsim.responses import STREAM_TYPE, Dialect, Ending, Piece, Refusal, Response
from aiorchsim.statistics import Outcome

SLOW_GAP_S: Final = 0.25
SLOW_PIECES: Final = 8
NONSENSE: Final = b'{"id": chatcmpl-\xff\x00<html><body>502 Bad Gateway</body></html>'


class Fault(StrEnum):
    """The faults there are."""

    HANG = "hang"
    """Never answers; the connection stays open."""
    REFUSE = "refuse"
    """Closes the connection at once, without an answer."""
    RESET = "reset"
    """Resets the connection at once (RST)."""
    CUT_STREAM = "cut_stream"
    """Closes the connection in the middle of the answer, streamed or not."""
    NONSENSE = "nonsense"
    """200 with a body that is no JSON; a stream of events that are no JSON."""
    ERROR_500 = "error_500"
    ERROR_503 = "error_503"
    RATE_LIMITED = "rate_limited"
    """429 with `retry-after`, whatever the limits say."""
    SLOW_STREAM = "slow_stream"
    """A quarter of a second between the pieces of the answer, streamed or not."""
    AUTH = "auth"
    """401, as for a wrong key."""
    REDIRECT = "redirect"
    """302 to the same simulator under another host name, where being followed is counted."""
    STREAM_ERROR = "stream_error"
    """An error event in the middle of a stream that began with 200; 500 when the answer is not streamed."""


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
    Fault.AUTH: Refusal(401, "invalid_request_error", "Incorrect API key provided.", "invalid_api_key"),
}


def instead(fault: Fault, dialect: Dialect) -> Response | None:
    """The plan of a fault that comes instead of work, or None. 429 and redirects are planned by who knows limits and
    hosts.
    """
    match fault:
        case Fault.HANG:
            return Response(200, ending=Ending.NEVER, outcome=Outcome.ERRORS)
        case Fault.REFUSE:
            return Response(0, ending=Ending.CUT, outcome=Outcome.ERRORS)
        case Fault.RESET:
            return Response(0, ending=Ending.RESET, outcome=Outcome.ERRORS)
        case Fault.ERROR_500 | Fault.ERROR_503 | Fault.AUTH:
            refusal = REFUSALS[fault]
            return Response(refusal.status, dialect.refusal_body(refusal), outcome=Outcome.ERRORS)
        case _:
            return None


def spoil(fault: Fault, response: Response, dialect: Dialect) -> None:
    """Change the plan of a good answer into what the fault makes of it."""
    match fault:
        case Fault.CUT_STREAM:
            _cut(response)
            response.ending = Ending.CUT
            response.outcome = Outcome.ERRORS
        case Fault.NONSENSE:
            response.outcome = Outcome.ERRORS
            if response.pieces is None:
                response.body = NONSENSE
            else:
                tokens = sum(piece.tokens for piece in response.pieces)
                response.pieces = [Piece(0.0, b"data: " + NONSENSE + b"\n\n", tokens)]
        case Fault.SLOW_STREAM:
            _slow(response)
        case Fault.STREAM_ERROR:
            response.outcome = Outcome.ERRORS
            error = REFUSALS[Fault.ERROR_500]
            if response.pieces is None:
                response.status = error.status
                response.body = dialect.refusal_body(error)
                response.prompt_tokens = response.completion_tokens = 0
            else:
                _cut(response)
                pieces = response.pieces
                pieces.append(Piece(pieces[-1].after_s, dialect.error_event(error), 0))
        case _:
            pass


def _cut(response: Response) -> None:
    """Leave the first half of an answer."""
    if response.pieces is None:
        response.length = len(response.body)
        half = response.body[: len(response.body) // 2]
        response.pieces = [Piece(0.0, half, response.completion_tokens // 2)]
    else:
        response.pieces = response.pieces[: max(1, len(response.pieces) // 2)]


def _slow(response: Response) -> None:
    if response.pieces is not None:
        response.pieces = [
            Piece(max(piece.after_s, position * SLOW_GAP_S), piece.data, piece.tokens)
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
        Piece(position * SLOW_GAP_S, part, response.completion_tokens if position == last else 0)
        for position, part in enumerate(parts)
    ]
