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

How the limits are kept. Frames that arrive whole in one chunk, nearly all, go through msgpack's C decoder at once. That
decoder bounds a buffer and a single container, but five kilobytes of nested array headers make it reserve 30 MB in 90 ms
for items that never come, and a megabyte of empty arrays becomes 70 MB. So what it does not take at once is not left in
it (it would be 45 kB for every idle connection besides): the bytes wait as bytes, and `_Unfinished` walks over their
headers, counts objects, and knows when the frame ends or that it never can within the limits; only then is it decoded.
A frame of up to `SMALL_FRAME_BYTES` cannot make more objects than it has bytes and needs no counting; the same bytes
give the same events in whatever chunks they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import msgpack

from aiorch.errors import LocalProtocolError, RemoteProtocolError

SMALL_FRAME_BYTES: Final = 64 * 1024

_QUICK_ITEMS: Final = 2048
"""An array that announces more is decoded only when all of it has come: room for the items is made at once."""

_DEEP: Final = 100
"""Levels of nesting that are sent; the decoder on the other side gives up at 1 024."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one side takes from the other: bytes of one frame, and objects in it (items, keys and values, containers).

    Objects are counted in frames of more than `SMALL_FRAME_BYTES`; smaller ones are bounded by their bytes, and by
    ``max_elements`` for each of their containers.
    """

    max_frame_bytes: int = 16 * 1024 * 1024
    max_elements: int = 100_000


@dataclass(slots=True)
class Request:
    """The other side asks. ``argument_bytes`` is the exact packed form of method and params: equal bytes mean an equal
    question, which saves working it out again. None for frames over `SMALL_FRAME_BYTES` and odd spellings of the head.
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
    them is the shell's work, since only it knows who waits. A ``trusted`` other side is believed that its map keys are
    text; nothing else is taken on trust.
    """

    def __init__(self, limits: Limits | None = None, *, trusted: bool = False) -> None:
        self._limits = limits if limits is not None else Limits()
        self._decoding = {
            "object_hook": None if trusted else _text_keys,
            "strict_map_key": True,
            "unicode_errors": "surrogateescape",
            "ext_hook": _no_extension,
            "max_array_len": min(_QUICK_ITEMS, self._limits.max_elements),
            "max_map_len": self._limits.max_elements,
        }
        self._unpack_quickly = partial(msgpack.unpackb, **self._decoding)
        self._unpack = partial(self._unpack_quickly, max_array_len=self._limits.max_elements)
        self._chunk_bytes = min(SMALL_FRAME_BYTES, self._limits.max_frame_bytes)
        """No frame longer than this is decoded before it was walked over."""
        self._unfinished: _Unfinished | None = None
        self._dead: str | None = None
        self._next_msgid = 0

    # receiving

    @property
    def unfinished_bytes(self) -> int:
        """Bytes at hand of a message that has not come whole; 0 between messages."""
        return 0 if self._unfinished is None else len(self._unfinished.frame)

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes, return the messages they complete.

        Raises `RemoteProtocolError`, then and ever after; its ``events`` are the messages that came whole before.
        """
        if self._dead is not None:
            raise RemoteProtocolError(self._dead)
        events: list[Event] = []
        try:
            if len(data) <= self._chunk_bytes:
                self._take(data, events)
            else:
                for start in range(0, len(data), self._chunk_bytes):
                    self._take(data[start : start + self._chunk_bytes], events)
            return events
        except RemoteProtocolError as error:
            self._dead = str(error)
            error.events = events
            raise

    def receive_answer(self, data: bytes, msgid: int) -> tuple[Any] | None:
        """Take ``data`` when it is, as nearly always, one whole answer to request ``msgid`` and no error.

        For no more than `SMALL_FRAME_BYTES` that came when no message was unfinished. Gives the result in a tuple, or None
        when it is anything else: then nothing was taken.
        """
        if not data.startswith(_ANSWER_HEAD) or b"\xff" in data:
            return None
        try:
            _, answered, error, result = self._unpack_quickly(data)
        except _DECODE_ERRORS:
            return None
        return (result,) if answered == msgid and error is None and type(answered) is int else None

    def _take(self, chunk: bytes, events: list[Event]) -> None:
        """Take no more than `SMALL_FRAME_BYTES`."""
        while chunk:
            part = self._unfinished
            chunk = self._decode(chunk, events) if part is None else self._go_on(part, chunk, events)

    def _decode(self, data: bytes, events: list[Event]) -> bytes:
        """Decode the whole frames at the start of ``data``. What the quick way cannot take is left to the walk."""
        extensions_possible = b"\xff" in data
        try:
            message = self._unpack_quickly(data)
        except msgpack.ExtraData as several:
            consumed = self._decode_several(data, several, events, extensions_possible)
        except _DECODE_ERRORS:
            consumed = 0
        else:
            if extensions_possible:
                self._refuse_timestamps(data, 0, len(data))
            events.append(_event(message, data, 0, len(data)))
            return b""
        if consumed == len(data):
            return b""
        self._unfinished = _Unfinished(self._limits)
        return data[consumed:]

    def _decode_several(
        self, data: bytes, several: msgpack.ExtraData, events: list[Event], extensions_possible: bool
    ) -> int:
        """Decode frame after frame, the first of which is known; gives where the first one begins that is not whole or not for
        the quick way."""
        rest = several.extra
        decoder = msgpack.Unpacker(max_buffer_size=len(rest), read_size=1, **self._decoding)
        first = len(data) - len(rest)
        message, consumed, end = several.unpacked, 0, first
        try:
            decoder.feed(rest)
            while True:
                if extensions_possible:
                    self._refuse_timestamps(data, consumed, end)
                events.append(_event(message, data, consumed, end))
                consumed = end
                message = decoder.unpack()
                end = first + decoder.tell()
        except (msgpack.OutOfData, *_DECODE_ERRORS):
            return consumed

    def _refuse_timestamps(self, data: bytes, start: int, end: int) -> None:
        """Refuse the one extension that msgpack decodes unasked; its first bytes may also be part of a number or bytes."""
        if any(data.find(head, start, end) >= 0 for head in _TIMESTAMP_HEADS):
            _walk(data, start, 1, 0, self._limits, start)

    def _go_on(self, unfinished: _Unfinished, data: bytes, events: list[Event]) -> bytes:
        """Go on with a frame that came in part. Returns what follows it, or nothing when it is still not whole."""
        rest = unfinished.take(data)
        if rest is None:
            return b""
        self._unfinished = None
        frame = unfinished.frame
        try:
            message = self._unpack(frame)
        except _DECODE_ERRORS as error:
            raise _malformed(error, self._limits) from error
        if len(frame) > SMALL_FRAME_BYTES:
            events.append(_event(message))
        else:
            events.append(_event(message, bytes(frame), 0, len(frame)))
        return rest

    # sending

    @property
    def last_msgid(self) -> int:
        """The id of the request that was made last."""
        return self._next_msgid

    def pack_request(
        self, method: str, params: Mapping[str, Any] | list[Any], plain: bool = False
    ) -> tuple[int, bytes]:
        """Make a request; returns its id and its bytes. A map of named arguments is wrapped in the params array. ``plain`` says
        that these are texts and nothing else, which spares a look at each.

        Raises `LocalProtocolError` naming the argument that cannot be sent.
        """
        self._next_msgid = msgid = (self._next_msgid + 1) & 0x7FFFFFFF
        message = [0, msgid, method, params if type(params) is list else [params]]
        try:
            packed: bytes = _Packer().pack(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            said = _unsendable(method, "method", 0) or _unsendable(params, "", 0) or str(error)
            raise LocalProtocolError(said) from error
        if plain:
            return msgid, packed
        if type(params) is dict:  # flat, as nearly all are
            for name, item in params.items():
                if type(name) is not str or type(item) not in _SCALARS:
                    break
            else:
                return msgid, packed
        if _suspect(params, 2) and (wrong := _unsendable(params, "", 2)) is not None:
            raise LocalProtocolError(wrong)
        return msgid, packed

    @staticmethod
    def pack_result(msgid: int, result: Any) -> bytes:
        """Answer request ``msgid`` of the other side."""
        return pack([1, msgid, None, result])

    @staticmethod
    def pack_error(msgid: int, error: Any) -> bytes:
        """Refuse request ``msgid``: ``error`` is ``[0, "code: message"]`` or the negotiated map."""
        return pack([1, msgid, error, None])

    @staticmethod
    def pack_notification(method: str, params: Mapping[str, Any] | list[Any]) -> bytes:
        """Tell the other side something."""
        return pack([2, method, params if isinstance(params, list) else [params]])


def pack(message: Any) -> bytes:
    """Pack plain data; raises `LocalProtocolError` for what the wire cannot carry, saying where it stands."""
    try:
        packed: bytes = msgpack.packb(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalProtocolError(_unsendable(message, "", 0) or str(error)) from error
    if _suspect(message, 0) and (wrong := _unsendable(message, "", 0)) is not None:
        raise LocalProtocolError(wrong)
    return packed


def pack_around(message: Any, foreign: list[Any]) -> bytes:
    """Pack what this code built itself around ``foreign``, the parts of it that came from elsewhere: only these are looked
    through. Otherwise like `pack`."""
    try:
        packed: bytes = msgpack.packb(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalProtocolError(_unsendable(message, "", 0) or str(error)) from error
    if foreign and _suspect(foreign, 1) and (wrong := _unsendable(message, "", 0)) is not None:
        raise LocalProtocolError(wrong)
    return packed


def pack_unchecked(message: Any) -> bytes:
    """Pack what this code built itself from checked parts; the hot path of the daemon."""
    packed: bytes = msgpack.packb(message)
    return packed


def holds_more(frame: bytes, most: int) -> bool:
    """Tell whether a packed message holds more than ``most`` objects, as `Limits` counts them."""
    try:
        _walk(frame, 0, 1, 0, Limits(max_frame_bytes=2**63, max_elements=most))
    except RemoteProtocolError:
        return True
    return False


def _suspect(value: Any, depth: int) -> bool:
    """Tell quickly that what msgpack packed is fine, which is nearly always; True means look closely."""
    kind = type(value)
    if kind in _SCALARS:
        return False
    if kind is int:
        return not -(2**63) <= value < 2**63
    if depth >= _DEEP:
        return True
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                return True
            kind = type(item)
            if kind is int:
                if not -(2**63) <= item < 2**63:
                    return True
            elif kind not in _SCALARS and _suspect(item, depth + 1):
                return True
        return False
    if kind is list or kind is tuple:
        for item in value:  # noqa: SIM110 - a generator would cost more than the look
            if type(item) not in _SCALARS and _suspect(item, depth + 1):
                return True
        return False
    return True


_Packer: Final = msgpack.Packer
_ANSWER_HEAD: Final = b"\x94\x01"
_SCALARS: Final = frozenset((str, bytes, float, bool, type(None)))


def _unsendable(value: Any, where: str, depth: int) -> str | None:
    """Find the first thing in ``value`` that must not be sent, as a sentence, or None."""
    kind = type(value)
    if kind is str:
        if value.isascii() or _is_utf8(value):
            return None
        return f"{where or 'value'}: holds a lone surrogate, not valid text"
    if value is None or kind is bool or kind is float or kind is bytes:
        return None
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**63 else f"{where or 'value'}: an integer beyond 64 bits"
    if isinstance(value, msgpack.ExtType):  # a tuple to isinstance, an extension to msgpack
        return f"{where or 'value'}: ExtType cannot be sent; use plain maps, lists, text, numbers, bytes"
    if depth >= _DEEP:
        return f"{where or 'value'}: nested deeper than {_DEEP} levels"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
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
    if isinstance(value, str):
        return _unsendable(str(value), where, depth)
    if isinstance(value, (float, bytes, bytearray, memoryview)):
        return None
    return f"{where or 'value'}: {type(value).__name__} cannot be sent; use plain maps, lists, text, numbers, bytes"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Unfinished:
    """The bytes of a frame that has not come whole, and a walk over its headers that makes nothing of them.

    It keeps ``_owed``, the objects announced and not yet seen: the frame is whole when none is owed. Every object owed
    takes at least one byte, which bounds the length from below; so a frame that cannot end within the limits is refused
    at the header that says so, however little of it has come.
    """

    __slots__ = ("_limits", "_owed", "_position", "_seen", "frame")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._position = 0  # of the next header; beyond the bytes at hand while a text is still coming
        self._owed = 1
        self._seen = 0
        self.frame = bytearray()

    def take(self, data: bytes) -> bytes | None:
        """Take more bytes. Gives what follows the frame once that is whole, else None. Raises `RemoteProtocolError`."""
        frame = self.frame
        frame += data
        self._position, self._owed, self._seen = _walk(frame, self._position, self._owed, self._seen, self._limits)
        over = len(frame) - self._position
        if self._owed or over < 0:
            return None
        rest = data[len(data) - over :] if over else b""
        del frame[self._position :]
        return rest


def _walk(
    frame: bytes | bytearray, position: int, owed: int, seen: int, limits: Limits, start: int = 0
) -> tuple[int, int, int]:
    """Walk over the headers of one frame, as far as they have come. Gives where the next one is, objects owed and seen."""
    available = len(frame)
    while owed and position < available:
        head = _HEADS[frame[position]]
        if head is None:
            raise RemoteProtocolError(_no_object(frame[position]))
        length_bytes, payload, items, payload_each, items_each = head
        after = position + 1 + length_bytes
        if length_bytes:
            if after > available:
                break
            length = int.from_bytes(frame[position + 1 : after], "big")
            payload, items = length * payload_each, length * items_each
        position = after + payload
        owed += items - 1
        seen += 1
        if position - start + owed > limits.max_frame_bytes:
            raise RemoteProtocolError(_too_large(limits))
        if seen + owed > limits.max_elements and position - start + owed > SMALL_FRAME_BYTES:
            raise RemoteProtocolError(_too_many(limits))
    return position, owed, seen


def _head(first: int) -> tuple[int, int, int, int, int] | None:
    """Tell what a first byte announces: bytes of a length field; then payload bytes and items, fixed or per length."""
    if first <= 0x7F or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3):
        return (0, 0, 0, 0, 0)
    if first <= 0x8F:
        return (0, 0, 2 * (first & 0x0F), 0, 0)
    if first <= 0x9F:
        return (0, 0, first & 0x0F, 0, 0)
    if first <= 0xBF:
        return (0, first & 0x1F, 0, 0, 0)
    if first in (0xC4, 0xC5, 0xC6):  # bin
        return (1 << (first - 0xC4), 0, 0, 1, 0)
    if first in (0xCA, 0xCB):  # float
        return (0, 4 << (first - 0xCA), 0, 0, 0)
    if 0xCC <= first <= 0xD3:  # unsigned, then signed integers
        return (0, 1 << ((first - 0xCC) & 3), 0, 0, 0)
    if first in (0xD9, 0xDA, 0xDB):  # str
        return (1 << (first - 0xD9), 0, 0, 1, 0)
    if first in (0xDC, 0xDD):  # array
        return (2 << (first - 0xDC), 0, 0, 0, 1)
    if first in (0xDE, 0xDF):  # map
        return (2 << (first - 0xDE), 0, 0, 0, 2)
    return None


_HEADS: Final = tuple(_head(first) for first in range(256))

_ARGUMENTS_AT: Final[Mapping[bytes, int]] = {
    bytes((0x94, 0, first)): 3 + head[1] for first, head in enumerate(_HEADS) if head is not None
}
"""Where in a request its argument bytes begin, by its first three bytes: kinds and ids are integers of any spelling."""

ARGUMENTS_AT: Final[Mapping[bytes, int]] = {
    begin: at for begin, at in _ARGUMENTS_AT.items() if begin[2] < 0x80 or 0xCC <= begin[2] <= 0xCE
}
"""Where in a small request its argument bytes begin and its packed msgid, which stands from 2 on, has ended; by the first three
bytes, with the msgid in the spellings that all libraries use. For whoever knows those argument bytes from a `Request` that was
decoded: what begins where no message is unfinished, and goes on with exactly these to the end, is that request once more, whole
and well-formed, and needs not be taken."""


def _text_keys(items: dict[Any, Any]) -> dict[str, Any]:
    """Refuse keys of bytes, which msgpack's own strictness lets through and which nobody further in expects."""
    if not _TEXT.issuperset(map(type, items)):
        odd = next(type(key) for key in items if type(key) is not str)
        raise ValueError(f"{odd.__name__} is not allowed for map key")
    return items


_TEXT: Final = frozenset((str,))
_TIMESTAMP_HEADS: Final = (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")

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
    """Check the shape of a decoded message. ``data[start:end]`` is its packed form, where that is at hand."""
    at = ARGUMENTS_AT.get(data[start : start + 3])
    if at is not None:  # an array of four, 0, and an id that is right
        _, msgid, method, params = message
        if type(method) is str and type(params) is list:
            return Request(msgid, method, params, data[start + at : end])
    return _any_event(message, data, start, end)


def _any_event(message: Any, data: bytes, start: int, end: int) -> Event:
    if type(message) is not list or not message:
        raise RemoteProtocolError("a message must be an array: [0, msgid, method, params], [1, …] or [2, …]")
    kind = message[0] if type(message[0]) is int else None
    if kind == 0 and len(message) == 4:
        _, msgid, method, params = message
        if type(method) is bytes:  # some clients send names as binary
            method = method.decode(errors="surrogateescape")
        if type(msgid) is int and 0 <= msgid < 2**63 and type(method) is str and type(params) is list:
            at = _ARGUMENTS_AT.get(data[start : start + 3])
            return Request(msgid, method, params, None if at is None else data[start + at : end])
        raise RemoteProtocolError("a request must be [0, msgid (integer), method (text), params (array)]")
    if kind == 1 and len(message) == 4 and type(message[1]) is int:
        return Response(message[1], message[2], message[3])
    if kind == 2 and len(message) == 3 and type(message[2]) is list:
        method = message[1].decode(errors="surrogateescape") if type(message[1]) is bytes else message[1]
        if type(method) is str:
            return Notification(method, message[2])
    raise RemoteProtocolError(
        "a message must be [0, msgid, method, params], [1, msgid, error, result] or [2, method, params]"
    )


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} of {len(data)} bytes")


def _no_object(first: int) -> str:
    if first == 0xC1:
        return "not MessagePack: no object begins with 0xc1"
    return "an extension type: send plain maps, arrays, text, numbers, bytes"


def _malformed(error: BaseException, limits: Limits) -> RemoteProtocolError:
    text = str(error)
    if isinstance(error, msgpack.exceptions.BufferFull) or "max_str_len" in text or "max_bin_len" in text:
        return RemoteProtocolError(_too_large(limits))
    if "max_array_len" in text or "max_map_len" in text:
        return RemoteProtocolError(_too_many(limits))
    if "allowed for map key" in text:
        return RemoteProtocolError(f"a map key that is not text ({text.partition(' ')[0]})")
    if isinstance(error, msgpack.exceptions.StackError):
        return RemoteProtocolError("a frame is nested too deeply")
    return RemoteProtocolError(f"not MessagePack-RPC ({type(error).__name__}: {str(error)[:100]})")


def _too_large(limits: Limits) -> str:
    return f"a frame is larger than the limit of {limits.max_frame_bytes} bytes"


def _too_many(limits: Limits) -> str:
    return f"a frame holds more than the limit of {limits.max_elements} elements"
