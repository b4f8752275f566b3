"""Reads the answers on one HTTP/1.1 connection, from bytes: those of the usual form at once, all others with h11. Pure.

Nearly every answer of a provider has a head that comes whole, in plain characters, and a body whose length is told, or chunks
without extensions. Such answers are read here, in a ninth of the steps that h11 takes for its events and states. What is not
exactly of that form, right or wrong, is h11's: it is given the bytes from the beginning, or from the chunk that is
unusual, and what it says holds. So nothing is taken that h11 would not take, and nothing is understood otherwise
(``tests/aiorchd/providers/transport/test_answers.py`` compares the two).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import methodcaller
from typing import Final

import h11

from aiorchd.providers.transport.channel import Head

_HEAD: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*)"
)
_FIELD: Final = re.compile(r"([^:]+):([^\r]*)\r\n")
"""One header of such a head, the blanks around its value included: a pattern that left them out would go through a long run of
blanks within it once for each of them."""
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
_bare: Final = methodcaller("strip", " \t")
_BODILESS: Final = (204, 304)
_LENGTH_DIGITS: Final = 18
_LAST_CHUNK: Final = b"0\r\n\r\n"
_BETWEEN: Final = b"\r\n"
_SYNTHETIC_HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Answers:
    """Reads one answer after the other: `expect`, then `head` until there is one, then `body` until it is ``b""``; whoever
    gets None gives more by `feed`.

    ``asked`` makes an h11 connection that has sent the request; it is called when an answer is not of the usual form.
    ``keeps`` tells whether the request lets the connection be kept, and ``usual`` whether its answer may be read here.
    Raises `h11.RemoteProtocolError` for what is no HTTP and for an end before its time.
    """

    __slots__ = ("_asked", "_at", "_chunked", "_closed", "_data", "_ended", "_h11", "_keeps", "_left", "_usual")

    def __init__(self) -> None:
        self._asked: Callable[[], h11.Connection] | None = None
        self._data = b""
        self._closed = False
        self._ended = True

    def expect(self, asked: Callable[[], h11.Connection], *, keeps: bool, usual: bool) -> None:
        """A request was sent; its answer comes."""
        self._asked = asked
        self._keeps = keeps
        self._usual = usual
        self._h11: h11.Connection | None = None
        self._at = 0
        """Up to here the bytes at hand are understood."""
        self._chunked = False
        self._left = 0
        """So many bytes of the body, or of the present chunk with the end of its line, are still to come."""
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Take what came; ``b""`` when the other end has closed."""
        if self._h11 is not None:
            self._h11.receive_data(data)
        elif not data:
            self._closed = True
        elif self._at < len(self._data):
            self._data = self._data[self._at :] + data
            self._at = 0
        else:
            self._data, self._at = data, 0

    def head(self) -> Head | None:
        """Give the head, None when it is not all here."""
        if self._h11 is None:
            head = self._quick_head() if self._usual and not self._closed else None
            if head is not None:
                return head
            if not self._data and not self._closed:
                return None
            self._leave_to_h11(self._data)
        return self._head_by_h11()

    def body(self) -> bytes | None:
        """Give the next piece of the body, ``b""`` when it is whole, None when more has to come."""
        if self._h11 is not None:
            return self._body_by_h11()
        if self._ended:
            return b""
        if self._chunked:
            piece = self._chunks()
        elif left := self._left:
            at = self._at
            piece = self._data[at : at + left] or None
            if piece is not None:
                self._at = at + len(piece)
                self._left = left = left - len(piece)
                self._ended = not left
        else:
            self._ended, piece = True, b""
        if piece is None and self._closed:
            raise h11.RemoteProtocolError("peer closed connection without sending complete message body")
        return piece

    def finish(self) -> bool:
        """Tell, after the end of an answer, whether another may be asked for: not where bytes have come that nobody asked
        for, for they would be taken for the next answer."""
        connection = self._h11
        if connection is not None:
            self._h11 = None
            return (
                connection.our_state is h11.DONE
                and connection.their_state is h11.DONE
                and connection.trailing_data == (b"", False)
            )
        over = self._at < len(self._data)
        self._data, self._at = b"", 0
        return self._ended and self._keeps and not over and not self._closed

    # the usual form

    def _quick_head(self) -> Head | None:
        data = self._data
        end = data.find(b"\r\n\r\n")
        head = _HEAD.fullmatch(data, 0, end + 2) if end >= 0 else None
        if head is None:
            return None
        status = int(head[1])
        pairs = _FIELD.findall(head[2].decode("latin-1"))
        names, values = zip(*pairs, strict=True) if pairs else ((), ())
        fields = dict(zip(map(str.lower, names), map(_bare, values), strict=True))
        if len(fields) != len(pairs) and _is_doubled([name.lower() for name in names]):
            return None
        if status in _BODILESS or fields.get("connection", "keep-alive").lower() != "keep-alive":
            return None
        length = fields.get("content-length")
        coding = fields.get("transfer-encoding")
        if length is None:
            if coding != "chunked":
                return None
            self._chunked = True
        elif coding is None and length.isdecimal() and len(length) <= _LENGTH_DIGITS and length.isascii():
            self._left = int(length)
        else:
            return None
        self._at = end + 4
        return Head(status, fields)

    def _chunks(self) -> bytes | None:
        """Give what there is of the chunks; at what is not exactly a chunk h11 goes on."""
        pieces: list[bytes] = []
        data, at, left = self._data, self._at, self._left
        while True:
            if left > 2:
                piece = data[at : at + left - 2]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                left -= len(piece)
                continue
            if left:
                between = data[at : at + left]
                if between != _BETWEEN[2 - left :][: len(between)]:
                    if not pieces:
                        raise h11.RemoteProtocolError("malformed chunk footer")
                    break
                at += len(between)
                left -= len(between)
                if left:
                    break
            end = data.find(b"\r\n", at)
            size = _CHUNK_SIZE.fullmatch(data, at, end) if end >= 0 else None
            length = int(size[0], 16) if size is not None else 0
            if length:
                at, left = end + 2, length + 2
                continue
            rest = data[at : at + 5]
            if rest == _LAST_CHUNK:
                at += 5
                self._ended = True
            elif (
                rest
                and not pieces
                and not (_LAST_CHUNK.startswith(rest) or (end < 0 and _CHUNK_SIZE.fullmatch(data, at)))
            ):
                self._leave_to_h11(_SYNTHETIC_HEAD + data[at:])
                self._head_by_h11()
                return self._body_by_h11()
            break
        self._at, self._left = at, left
        if pieces:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return b"" if self._ended else None

    # everything else

    def _leave_to_h11(self, data: bytes) -> None:
        assert self._asked is not None
        self._h11 = connection = self._asked()
        self._data, self._at = b"", 0
        if data:
            connection.receive_data(data)
        if self._closed:
            connection.receive_data(b"")

    def _head_by_h11(self) -> Head | None:
        assert self._h11 is not None
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Response):
                fields = {
                    name.lower().decode("latin-1"): value.decode("latin-1") for name, value in event.headers.raw_items()
                }
                return Head(event.status_code, fields)
            if not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("something that is not an HTTP answer")

    def _body_by_h11(self) -> bytes | None:
        assert self._h11 is not None
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                return None
            if not isinstance(event, h11.Data):
                return b""
            if event.data:
                return bytes(event.data)


def _is_doubled(names: list[str]) -> bool:
    """Whether a header that says how the answer is to be read comes twice."""
    return any(names.count(name) > 1 for name in ("content-length", "transfer-encoding", "connection"))
