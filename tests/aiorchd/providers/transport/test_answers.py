"""Answers are read as h11 reads them: the same head, the same body, the same verdict, whatever comes in whatever pieces."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiorchd.providers.transport.answers import Answers
from aiorchd.providers.transport.channel import Head

MAX_HEAD_BYTES = 300
CLOSING = [(b"host", b"x"), (b"connection", b"close"), (b"content-length", b"0")]
KEEPING = [(b"host", b"x"), (b"content-length", b"0")]


@dataclass
class Read:
    """What came of some bytes."""

    head: Head | None = None
    body: bytes = b""
    ended: bool = False
    broken: bool = False
    kept: bool = False


def asked(headers: list[tuple[bytes, bytes]]) -> h11.Connection:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    connection.send(h11.Request(method=b"POST", target=b"/", headers=headers))
    connection.send(h11.EndOfMessage())
    return connection


def by_h11(pieces: list[bytes], headers: list[tuple[bytes, bytes]]) -> Read:
    read, connection = Read(), asked(headers)
    try:
        for piece in pieces:
            connection.receive_data(piece)
            while not read.ended:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    break
                if isinstance(event, h11.Response):
                    fields = {
                        name.lower().decode(): value.decode("latin-1") for name, value in event.headers.raw_items()
                    }
                    read.head = Head(event.status_code, fields)
                elif isinstance(event, h11.Data):
                    read.body += bytes(event.data)
                elif isinstance(event, h11.InformationalResponse):
                    continue
                elif read.head is not None:
                    read.ended = True
                else:
                    raise h11.RemoteProtocolError("no answer")
    except h11.RemoteProtocolError:
        read.broken = True
    whole = connection.our_state is h11.DONE and connection.their_state is h11.DONE
    read.kept = read.ended and whole and connection.trailing_data == (b"", False)
    return read


def by_us(pieces: list[bytes], headers: list[tuple[bytes, bytes]]) -> Read:
    read, answers = Read(), Answers()
    answers.expect(lambda: asked(headers), keeps=headers is KEEPING, usual=True)
    try:
        for piece in pieces:
            if not read.ended or piece or not read.kept:
                answers.feed(piece)
            if read.head is None:
                read.head = answers.head()
            while read.head is not None and not read.ended:
                part = answers.body()
                if part is None:
                    break
                read.body += part
                read.ended = part == b""
    except h11.RemoteProtocolError:
        read.broken = True
    read.kept = read.ended and answers.finish()
    return read


def alike(data: bytes, cuts: list[int], headers: list[tuple[bytes, bytes]], *, closes: bool) -> Read:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in pairwise(places)]
    if closes:
        pieces.append(b"")
    ours, theirs = by_us(pieces, headers), by_h11(pieces, headers)
    assert ours == theirs
    return ours


names = st.sampled_from(
    [b"content-type", b"Content-Length", b"TRANSFER-ENCODING", b"connection", b"set-cookie", b"x-a", b"na me", b""]
)
values = st.sampled_from(
    [b"5", b"0", b"12", b"5, 5", b"05", b"+5", b"5 ", b"-1", b"1" * 21, b"chunked", b"Chunked", b"gzip, chunked", b"close", b"keep-alive", b"Keep-Alive", b"a b\tc", b"\xe4", b"a\x01b", b"a\0b", b"\x7f", b" ", b""]
)  # fmt: skip
ends_of_line = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n ", b"\r\n\t"])
status_lines = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 8 + [b"HTTP/1.1 200", b"HTTP/1.1 404 Not \xfcber", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 304 x", b"HTTP/1.1 100 Go on", b"HTTP/1.1 999 x", b"HTTP/1.1 20 x", b"HTTP/1.1  200 x", b"http/1.1 200 x", b"HTTP/2.0 200 x", b"HTTP/1.1 200 a\x01"]
)  # fmt: skip
chunk_heads = st.sampled_from([b"5", b"05", b"a", b"A", b"0", b"00", b"5;x=y", b"5 ", b"g", b"", b"f" * 15, b"f" * 16, b"f" * 21])  # fmt: skip


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    head = draw(status_lines) + draw(ends_of_line)
    for name, value in draw(st.lists(st.tuples(names, values), max_size=5)):
        head += name + draw(st.sampled_from([b":", b": ", b":\t ", b" :"])) + value + draw(ends_of_line)
    return head + draw(ends_of_line)


MORE = [b"x-a: 1\r\n", b"set-cookie: a\r\n", b"Connection: keep-alive\r\n"]
FRAMING = [b"content-length: 4\r\n", b"Content-Length: 5\r\n", b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip\r\n", b"Transfer-Encoding: Chunked\r\n", b"connection: close\r\n", b"connection: x, Close\r\n"]  # fmt: skip
STATUSES = [b"HTTP/1.1 200 OK\r\n"] * 6 + [
    b"HTTP/1.1 204 x\r\n",
    b"HTTP/1.1 304 x\r\n",
    b"HTTP/1.1 503\r\n",
    b"HTTP/1.0 200 x\r\n",
]
SIZES = [b"%x"] * 12 + [b"%X", b"0%x", b"%x;x=y", b"%x ", b"%015x", b"%016x", b"%021x", b"-%x", b"+%x", b"0x%x"]


@st.composite
def usual_answers(draw: st.DrawFn) -> bytes:
    """Right for the most part."""
    head = draw(st.sampled_from(STATUSES)) + b"".join(draw(st.lists(st.sampled_from(MORE), max_size=3)))
    head += b"".join(draw(st.lists(st.sampled_from(FRAMING), max_size=1)))
    body = draw(st.binary(max_size=40))
    if draw(st.booleans()):
        length = len(body) + draw(st.sampled_from([0, 0, 0, 1, -1]))
        return b"%bcontent-length: %d\r\n\r\n%b" % (head, length, body)
    data = head + draw(st.sampled_from([b"transfer-encoding: chunked\r\n\r\n"] * 9 + [b"\r\n"]))
    for chunk in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=5)):
        data += draw(st.sampled_from(SIZES)) % len(chunk) + b"\r\n" + chunk
        data += draw(st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r\r", b"xx", b""]))
    return data + draw(st.sampled_from([b"0\r\n\r\n"] * 6 + [b"00\r\n\r\n", b"0\r\nx-a: 1\r\n\r\n", b"0\r\nx a\r\n\r\n", b"0\n\n", b"", b"0\r\n\r\nHTTP/1.1"]))  # fmt: skip


@st.composite
def odd_answers(draw: st.DrawFn) -> bytes:
    data = draw(heads())
    for head in draw(st.lists(chunk_heads, max_size=3)):
        data += head + draw(ends_of_line) + draw(st.binary(max_size=12)) + draw(ends_of_line)
    return data + draw(st.binary(max_size=30))


cuts = st.lists(st.integers(0, 400), max_size=6)


@settings(max_examples=500, deadline=None)
@given(data=usual_answers(), cuts=cuts, closes=st.booleans(), headers=st.sampled_from([KEEPING, KEEPING, CLOSING]))
def test_usual_answers_are_read_as_h11_reads_them(
    data: bytes, cuts: list[int], closes: bool, headers: list[tuple[bytes, bytes]]
) -> None:
    alike(data, cuts, headers, closes=closes)


@settings(max_examples=700, deadline=None)
@given(data=odd_answers(), cuts=cuts, closes=st.booleans())
@example(data=b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", cuts=[], closes=True)
@example(data=b"HTTP/1.1 200 OK\n\nx\r\n\r\n", cuts=[], closes=True)
@example(data=b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nCONTENT-LENGTH: 3\r\n\r\nabcd", cuts=[], closes=False)
@example(
    data=b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", cuts=[], closes=False
)
@example(
    data=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n" + b"0" * 400, cuts=[], closes=False
)
def test_odd_and_hostile_answers_are_read_as_h11_reads_them(data: bytes, cuts: list[int], closes: bool) -> None:
    alike(data, cuts, KEEPING, closes=closes)


@settings(max_examples=300, deadline=None)
@given(
    data=usual_answers(), places=st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=3), cuts=cuts
)
def test_damaged_answers_are_read_as_h11_reads_them(
    data: bytes, places: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    for place, junk in places:
        at = place % (len(data) + 1)
        data = data[:at] + junk + data[at + len(junk) :]
    alike(data, cuts, KEEPING, closes=True)


LENGTH = b"HTTP/1.1 200 OK\r\nX-Request-ID:  r1 \r\ncontent-length: 5\r\n\r\nhello"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"


@pytest.mark.parametrize("data", [LENGTH, CHUNKS], ids=["length", "chunks"])
def test_a_usual_answer_takes_no_h11(data: bytes) -> None:
    def never() -> h11.Connection:
        raise AssertionError("left to h11")

    answers = Answers()
    for _ in range(3):
        answers.expect(never, keeps=True, usual=True)
        assert answers.head() is None
        answers.feed(data)
        head = answers.head()
        assert head is not None
        assert head.status == 200
        assert answers.body() == b"hello"
        assert answers.body() == b""
        assert answers.finish()


@pytest.mark.parametrize("data", [LENGTH, CHUNKS], ids=["length", "chunks"])
def test_what_comes_after_an_answer_spoils_the_connection(data: bytes) -> None:
    assert alike(data, [], KEEPING, closes=False).kept
    assert not alike(data + b"H", [], KEEPING, closes=False).kept
    assert not alike(data, [], CLOSING, closes=False).kept


def test_an_answer_to_an_unusual_request_is_left_to_h11() -> None:
    answers = Answers()
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=b"HEAD", target=b"/", headers=[(b"host", b"x")]))
    connection.send(h11.EndOfMessage())
    answers.expect(lambda: connection, keeps=True, usual=False)
    answers.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    assert answers.head() is not None
    assert answers.body() == b""
    assert answers.finish()


def test_blanks_within_a_header_hold_nobody_up() -> None:
    """A pattern that goes back for each blank takes a second of the event loop for so many, a thousand times what it may."""

    def reading_s(filling: bytes) -> float:
        answers = Answers()
        answers.expect(lambda: asked(KEEPING), keeps=True, usual=True)
        answers.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: a" + filling + b"b\r\n\r\n")
        began = time.process_time()
        head = answers.head()
        took_s = time.process_time() - began
        assert head is not None
        assert head.fields["x"] == f"a{filling.decode()}b"
        return took_s

    blanks_s = min(reading_s(b" " * 40_000) for _ in range(3))
    assert blanks_s < 0.002 + 50 * min(reading_s(b"c" * 40_000) for _ in range(3))
