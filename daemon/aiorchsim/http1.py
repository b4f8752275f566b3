"""HTTP/1.1 as a server reads it, without I/O: bytes in, requests out, one kind of error.

A parser belongs to one connection. It accepts bytes in any pieces, bodies by Content-Length or in chunks, requests
sent back to back (they come out one at a time, in order), and bounds everything: head, headers, body. Whatever is not
clearly right is refused with a 4xx or 5xx status (RFC 9112 and, for what smuggling attacks use, its stricter
readings: both lengths at once, lengths that differ, spaces before a colon, folded lines and bare line feeds are
errors). After an error the connection is of no further use.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

MOST_HEAD_BYTES: Final = 32 * 1024
MOST_HEADERS: Final = 100
MOST_CHUNK_LINE_BYTES: Final = 1024

_TCHAR: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_HEAD: Final = re.compile(
    rf"(?P<method>{_TCHAR}{{1,32}}+) (?P<target>[!-~]{{1,8192}}+) HTTP/1\.(?P<minor>[01])\r\n"
    rf"(?P<headers>(?:{_TCHAR}++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)"
)
_REQUEST_LINE: Final = re.compile(rf"{_TCHAR}{{1,32}} [!-~]{{1,8192}} HTTP/(?P<version>\d\.\d)")
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{1,12}")


class MalformedRequest(Exception):
    """What was received is no acceptable request; `status` is the answer it deserves, the message says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class Request:
    """One whole request. Header names are lower-case; a header sent twice holds both values, joined by a comma."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    minor_version: int
    keep_alive: bool


class _Expecting(Enum):
    HEAD = auto()
    BODY = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()


class RequestParser:
    """Feed it what the socket gave; ask it for the next request until it has none."""

    __slots__ = (
        "_body",
        "_broken",
        "_buffer",
        "_expecting",
        "_most_body_bytes",
        "_needed",
        "_request",
        "_scanned",
        "_trailer_bytes",
    )

    def __init__(self, most_body_bytes: int) -> None:
        self._most_body_bytes = most_body_bytes
        self._buffer = bytearray()
        self._expecting = _Expecting.HEAD
        self._scanned = 0
        self._needed = 0
        self._request: Request | None = None
        self._body = bytearray()
        self._trailer_bytes = 0
        self._broken = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that belong to no request given out yet."""
        return len(self._buffer) + len(self._body)

    @property
    def wants_continue(self) -> bool:
        """Whether the peer sent a head that expects "100 Continue" and waits with the body."""
        request = self._request
        return (
            request is not None
            and not self._buffer
            and not self._body
            and request.minor_version == 1
            and request.headers.get("expect", "").lower() == "100-continue"
        )

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        self._buffer += data

    def next_request(self) -> Request | None:
        """The next whole request, or None until more bytes come. Raises MalformedRequest; after that, always."""
        if self._broken:
            raise MalformedRequest(400, "the connection is out of step")
        try:
            return self._advance()
        except MalformedRequest:
            self._broken = True
            raise

    def _advance(self) -> Request | None:
        while True:
            match self._expecting:
                case _Expecting.HEAD:
                    if not self._read_head():
                        return None
                case _Expecting.BODY:
                    if len(self._buffer) < self._needed:
                        return None
                    return self._finished(self._taken(self._needed))
                case _Expecting.CHUNK_SIZE:
                    if not self._read_chunk_size():
                        return None
                case _Expecting.CHUNK:
                    if not self._read_chunk():
                        return None
                case _Expecting.CHUNK_END:
                    if len(self._buffer) < 2:
                        return None
                    if self._taken(2) != b"\r\n":
                        raise MalformedRequest(400, "a chunk is longer than its size says")
                    self._expecting = _Expecting.CHUNK_SIZE
                case _Expecting.TRAILERS:
                    line = self._line("a trailer")
                    if line is None:
                        return None
                    self._trailer_bytes += len(line) + 2
                    if self._trailer_bytes > MOST_HEAD_BYTES:
                        raise MalformedRequest(431, "the trailers are too large")
                    if not line:
                        body = bytes(self._body)
                        self._body = bytearray()
                        return self._finished(body)

    def _finished(self, body: bytes) -> Request:
        request = self._request
        assert request is not None
        request.body = body
        self._request = None
        self._expecting = _Expecting.HEAD
        self._scanned = 0
        return request

    def _taken(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _read_head(self) -> bool:
        buffer = self._buffer
        while buffer[:2] == b"\r\n":  # an empty line or two before a request is forgiven
            del buffer[:2]
            self._scanned = 0
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0:
            self._refuse_hopeless_head()
            self._scanned = len(buffer)
            return False
        if end > MOST_HEAD_BYTES:
            raise MalformedRequest(431, f"the head is larger than {MOST_HEAD_BYTES} bytes")
        text = self._taken(end + 4).decode("latin-1")[:-2]
        found = _HEAD.fullmatch(text)
        if found is None:
            raise _diagnosed(text)
        headers: dict[str, str] = {}
        lines = found["headers"].split("\r\n")
        if len(lines) > MOST_HEADERS + 1:
            raise MalformedRequest(431, f"there are more than {MOST_HEADERS} headers")
        for line in lines[:-1]:
            name, _, value = line.partition(":")
            name = name.lower()
            value = value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self._begin(found["method"], found["target"], int(found["minor"]), headers)
        return True

    def _begin(self, method: str, target: str, minor: int, headers: dict[str, str]) -> None:
        if minor == 1 and "host" not in headers:
            raise MalformedRequest(400, "the Host header is missing")
        options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
        keep_alive = "close" not in options if minor else "keep-alive" in options
        path, _, query = _origin_form(target).partition("?")
        self._request = Request(method, path, query, headers, b"", minor, keep_alive)
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if "content-length" in headers:
                raise MalformedRequest(400, "Content-Length and Transfer-Encoding contradict each other")
            if minor == 0:
                raise MalformedRequest(400, "HTTP/1.0 has no Transfer-Encoding")
            if coding.lower() != "chunked":
                raise MalformedRequest(501, "the only transfer coding understood is chunked")
            self._expecting = _Expecting.CHUNK_SIZE
            self._trailer_bytes = 0
            return
        self._needed = self._content_length(headers.get("content-length", "0"))
        self._expecting = _Expecting.BODY

    def _content_length(self, written: str) -> int:
        if not (written.isascii() and written.isdigit()):
            distinct = {part.strip() for part in written.split(",")}
            written = distinct.pop() if len(distinct) == 1 else ""
            if not (written.isascii() and written.isdigit()):
                raise MalformedRequest(400, "Content-Length is not a number")
        if len(written) > 15 or int(written) > self._most_body_bytes:
            raise MalformedRequest(413, f"the body is larger than {self._most_body_bytes} bytes")
        return int(written)

    def _refuse_hopeless_head(self) -> None:
        """A head that can never become right is refused at once instead of being waited for."""
        buffer = self._buffer
        if len(buffer) > MOST_HEAD_BYTES:
            raise MalformedRequest(431, f"the head is larger than {MOST_HEAD_BYTES} bytes")
        newline = buffer.find(b"\n", self._scanned)
        while newline >= 0:
            if newline == 0 or buffer[newline - 1] != 0x0D:
                raise MalformedRequest(400, "lines end in a bare line feed")
            newline = buffer.find(b"\n", newline + 1)
        if self._scanned == 0 and buffer and not (0x21 <= buffer[0] <= 0x7E or buffer == b"\r"):
            raise MalformedRequest(400, "this is not HTTP")

    def _read_chunk_size(self) -> bool:
        line = self._line("a chunk size")
        if line is None:
            return False
        written = line.partition(b";")[0].rstrip(b" \t")
        if _HEX.fullmatch(written) is None:
            raise MalformedRequest(400, "a chunk size is not a hexadecimal number")
        self._needed = int(written, 16)
        if len(self._body) + self._needed > self._most_body_bytes:
            raise MalformedRequest(413, f"the body is larger than {self._most_body_bytes} bytes")
        self._expecting = _Expecting.CHUNK if self._needed else _Expecting.TRAILERS
        return True

    def _read_chunk(self) -> bool:
        taken = min(self._needed, len(self._buffer))
        self._body += self._buffer[:taken]
        del self._buffer[:taken]
        self._needed -= taken
        if self._needed:
            return False
        self._expecting = _Expecting.CHUNK_END
        return True

    def _line(self, what: str) -> bytes | None:
        end = self._buffer.find(b"\n", 0, MOST_CHUNK_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= MOST_CHUNK_LINE_BYTES:
                raise MalformedRequest(400, f"{what} is longer than {MOST_CHUNK_LINE_BYTES} bytes")
            return None
        line = self._taken(end + 1)
        if not line.endswith(b"\r\n"):
            raise MalformedRequest(400, "lines end in a bare line feed")
        return line[:-2]


def _origin_form(target: str) -> str:
    if target.startswith("/"):
        return target
    for scheme in ("http://", "https://"):
        if target.lower().startswith(scheme):
            _, slash, path = target[len(scheme) :].partition("/")
            return slash + path or "/"
    if target == "*":
        return target
    raise MalformedRequest(400, "the request target is not a path")


def _diagnosed(head: str) -> MalformedRequest:
    """Why a head was not understood."""
    line, _, headers = head.partition("\r\n")
    request_line = _REQUEST_LINE.fullmatch(line)
    if request_line is None:
        return MalformedRequest(414 if len(line) > 8192 else 400, "the request line is not METHOD TARGET HTTP/1.1")
    if request_line["version"] not in ("1.0", "1.1"):
        return MalformedRequest(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    for header in headers.split("\r\n"):
        name, colon, _ = header.partition(":")
        if header[:1] in (" ", "\t"):
            return MalformedRequest(400, "folded header lines are obsolete")
        if header and not (colon and re.fullmatch(f"{_TCHAR}+", name)):
            return MalformedRequest(400, "a header line is not NAME: VALUE")
    return MalformedRequest(400, "a header has a control character in it")
