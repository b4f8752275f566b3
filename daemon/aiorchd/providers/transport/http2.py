"""HTTP/2: many requests on one connection, h2 for the protocol, Trio for the bytes.

A task of its own reads, another writes; the tasks that ask only change h2's state and wait. So a request that is
cancelled can never tear a frame or keep others from their answers, and its cancellation reaches the server as a reset of
its stream, not as silence.

h2 itself closes a connection for good when it reads GOAWAY, while RFC 9113 section 6.8 lets the streams up to the named
one finish, and servers send it after every so many requests. GOAWAY is therefore taken out of the bytes before h2 sees
them (`goaway`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio
from hpack.struct import HeaderTuple, NeverIndexedHeaderTuple

from aiorchd.providers.transport.channel import Head, Question
from aiorchd.providers.transport.dial import Line
from aiorchd.providers.transport.endpoint import Origin
from aiorchd.providers.transport.failures import Fault, Malformed, PeerClosed, Phase, StreamReset, Unsendable
from aiorchd.providers.transport.goaway import GoawayFilter
from aiorchd.providers.transport.limits import PoolLimits

_READ_BYTES: Final = 65_536
# What a server may send ahead on one stream, and on all. The second is as many of the first as there can be streams, so
# that a consumer that is slow to take its answer holds up nobody else's.
_STREAM_WINDOW_BYTES: Final = 262_144
_SECRET_HEADERS: Final = frozenset({b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key"})
_CONNECTION_HEADERS: Final = frozenset({b"host", b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"})


class Http2Connection:
    """One connection and the streams on it. Someone must `run` it, and that ends when the connection does."""

    def __init__(self, origin: Origin, line: Line, limits: PoolLimits) -> None:
        # hpack logs header blocks, keys included, when the root logger is turned to DEBUG.
        logging.getLogger("hpack").setLevel(logging.INFO)
        self.origin = origin
        self.idle_since = 0.0
        self.load = 0
        """Streams handed out."""
        self.last_heard = 0.0
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self._line = line
        self._streams: dict[int, Http2Stream] = {}
        self._goaways = GoawayFilter()
        self._max_streams = limits.max_streams
        self._max_head_bytes = limits.max_head_bytes
        self._allowed_streams = 0
        self._draining = False
        self._fault: Fault | OSError | trio.BrokenResourceError | trio.ClosedResourceError | None = None
        self._scope = trio.CancelScope()
        self._output = trio.lowlevel.ParkingLot()
        self._settled = trio.Event()

    @property
    def usable(self) -> bool:
        """Whether new requests may be sent here at all."""
        return self._fault is None and not self._draining

    def open_stream(self) -> Http2Stream | None:
        """Take a place for one request, None when the connection has none."""
        if not self.usable or self.load >= self._allowed_streams:
            return None
        self.load += 1
        return Http2Stream(self)

    async def settle(self) -> None:
        """Wait for the server's settings, which say how many streams it allows; raises `failures.FOREIGN`."""
        await self._settled.wait()
        if self._fault is not None:
            raise self._fault

    async def run(self) -> None:
        """Read and write until the connection ends; then every stream still open fails."""
        settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: self._max_head_bytes,
            },
        )
        del settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL]  # means nothing in a client's mouth
        self.h2.local_settings = settings
        self.h2.decoder.max_header_list_size = self._max_head_bytes
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(_STREAM_WINDOW_BYTES * self._max_streams)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, nursery.cancel_scope)
                    await self._read()
                    nursery.cancel_scope.cancel()
        finally:
            if self._fault is None:
                self._fault = PeerClosed("closed the connection")
            self._line.socket.socket.close()
            self._settled.set()
            for stream in list(self._streams.values()):
                stream.fail(self._fault)

    def close(self) -> None:
        """End the connection at once."""
        self._draining = True
        self._scope.cancel()

    def drain(self) -> None:
        """Take no new requests, and end with the last one under way."""
        self._draining = True
        if not self.load:
            self.close()

    def flush(self) -> None:
        """Have the writer send what h2 has ready."""
        self._output.unpark()

    def begin(self, stream: Http2Stream, headers: list[HeaderTuple], *, end_stream: bool) -> int:
        """Number a stream and send its headers; raises `StreamReset` (unprocessed) when the connection takes no more."""
        try:
            number = self.h2.get_next_available_stream_id()
            self.h2.send_headers(number, headers, end_stream=end_stream)
        except h2.exceptions.ProtocolError as error:
            self.drain()
            raise StreamReset("takes no more requests on this connection", unprocessed=True) from error
        self._streams[number] = stream
        self.flush()
        return number

    def let_go(self, number: int | None, unread_bytes: int, *, reset: bool) -> None:
        """Forget a stream: give back its place and its part of the window, and reset it if it was not over."""
        self.load -= 1
        if number is not None:
            self._streams.pop(number, None)
            if unread_bytes:
                self.give_back(number, unread_bytes)
            if reset and self._fault is None:
                with contextlib.suppress(h2.exceptions.ProtocolError):  # the server may have closed it meanwhile
                    self.h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
                self.flush()
        if not self.load:
            self.idle_since = trio.current_time()
            if self._draining:
                self._scope.cancel()

    def give_back(self, number: int, window_bytes: int) -> None:
        """Let the server send as much again as was consumed."""
        if self._fault is None:
            with contextlib.suppress(h2.exceptions.ProtocolError):  # the connection is closing
                self.h2.acknowledge_received_data(window_bytes, number)
            self.flush()

    async def _write(self, scope: trio.CancelScope) -> None:
        try:
            while True:
                data = self.h2.data_to_send()
                if data:
                    await self._line.stream.send_all(data)
                else:
                    await self._output.park()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._fault = self._fault or error
            scope.cancel()

    async def _read(self) -> None:
        try:
            while self._fault is None:
                data = await self._line.stream.receive_some(_READ_BYTES)
                if not data:
                    self._fault = PeerClosed("closed the connection")
                    return
                self.last_heard = trio.current_time()
                for part, last_stream_id in self._goaways.feed(bytes(data)):
                    if part:
                        self._take(self.h2.receive_data(part))
                    if last_stream_id is not None:
                        self._leave(last_stream_id)
                self.flush()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._fault = self._fault or error
        except h2.exceptions.H2Error as error:
            self._fault = Malformed(f"broke the rules of HTTP/2 ({type(error).__name__})")

    def _take(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.RemoteSettingsChanged):
                allowed = self.h2.remote_settings.max_concurrent_streams
                self._allowed_streams = min(allowed, self._max_streams)
                self._settled.set()
                self._tell_all()
            elif isinstance(event, h2.events.WindowUpdated) and not event.stream_id:
                self._tell_all()
            elif isinstance(
                event,
                h2.events.ResponseReceived
                | h2.events.DataReceived
                | h2.events.StreamEnded
                | h2.events.StreamReset
                | h2.events.WindowUpdated,
            ):
                stream = self._streams.get(event.stream_id)
                if stream is not None:
                    stream.take(event)

    def _tell_all(self) -> None:
        for stream in self._streams.values():
            stream.wake()

    def _leave(self, last_stream_id: int) -> None:
        """Obey GOAWAY: no new streams here, and those above the named one were not looked at."""
        self.drain()
        for number, stream in list(self._streams.items()):
            if number > last_stream_id:
                stream.fail(StreamReset("is leaving this connection", unprocessed=True))


class Http2Stream:
    """One request on a connection; satisfies `channel.Channel`."""

    __slots__ = (
        "_arrived", "_asked_at", "_chunks", "_connection", "_ended", "_fault", "_head", "_number", "_released", "_sent",
        "origin", "phase",
    )  # fmt: skip

    def __init__(self, connection: Http2Connection) -> None:
        self.origin = connection.origin
        self.phase: Phase = "sending"
        self._connection = connection
        self._number: int | None = None
        self._head: Head | None = None
        self._chunks: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._sent = False
        self._released = False
        self._fault: BaseException | None = None
        self._asked_at = 0.0
        self._arrived = trio.lowlevel.ParkingLot()

    async def ask(self, question: Question) -> Head:
        """Send a request and wait for the head of its answer (see `Channel.ask`)."""
        self._asked_at = trio.current_time()
        self._number = self._connection.begin(self, _encode(self.origin, question), end_stream=not question.body)
        if question.body:
            await self._send(self._number, question.body)
        else:
            self._sent = True
        self.phase = "waiting"
        while self._head is None:
            if self._fault is not None:
                raise self._fault
            await self._arrived.park()
        return self._head

    async def receive(self) -> bytes:
        """Wait for the next piece of the body; ``b""`` at its end."""
        while (piece := self.at_hand()) is None:
            await self._arrived.park()
        return piece

    def at_hand(self) -> bytes | None:
        """Give the next piece of the body if it is here (see `Channel.at_hand`)."""
        self.phase = "reading"
        if self._chunks:
            data, window = self._chunks.popleft()
            self._give_back(window)
            return data
        if self._ended:
            return b""
        if self._fault is not None:
            raise self._fault
        return None

    def unprocessed(self, error: BaseException) -> bool:
        """Tell whether the server said that it did nothing with the request."""
        return isinstance(error, StreamReset) and error.unprocessed

    def release(self) -> bool:
        """Let go after the body's end; whether the connection can carry more."""
        self._let_go()
        return self._connection.usable

    def abandon(self, *, timed_out: bool = False) -> None:
        """Reset the stream. A connection on which nothing at all was heard since the request is not trusted again."""
        if timed_out and not self._released and self._connection.last_heard <= self._asked_at:
            self._connection.drain()
        self._let_go()
        self.fail(StreamReset("was given up", unprocessed=False))  # to whoever waits for it all the same

    def take(self, event: h2.events.Event) -> None:
        """Take what the reader found for this stream."""
        if isinstance(event, h2.events.ResponseReceived):
            self._head = _decode(event)
        elif isinstance(event, h2.events.DataReceived):
            if event.data:
                self._chunks.append((event.data, event.flow_controlled_length))
            elif event.flow_controlled_length:
                self._give_back(event.flow_controlled_length)
        elif isinstance(event, h2.events.StreamEnded):
            self._ended = True
        elif isinstance(event, h2.events.StreamReset):
            self._take_reset(event.error_code)
        self._arrived.unpark_all()

    def fail(self, error: BaseException) -> None:
        """Tell that no more will come."""
        if not self._ended and self._fault is None:
            self._fault = error
        self._arrived.unpark_all()

    def wake(self) -> None:
        """Tell that the connection's window or settings changed."""
        self._arrived.unpark_all()

    async def _send(self, number: int, body: bytes) -> None:
        """Send the body as the windows allow, and stop when the answer comes first."""
        state, position = self._connection.h2, 0
        while position < len(body) and self._head is None:
            if self._fault is not None:
                raise self._fault
            try:
                room = min(state.local_flow_control_window(number), state.max_outbound_frame_size)
                if room > 0:
                    piece = body[position : position + room]
                    position += len(piece)
                    state.send_data(number, piece, end_stream=position == len(body))
                    self._connection.flush()
            except h2.exceptions.ProtocolError as error:
                raise StreamReset("gave the request up", unprocessed=False) from error
            if room <= 0:
                await self._arrived.park()
        self._sent = position == len(body)

    def _take_reset(self, code: h2.errors.ErrorCodes | int) -> None:
        if self._ended:
            return  # a complete answer, and no interest in the rest of the request: RFC 9113 section 8.1
        name = code.name if isinstance(code, h2.errors.ErrorCodes) else str(code)
        hint = "; set http2 = false" if code == h2.errors.ErrorCodes.HTTP_1_1_REQUIRED else ""
        self._fault = self._fault or StreamReset(
            f"gave the request up (HTTP/2 {name}{hint})", unprocessed=code == h2.errors.ErrorCodes.REFUSED_STREAM
        )

    def _give_back(self, window: int) -> None:
        if self._number is not None:
            self._connection.give_back(self._number, window)

    def _let_go(self) -> None:
        if self._released:
            return
        self._released = True
        unread = sum(window for _, window in self._chunks)
        self._chunks.clear()
        self._connection.let_go(self._number, unread, reset=not (self._ended and self._sent))


def _encode(origin: Origin, question: Question) -> list[HeaderTuple]:
    fields = [
        HeaderTuple(b":method", question.method),
        HeaderTuple(b":authority", question.authority),
        HeaderTuple(b":scheme", origin.scheme.encode()),
        HeaderTuple(b":path", question.target),
    ]
    for name, value in question.headers:
        if not value.isascii() or any(character in value for character in (b"\r", b"\n", b"\0")):
            raise Unsendable("was not asked: a header of the request holds characters that cannot be sent")
        if name in _SECRET_HEADERS:
            fields.append(NeverIndexedHeaderTuple(name, value))
        elif name not in _CONNECTION_HEADERS:
            fields.append(HeaderTuple(name, value))
    if question.body or question.method == b"POST":
        fields.append(HeaderTuple(b"content-length", b"%d" % len(question.body)))
    return fields


def _decode(event: h2.events.ResponseReceived) -> Head:
    status = 0
    fields: dict[str, str] = {}
    for name, value in event.headers:
        raw_name = name if isinstance(name, bytes) else name.encode("latin-1")
        raw_value = value if isinstance(value, bytes) else value.encode("latin-1")
        if raw_name == b":status":
            status = int(raw_value) if raw_value.isdigit() else 0
        elif not raw_name.startswith(b":"):
            fields[raw_name.decode("latin-1")] = raw_value.decode("latin-1")
    return Head(status, fields)
