"""HTTP/1.1 on one connection: `answers` and h11 for the protocol, Trio for the bytes."""

from __future__ import annotations

import select
from typing import Final

import h11
import trio

from aiorchd.providers.transport.answers import Answers
from aiorchd.providers.transport.bare import bare_cancellation
from aiorchd.providers.transport.channel import Head, Headers, Question
from aiorchd.providers.transport.dial import Line
from aiorchd.providers.transport.endpoint import Origin
from aiorchd.providers.transport.failures import Fault, Malformed, PeerClosed, Phase, Unsendable

_READ_BYTES: Final = 65_536
SENT_AT_ONCE_BYTES: Final = 65_536
"""Up to here a request fits into the buffers of the two kernels, so that sending it ends even when nobody reads it."""
_USUAL_METHODS: Final = (b"GET", b"POST")
_NO_LENGTH: Final = b"0\r\n\r\n"


class Http1Connection:
    """A connection that carries one request after the other."""

    __slots__ = (
        "_answers", "_asked", "_closed_by_peer", "_forwarder", "_head", "_heard", "_idle_poll", "_keeps",
        "_max_head_bytes", "_request", "_sent", "_sent_before", "_socket", "_stream", "_tcp", "_usual", "origin", "phase",
    )  # fmt: skip

    def __init__(self, origin: Origin, line: Line, max_head_bytes: int) -> None:
        self.origin = origin
        self.phase: Phase = "sending"
        self._stream = line.stream
        self._tcp = line.tcp
        self._socket = line.socket.socket
        self._forwarder = line.forwarder
        self._max_head_bytes = max_head_bytes
        self._answers = Answers()
        # Kept, because it is looked at before every request: to make one takes longer than to ask it.
        self._idle_poll = select.poll()
        self._idle_poll.register(line.socket.socket.fileno(), select.POLLIN)
        self._heard = False
        self._sent = False
        self._closed_by_peer = False
        self._sent_before = 0
        self._asked: tuple[bytes, bytes, bytes, Headers, bool] | None = None
        self._request: h11.Request | None = None
        self._head = b""
        """What is sent before the length of a request's body."""
        self._keeps = self._usual = False

    async def ask(self, question: Question) -> Head:
        """Send a request and wait for the head of its answer (see `Channel.ask`)."""
        head, body = self._encode(question)
        self.phase, self._heard, self._sent = "sending", False, False
        self._sent_before = self._tcp.sent_bytes
        if len(body) > SENT_AT_ONCE_BYTES:
            return await self._ask_at_length(head, body)
        failure: trio.BrokenResourceError | None = None
        try:
            await self._stream.send_all(head + body)
            self._sent = True
        except trio.BrokenResourceError as error:
            failure = error
        try:
            self.phase = "waiting"
            return await self._receive_head()
        except (PeerClosed, trio.BrokenResourceError):
            # A server may refuse a request by answering and closing before it has read it all. Only when there is no
            # answer either is the failure to send the news.
            if failure is not None:
                self.phase = "sending"
                raise failure from None
            raise

    async def _ask_at_length(self, head: bytes, body: bytes) -> Head:
        """Send a large request while looking out for the answer: who answers early may never read the rest."""
        failure: BaseException | None = None
        answer: Head | None = None

        async def send() -> None:
            nonlocal failure
            try:
                await self._stream.send_all(head)
                await self._stream.send_all(body)
                self._sent = True
                self.phase = "waiting"
            except trio.BrokenResourceError as error:
                failure = error

        with bare_cancellation():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                try:
                    answer = await self._receive_head()
                except (PeerClosed, Malformed, OSError, trio.BrokenResourceError) as error:
                    failure = failure or error
                nursery.cancel_scope.cancel()
        if answer is None:
            raise failure or PeerClosed("closed the connection without answering")
        self.phase = "waiting"
        return answer

    async def receive(self) -> bytes:
        """Wait for the next piece of the body; ``b""`` at its end."""
        while True:
            piece = self.at_hand()
            if piece is not None:
                return piece
            self._take(await self._stream.receive_some(_READ_BYTES))

    def at_hand(self) -> bytes | None:
        """Give the next piece of the body if it is here (see `Channel.at_hand`)."""
        self.phase = "reading"
        try:
            return self._answers.body()
        except h11.RemoteProtocolError as error:
            raise self._fault(error) from error

    def unprocessed(self, error: BaseException) -> bool:
        """Tell whether it is certain that the other end did nothing with the request.

        So it is when the request did not leave completely, and when the other end closed in an orderly way while its
        kernel had acknowledged none of it (the closing segment itself would have): it was gone before the request came,
        which is how a kept-alive connection usually ends. A request that arrived may have been worked on, and asking
        again may cost twice: that is for the caller's policy. So is a reset, whose acknowledgement Linux does not count.
        """
        if self._heard:
            return False
        if not self._sent:
            return True
        return isinstance(error, PeerClosed) and self._tcp.acknowledged_bytes() == self._sent_before

    def is_stale(self) -> bool:
        """Tell whether an idle connection was closed, or sent something that nobody asked for."""
        return bool(self._idle_poll.poll(0))

    def release(self) -> bool:
        """Let go after the body's end; whether the connection can carry another request.

        Bytes beyond the end of the answer would be taken for the next one: such a connection is not kept, nor is one
        whose end was the end of the answer.
        """
        if self._answers.finish() and self._sent:
            return True
        self._socket.close()
        return False

    def abandon(self, *, timed_out: bool = False) -> None:  # noqa: ARG002  the same for every reason
        """Close the connection at once."""
        self._socket.close()

    def _encode(self, question: Question) -> tuple[bytes, bytes]:
        """Give head and body in bytes.

        What a provider is asked differs in its body alone, so the head is made and checked by h11 once and sent again with
        another length; h11 is told of an empty body, and that its end has come.
        """
        length = len(question.body)
        told = bool(length) or question.method == b"POST"
        asked = (question.method, question.target, question.authority, question.headers, told)
        if asked != self._asked:
            connection = h11.Connection(h11.CLIENT)
            try:
                self._request = self._like(question, told=told)
                head = connection.send(self._request)
                connection.send(h11.EndOfMessage())
            except h11.LocalProtocolError:
                # The text of h11's error repeats the header, which may be the key: it goes no further.
                raise Unsendable(
                    "was not asked: a header of the request holds characters that cannot be sent"
                ) from None
            self._head = head.removesuffix(_NO_LENGTH) if told else head
            self._keeps = connection.our_state is h11.DONE
            # Not of a request that may change the protocol, or whose answers have no body whatever their heads say.
            self._usual = connection.our_state in (h11.DONE, h11.MUST_CLOSE) and question.method in _USUAL_METHODS
            self._asked = asked
        self._answers.expect(self._having_asked, keeps=self._keeps, usual=self._usual)
        return b"%b%d\r\n\r\n" % (self._head, length) if told else self._head, question.body

    def _having_asked(self) -> h11.Connection:
        """Give an h11 connection that awaits the answer to the request."""
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._max_head_bytes)
        assert self._request is not None
        connection.send(self._request)
        connection.send(h11.EndOfMessage())
        return connection

    def _like(self, question: Question, *, told: bool) -> h11.Request:
        """Make the request with an empty body, of whose head the length is the last."""
        headers = [(b"host", question.authority), *question.headers]
        target = question.target
        if self._forwarder is not None:
            # A proxy is told the whole address (RFC 9112 section 3.2.2), and who we are, which is between it and us.
            target = b"http://" + question.authority + target
            if self._forwarder.authorization is not None:
                headers.append((b"proxy-authorization", self._forwarder.authorization))
        if told:
            headers.append((b"content-length", b"0"))
        return h11.Request(method=question.method, target=target, headers=headers)

    async def _receive_head(self) -> Head:
        while True:
            self._take(await self._stream.receive_some(_READ_BYTES))  # first: nothing of the answer can be here yet
            try:
                head = self._answers.head()
            except h11.RemoteProtocolError as error:
                raise self._fault(error) from error
            if head is not None:
                return head

    def _take(self, data: bytes | bytearray) -> None:
        if data:
            self._heard = True
        elif self._heard:
            self._closed_by_peer = True
        else:
            raise PeerClosed("closed the connection without answering")
        self._answers.feed(bytes(data))

    def _fault(self, error: h11.RemoteProtocolError) -> Fault:
        """Say what is wrong with what came."""
        if self._closed_by_peer:
            return PeerClosed("closed the connection in the middle of its answer")
        return Malformed(f"answered with malformed HTTP ({_shorten(str(error))})")


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:99] + "…"
