"""The HTTP server: connections that read requests, have them decided, and play what was decided.

Lean, because it stands at the other end of benchmarks: an asyncio protocol without tasks, one timer at most for each
connection, one write for each response. Requests of one connection are answered one after the other; what was sent
ahead waits, within a bound. A client that leaves before its answer was sent is noticed and counted.
"""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from aiorchsim.http1 import MalformedRequest, Request, RequestParser
from aiorchsim.responses import Ending, Response
from aiorchsim.statistics import Statistics

MOST_PENDING_BYTES: Final = 64 * 1024
"""Bytes sent ahead of the answer in progress that are taken before reading stops."""
LAG_S: Final = 0.0005
"""Pieces due within this time are sent together."""

LINGER_S: Final = 1.0
"""How long a client that sent nonsense may go on sending, so that it gets to read the answer."""
CLOSES: Final = b"connection: close\r\n"
STAYS: Final = b"connection: keep-alive\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"

_STATUS_LINES: Final[Mapping[int, bytes]] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus
} | {529: b"HTTP/1.1 529 Overloaded\r\n"}


class Site:
    """What all connections share: who decides, what is counted, who is connected, the loop's clock."""

    def __init__(
        self,
        decide: Callable[[Request, float, int], Response],
        statistics: Statistics,
        *,
        most_body_bytes: int,
        keep_alive_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.decide = decide
        self.statistics = statistics
        self.most_body_bytes = most_body_bytes
        self.keep_alive_s = keep_alive_s
        self.loop = loop
        self.connections: set[Connection] = set()
        self._second = 0
        self._common_lines = b""

    def head(self, response: Response, framing: bytes) -> bytes:
        """The head of a response sent now; `framing` is the header lines that tell where its body ends."""
        return b"".join(
            (
                _STATUS_LINES[response.status],
                self._common() if not response.skew_s else _common_lines(int(time.time()) + response.skew_s),
                b"content-type: ",
                response.content_type,
                b"\r\n",
                response.header_lines,
                framing,
                b"\r\n",
            )
        )

    def wall_second(self) -> int:
        """The time in whole seconds since 1970."""
        return int(time.time())

    def _common(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._common_lines = _common_lines(second)
        return self._common_lines

    def abort_all(self) -> None:
        """Drop every connection."""
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client's connection. All of its mutable state is declared here."""

    __slots__ = (
        "_begun",
        "_chunked",
        "_closing",
        "_continued",
        "_next_piece",
        "_parser",
        "_paused",
        "_request",
        "_response",
        "_site",
        "_started",
        "_timer",
        "_transport",
        "_writable",
    )  # fmt: skip

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parser = RequestParser(site.most_body_bytes)
        self._transport: asyncio.Transport
        self._request: Request | None = None
        self._response: Response | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started = 0.0
        self._begun = False
        self._next_piece = 0
        self._chunked = False
        self._closing = False
        self._continued = False
        self._paused = False
        self._writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._site.connections.add(self)
        self._site.statistics.connections_opened += 1
        self._site.statistics.connections_open += 1
        self._wait_idle()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (why it was lost makes no difference)
        """The connection is gone; a call that was not answered by then was abandoned."""
        self._closing = True
        self._cancel_timer()
        self._site.connections.discard(self)
        self._site.statistics.connections_open -= 1
        response = self._response
        if response is not None:
            self._response = None
            if response.call is not None:
                if not self._begun:
                    response.call.bill_prompt(response.prompt_tokens, response.cached)
                response.call.left(self._site.loop.time(), "answering" if self._begun else "waiting")

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._closing:
            return
        self._parser.feed(data)
        if self._response is None and self._writable:
            self._advance()
        elif self._parser.buffered_bytes > MOST_PENDING_BYTES:
            self._paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The client reads too slowly: stop producing."""
        self._writable = False

    def resume_writing(self) -> None:
        """The client caught up."""
        self._writable = True
        if self._begun and self._response is not None and self._timer is None:
            self._play_pieces()
        self._go_on()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._closing = True
        self._transport.abort()

    def _advance(self) -> None:
        """Answer requests until one has to wait, or none is left."""
        self._cancel_timer()
        while self._response is None and self._writable and not self._closing:
            try:
                request = self._parser.next_request()
            except MalformedRequest as error:
                self._refuse(error)
                return
            if request is None:
                if self._parser.wants_continue and not self._continued:
                    self._continued = True
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._wait_idle()
                return
            self._continued = False
            self._begin(request)

    def _begin(self, request: Request) -> None:
        site = self._site
        now = site.loop.time()
        self._request = request
        self._response = response = site.decide(request, now, site.wall_second())
        self._begun = False
        self._next_piece = 0
        if response.ending is Ending.NEVER and response.pieces is None:
            return
        if response.delay_s <= 0:
            self._started = now
            self._send()
        else:
            self._started = now + response.delay_s
            self._timer = site.loop.call_at(self._started, self._due)

    def _due(self) -> None:
        """The time of the answer, or of its next piece, has come."""
        self._timer = None
        if self._begun:
            self._play_pieces()
        else:
            self._send()
        self._go_on()

    def _go_on(self) -> None:
        """After an answer: the next request that was sent ahead, and reading again if that was stopped."""
        if self._response is None and self._writable and not self._closing:
            self._advance()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()

    def _send(self) -> None:
        request, response = self._request, self._response
        assert request is not None
        assert response is not None
        self._begun = True
        if response.call is not None:
            response.call.bill_prompt(response.prompt_tokens, response.cached)
        if not response.status:
            self._end(request, response)
            return
        if response.pieces is None:
            head = self._site.head(response, b"content-length: %d\r\n%b" % (len(response.body), _persistence(request)))
            self._transport.write(head if request.method == "HEAD" else head + response.body)
            if response.call is not None:
                response.call.bill_answer(response.completion_tokens)
            self._end(request, response)
            return
        self._chunked = response.length is None and request.minor_version == 1
        if self._chunked:
            framing = CHUNKED + _persistence(request)
        elif response.length is None:
            request.keep_alive = False  # HTTP/1.0 knows no chunks: the end of the connection is the end of the body
            framing = CLOSES
        else:
            framing = b"content-length: %d\r\n%b" % (response.length, _persistence(request))
        self._play_pieces(self._site.head(response, framing))

    def _play_pieces(self, head: bytes = b"") -> None:
        """Send the pieces that are due, and wait for the next."""
        request, response = self._request, self._response
        assert request is not None
        assert response is not None
        assert response.pieces is not None
        pieces = response.pieces
        due_s = self._site.loop.time() - self._started + LAG_S
        parts = [head]
        tokens = 0
        position = self._next_piece
        while position < len(pieces) and pieces[position].after_s <= due_s:
            piece = pieces[position]
            parts.append(b"%x\r\n%b\r\n" % (len(piece.data), piece.data) if self._chunked else piece.data)
            tokens += piece.tokens
            position += 1
        self._next_piece = position
        complete = position >= len(pieces)
        if complete and self._chunked and response.ending is Ending.COMPLETE:
            parts.append(b"0\r\n\r\n")
        if response.call is not None:
            response.call.bill_answer(tokens)
        self._transport.write(b"".join(parts))
        if complete:
            if response.ending is not Ending.NEVER:
                self._end(request, response)
        elif self._writable:
            self._timer = self._site.loop.call_at(self._started + pieces[position].after_s, self._due)

    def _end(self, request: Request, response: Response) -> None:
        """All was sent: settle the account and go on with the next request, or part."""
        self._request = self._response = None
        if response.call is not None:
            response.call.end(response.outcome, response.status or "closed")
        if response.ending is Ending.RESET:
            self._closing = True
            self._reset()
        elif response.ending is Ending.CUT or not request.keep_alive:
            self._closing = True
            self._transport.close()

    def _reset(self) -> None:
        """Close so that the client sees a reset: nothing lingers."""
        handle: socket.socket = self._transport.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _refuse(self, error: MalformedRequest) -> None:
        """Answer nonsense with its status, once, and part."""
        self._closing = True
        self._site.statistics.malformed_requests += 1
        refusal = {
            "error": {"message": f"{error.message}.", "type": "invalid_request_error", "param": None, "code": None}
        }
        body = json.dumps(refusal).encode("ascii")
        head = self._site.head(Response(error.status), b"content-length: %d\r\n%b" % (len(body), CLOSES))
        self._transport.write(head + body)
        self._transport.write_eof()  # closing with bytes unread would reset the connection before the client reads this
        self._timer = self._site.loop.call_later(LINGER_S, self._transport.close)

    def _wait_idle(self) -> None:
        if self._site.keep_alive_s:
            self._timer = self._site.loop.call_later(self._site.keep_alive_s, self._idle)

    def _idle(self) -> None:
        self._timer = None
        self._closing = True
        self._transport.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _common_lines(second: int) -> bytes:
    """The header lines of every response given in this second since 1970."""
    return f"server: aiorchsim\r\ndate: {formatdate(second, usegmt=True)}\r\n".encode("ascii")


def _persistence(request: Request) -> bytes:
    """The header line that says whether the connection goes on, where that is not understood by itself."""
    if not request.keep_alive:
        return CLOSES
    return STAYS if request.minor_version == 0 else b""
