"""MessagePack-RPC without I/O: bytes in, events out; method calls in, bytes out.

One `Connection` stands on each side of a socket, in the client library and in the daemon. It does no I/O and knows no
clock, so every shell (blocking, asyncio, trio, the daemon's) shares it. The framing is the published one:

    request       [0, msgid, method, params]
    response      [1, msgid, error, result]
    notification  [2, method, params]

Strict in what it sends: string keys, no extension types, integers within 64 bits, valid UTF-8. Lenient in what it
takes: a ``str`` may hold bytes that are not UTF-8 (they become surrogate escapes), an empty array may stand for an
empty map. Whatever cannot be understood raises `RemoteProtocolError`; after that the connection is dead, because
nobody can know where the next message begins.

Limits. msgpack's C decoder bounds a buffer and a single container, but not how many objects one frame makes: a
megabyte of empty arrays becomes 70 MB. So a frame that outgrows `SMALL_FRAME_BYTES` is decoded again under a counter.
Frames below that cannot make more objects than they have bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgpack

from aiorch.errors import LocalProtocolError, RemoteProtocolError

SMALL_FRAME_BYTES: Final = 64 * 1024

_DEEP: Final = 100
"""Levels of nesting that are sent; the decoder on the other side gives up somewhere beyond 500."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one side takes from the other: bytes of one frame, and objects (elements of arrays and maps) in it."""

    max_frame_bytes: int = 16 * 1024 * 1024
    max_elements: int = 100_000


@dataclass(slots=True)
class Request:
    """The other side asks. ``argument_bytes`` is the exact packed form of method and params, when the frame came in
    one piece: equal bytes mean an equal question, which saves working it out again; otherwise None.
    """

    msgid: int
    method: str
    params: list[Any]
    argument_bytes: bytes | None = None


@dataclass(slots=True)
class Response:
    """The other side answers request ``msgid``: with ``result``, or with ``error`` when that is not None."""

    msgid: int
    error: Any
    result: Any


@dataclass(slots=True)
class Notification:
    """The other side tells something and awaits no answer."""

    method: str
    params: list[Any]


Event: TypeAlias = Request | Response | Notification


class Connection:
    """One side of one connection.

    ``receive_data`` is fed whatever arrived and returns the complete messages in it; ``pack_*`` return bytes to be
    written in full and in order. Ids of requests this side sends are made by ``pack_request``; matching answers to
    them is the shell's work, since only it knows who waits.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits if limits is not None else Limits()
        self._unpacker = self._plain_unpacker()
        self._fed_bytes = 0
        """Bytes given to this decoder since it was made, to turn its positions into places in the chunk at hand."""
        self._counting = False
        self._elements = 0
        self._pending: list[bytes] = []
        """Chunks since the last complete message, kept so that an outgrown frame can be decoded under the counter."""
        self._pending_bytes = 0
        self._dead: str | None = None
        self._next_msgid = 0

    # receiving

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes, return the messages they complete. Raises `RemoteProtocolError`, then and ever after."""
        if self._dead is not None:
            raise RemoteProtocolError(self._dead)
        try:
            if len(data) <= SMALL_FRAME_BYTES:
                return self._receive_large(data) if self._counting else self._receive_small(data)
            events: list[Event] = []
            for start in range(0, len(data), SMALL_FRAME_BYTES):
                piece = data[start : start + SMALL_FRAME_BYTES]
                events.extend(self._receive_large(piece) if self._counting else self._receive_small(piece))
            return events
        except RemoteProtocolError as error:
            self._dead = str(error)
            raise

    def _receive_small(self, data: bytes) -> list[Event]:
        unpacker = self._unpacker
        events: list[Event] = []
        consumed = 0
        try:
            offset = self._fed_bytes
            unpacker.feed(data)
            self._fed_bytes += len(data)
            while True:
                message = unpacker.unpack()
                end = unpacker.tell() - offset
                events.append(_event(message) if self._pending_bytes else _event(message, data, consumed, end))
                consumed = end
                if self._pending_bytes:
                    self._pending.clear()
                    self._pending_bytes = 0
        except msgpack.OutOfData:
            pass
        except RemoteProtocolError:
            raise
        except _DECODE_ERRORS as error:
            raise _malformed(error, self._limits) from error
        if consumed < len(data):
            rest = data[consumed:] if consumed else data
            self._pending.append(rest)
            self._pending_bytes += len(rest)
            if self._pending_bytes > SMALL_FRAME_BYTES:
                events.extend(self._start_counting())
        return events

    def _start_counting(self) -> list[Event]:
        waiting = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        self._counting = True
        self._elements = 0
        self._fed_bytes = 0
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=self._limits.max_frame_bytes,
            object_pairs_hook=self._count_map,
            list_hook=self._count_list,
            strict_map_key=True,
            unicode_errors="surrogateescape",
            ext_hook=_no_extension,
            max_array_len=self._limits.max_elements,
            max_map_len=self._limits.max_elements,
        )
        return self._receive_large(waiting)

    def _receive_large(self, data: bytes) -> list[Event]:
        unpacker = self._unpacker
        start = self._fed_bytes
        self._fed_bytes += len(data)
        events: list[Event] = []
        self._pending_bytes += len(data)
        if self._pending_bytes > self._limits.max_frame_bytes:
            raise RemoteProtocolError(_too_large(self._limits))
        try:
            unpacker.feed(data)
            events.append(_event(unpacker.unpack()))
        except msgpack.OutOfData:
            return events
        except RemoteProtocolError:
            raise
        except _DECODE_ERRORS as error:
            raise _malformed(error, self._limits) from error
        # The large frame is whole: back to the plain decoder with whatever followed it.
        used = unpacker.tell() - start
        self._unpacker = self._plain_unpacker()
        self._fed_bytes = 0
        self._counting = False
        self._pending_bytes = 0
        rest = data[used:]
        if rest:
            events.extend(self._receive_small(rest))
        return events

    def _plain_unpacker(self) -> Any:
        return msgpack.Unpacker(
            max_buffer_size=self._limits.max_frame_bytes,
            read_size=min(4096, self._limits.max_frame_bytes),
            strict_map_key=True,
            unicode_errors="surrogateescape",
            ext_hook=_no_extension,
            max_array_len=self._limits.max_elements,
            max_map_len=self._limits.max_elements,
        )

    def _count_list(self, items: list[Any]) -> list[Any]:
        self._elements += len(items) + 1
        if self._elements > self._limits.max_elements:
            raise RemoteProtocolError(_too_many(self._limits))
        return items

    def _count_map(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._elements += 2 * len(pairs) + 1
        if self._elements > self._limits.max_elements:
            raise RemoteProtocolError(_too_many(self._limits))
        return dict(pairs)

    # sending

    def pack_request(self, method: str, params: dict[str, Any] | list[Any]) -> tuple[int, bytes]:
        """Make a request; returns its id and its bytes. A map of named arguments is wrapped in the params array."""
        self._next_msgid = msgid = (self._next_msgid + 1) & 0x7FFFFFFF
        return msgid, pack([0, msgid, method, params if isinstance(params, list) else [params]])

    @staticmethod
    def pack_result(msgid: int, result: Any) -> bytes:
        """Answer request ``msgid`` of the other side."""
        return pack([1, msgid, None, result])

    @staticmethod
    def pack_error(msgid: int, error: Any) -> bytes:
        """Refuse request ``msgid``: ``error`` is ``[0, "code: message"]`` or the negotiated map."""
        return pack([1, msgid, error, None])

    @staticmethod
    def pack_notification(method: str, params: dict[str, Any] | list[Any]) -> bytes:
        """Tell the other side something."""
        return pack([2, method, params if isinstance(params, list) else [params]])


def pack(message: Any) -> bytes:
    """Pack plain data; raises `LocalProtocolError` for what the wire cannot carry, saying where it stands.

    Valid messages, nearly all, are checked by msgpack alone; only map keys need eyes of our own.
    """
    try:
        packed: bytes = msgpack.packb(message, strict_types=False)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalProtocolError(_unsendable(message, "", 0) or str(error)) from error
    wrong = _unsendable(message, "", 0)
    if wrong is not None:
        raise LocalProtocolError(wrong)
    return packed


def pack_unchecked(message: Any) -> bytes:
    """Pack what this code built itself from checked parts; the hot path of the daemon."""
    packed: bytes = msgpack.packb(message)
    return packed


def _unsendable(value: Any, where: str, depth: int) -> str | None:
    """Find the first thing in ``value`` that must not be sent, as a sentence, or None."""
    kind = type(value)
    if kind is str:
        return (
            None
            if value.isascii() or _is_utf8(value)
            else f"{where or 'value'}: holds a lone surrogate, not valid text"
        )
    if value is None or kind is bool or kind is float or kind is bytes:
        return None
    if kind is int:
        return None if -(2**63) <= value < 2**63 else f"{where or 'value'}: an integer beyond 64 bits"
    if depth >= _DEEP:
        return f"{where or 'value'}: nested deeper than {_DEEP} levels"
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                return f"{where or 'value'}: a map key that is not a string ({type(key).__name__})"
            wrong = _unsendable(key, where, depth) or _unsendable(item, f"{where}.{key}" if where else key, depth + 1)
            if wrong is not None:
                return wrong
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            wrong = _unsendable(item, f"{where}[{index}]", depth + 1)
            if wrong is not None:
                return wrong
        return None
    if isinstance(value, (str, int, float, bytes, bytearray, memoryview)):
        return None
    return f"{where or 'value'}: {type(value).__name__} cannot be sent; use plain maps, lists, text, numbers, bytes"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# BufferFull is no ValueError, and an unhashable key is a TypeError: every way msgpack and its hooks fail.
_DECODE_ERRORS: Final = (
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
    msgpack.exceptions.UnpackException,
)


def _event(message: Any, data: bytes = b"", start: int = 0, end: int = 0) -> Event:
    if type(message) is not list or not message:
        raise RemoteProtocolError("a message must be an array: [0, msgid, method, params], [1, …] or [2, …]")
    kind = message[0]
    if kind == 0 and len(message) == 4:
        _, msgid, method, params = message
        if type(msgid) is int and 0 <= msgid < 2**63 and type(method) is str and type(params) is list:
            raw = None
            if end and data[start] == 0x94 and data[start + 1] == 0:
                raw = data[start + 2 + _integer_bytes(data[start + 2]) : end]
            return Request(msgid, method, params, raw)
        raise RemoteProtocolError("a request must be [0, msgid (integer), method (text), params (array)]")
    if kind == 1 and len(message) == 4 and type(message[1]) is int:
        return Response(message[1], message[2], message[3])
    if kind == 2 and len(message) == 3 and type(message[1]) is str and type(message[2]) is list:
        return Notification(message[1], message[2])
    raise RemoteProtocolError(
        "a message must be [0, msgid, method, params], [1, msgid, error, result] or [2, method, params]"
    )


def _no_extension(code: int, data: bytes) -> Any:
    raise RemoteProtocolError(
        f"extension type {code} ({len(data)} bytes): send plain maps, arrays, text, numbers, bytes"
    )


def _integer_bytes(first: int) -> int:
    """Length of a packed unsigned integer by its first byte (a negative one never gets here)."""
    if first <= 0x7F:
        return 1
    return {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}[first]


def _malformed(error: BaseException, limits: Limits) -> RemoteProtocolError:
    if isinstance(error, msgpack.exceptions.BufferFull):
        return RemoteProtocolError(_too_large(limits))
    if "exceeds max_" in str(error):
        return RemoteProtocolError(_too_many(limits))
    return RemoteProtocolError(f"not MessagePack-RPC ({type(error).__name__}: {str(error)[:100]})")


def _too_large(limits: Limits) -> str:
    return f"a frame is larger than the limit of {limits.max_frame_bytes} bytes"


def _too_many(limits: Limits) -> str:
    return f"a frame holds more than the limit of {limits.max_elements} elements"
