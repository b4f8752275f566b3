"""The parser: whole, byte by byte, back to back; whatever comes in, a request or a MalformedRequest comes out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.http1 import MOST_HEAD_BYTES, MalformedRequest, RequestParser

MOST_BODY = 10_000


def parsed(data, pieces=None):
    """All requests in the data, fed in pieces (sizes), and the error that ended it, if any."""
    parser = RequestParser(MOST_BODY)
    requests = []
    position = 0
    sizes = iter(pieces or [])
    try:
        while position < len(data):
            size = max(1, next(sizes, len(data)))
            parser.feed(data[position : position + size])
            position += size
            while (request := parser.next_request()) is not None:
                requests.append(request)
    except MalformedRequest as error:
        return requests, error
    return requests, None


def one_by_one(data):
    return parsed(data, [1] * len(data))


def facts(requests):
    return [(r.method, r.path, r.query, r.headers, r.body, r.minor_version, r.keep_alive) for r in requests]


def check(data):
    """Parse three ways and give the answer on which all agree."""
    whole, error = parsed(data)
    bytewise, bytewise_error = one_by_one(data)
    junk, _ = parsed(data + b"GET /more HTTP/1.1\r\nHost: x\r\n\r\n")
    assert facts(whole) == facts(bytewise)
    assert (error and error.status) == (bytewise_error and bytewise_error.status)
    assert facts(junk)[: len(whole)] == facts(whole)
    return whole, error


GET = b"GET /v1/models?limit=2 HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-A:  one \r\nx-a: two\r\n\r\nhello"
CHUNKED = (
    b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\nA;name=value\r\n, world 10\r\n0\r\nTrailer: x\r\n\r\n"
)


def test_a_request_without_a_body():
    (request,), error = check(GET)
    assert error is None
    assert (request.method, request.path, request.query) == ("GET", "/v1/models", "limit=2")
    assert request.headers == {"host": "a"}
    assert request.body == b""
    assert request.keep_alive


def test_a_body_of_known_length_and_headers_sent_twice():
    (request,), error = check(POST)
    assert error is None
    assert request.body == b"hello"
    assert request.headers["x-a"] == "one, two"


def test_a_body_in_chunks():
    (request,), error = check(CHUNKED)
    assert error is None
    assert request.body == b"hello, world 10"


def test_requests_sent_back_to_back_come_out_in_order():
    requests, error = check(POST + b"\r\n\r\n" + CHUNKED + GET)
    assert error is None
    assert [request.body for request in requests] == [b"hello", b"hello, world 10", b""]


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close", False),
        (b"GET / HTTP/1.0", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive", True),
        (b"GET http://a/ HTTP/1.1\r\nHost: a", True),
        (b"OPTIONS * HTTP/1.1\r\nHost: a", True),
    ],
)
def test_whether_the_connection_goes_on(head, keep_alive):
    (request,), error = check(head + b"\r\n\r\n")
    assert error is None
    assert request.keep_alive is keep_alive


def test_absolute_targets_become_paths():
    (request,), _ = check(b"GET http://host:80/v1/x?q=1 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (request.path, request.query) == ("/v1/x", "q=1")
    (request,), _ = check(b"GET HTTP://host HTTP/1.1\r\nHost: a\r\n\r\n")
    assert request.path == "/"


HOST = b"Host: a\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b" folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
        (b"GET a.example HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: \r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nFFFF\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1388\r\n" + b"x" * 5000 + b"\r\n1389\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0" + b"0" * 2000, 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + (b"A: " + b"b" * 900 + b"\r\n") * 50, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * (MOST_HEAD_BYTES + 10) + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 120 + b"\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    ],
)  # fmt: skip
def test_what_is_not_clearly_right_is_refused(data, status):
    requests, error = check(data)
    assert not requests
    assert error is not None
    assert error.status == status
    assert error.message


def test_lengths_that_agree_are_one_length():
    (request,), error = check(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello")
    assert error is None
    assert request.body == b"hello"


def test_a_broken_parser_stays_broken():
    parser = RequestParser(MOST_BODY)
    parser.feed(b"nonsense\r\n\r\n" + GET)
    for _ in range(3):
        with pytest.raises(MalformedRequest):
            parser.next_request()


def test_a_head_that_expects_to_be_told_to_continue():
    parser = RequestParser(MOST_BODY)
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert parser.next_request() is None
    assert parser.wants_continue
    parser.feed(b"he")
    assert parser.next_request() is None
    assert not parser.wants_continue
    parser.feed(b"llo")
    request = parser.next_request()
    assert request is not None
    assert request.body == b"hello"


TOKENS = st.text(st.sampled_from("abcXYZ019-_"), min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
BODIES = st.binary(max_size=200)


@st.composite
def messages(draw):
    """A valid request as bytes, with what it says."""
    method, path, body = draw(TOKENS), "/" + draw(TOKENS), draw(BODIES)
    headers = draw(st.dictionaries(TOKENS.map("x-{}".format), VALUES, max_size=4))
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in headers.items())]
    if draw(st.booleans()):
        lines.append("Transfer-Encoding: chunked")
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
        parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        payload = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(body)}")
        payload = body
    lowered = {name.lower(): value for name, value in headers.items()}
    names_differ = len(lowered) == len(headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload, (method, path, body, lowered if names_differ else None)


@settings(deadline=None)
@given(st.lists(messages(), min_size=1, max_size=4), st.lists(st.integers(1, 50), max_size=60))
def test_valid_requests_come_out_as_they_were_sent_however_cut(sent, pieces):
    requests, error = parsed(b"".join(data for data, _ in sent), pieces)
    assert error is None
    assert len(requests) == len(sent)
    for request, (_, (method, path, body, headers)) in zip(requests, sent, strict=True):
        assert (request.method, request.path, request.body) == (method, path, body)
        if headers is not None:
            assert {name: value for name, value in request.headers.items() if name.startswith("x-")} == headers


NASTY = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"GET",
        b"POST",
        b" / HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"\x00",
        b"\xff",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"Expect: 100-continue\r\n",
        b";",
        b"1" * 20,
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(NASTY | st.binary(max_size=20), max_size=30).map(b"".join))
def test_garbage_gives_requests_or_the_one_error_and_the_same_byte_by_byte(data):
    whole, error = parsed(data)
    bytewise, bytewise_error = one_by_one(data)
    assert facts(whole) == facts(bytewise)
    if error is not None and bytewise_error is not None:
        assert error.status == bytewise_error.status


def test_long_bodies_byte_by_byte_take_linear_time():
    import time

    parser = RequestParser(2_000_000)
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    began = time.process_time()
    for _ in range(100_000):
        parser.feed(b"0123456789")
        request = parser.next_request()
    assert request is not None
    assert len(request.body) == 1_000_000
    assert time.process_time() - began < 2.0
