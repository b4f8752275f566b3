"""What no good client sends, in many kinds, and what only looks so: Neovim's and other libraries' peculiarities.

Each of `kinds` must end in an error or a closed connection soon after it was sent; each of `PECULIAR` must be answered.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import trio

from aiorch.errors import RemoteProtocolError
from aiorch.protocol import Connection, Limits, Notification, Response

MIB = 1024 * 1024
WITHIN_S = 1.0


def _request(*parts: object) -> bytes:
    packed: bytes = msgpack.packb([0, *parts], unicode_errors="surrogateescape")
    return packed


def _complete(**arguments: object) -> bytes:
    return _request(1, "complete", [arguments])


_PROMPT = b"\x94\x00\x01\xa8complete\x91\x81\xa6prompt"
"""A call, up to the value of its one argument."""
_PARAMS = b"\x94\x00\x01\xa8complete"


def kinds(max_frame_bytes: int = 16 * MIB, max_elements: int = 100_000) -> Mapping[str, Callable[[], Iterator[bytes]]]:
    """Ways to make the bytes of each kind, for a daemon with these limits; large ones come in pieces."""
    half = max_frame_bytes * 5 // 8
    small: dict[str, bytes] = {
        "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "JSON": b'{"method": "complete", "params": {}}\n',
        "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        "a byte that begins nothing": b"\xc1",
        "negative numbers": b"\xff" * 4096,
        "zeros": bytes(4096),
        "noise": random.Random(5).randbytes(3000) + b"\xc1",
        "an empty array": b"\x90",
        "an empty map": b"\x80",
        "nothing at all": b"\xc0",
        "a text": b"\xa4ping",
        "an unknown kind of message": msgpack.packb([9, 1, "ping", []]),
        "true for the kind of message": msgpack.packb([True, 1, "ping", []]),
        "a fraction for the kind of message": msgpack.packb([0.0, 1, "ping", []]),
        "a request without params": msgpack.packb([0, 1, "ping"]),
        "a request with one part more": _request(1, "ping", [], []),
        "params that are a map": _request(1, "ping", {}),
        "params that are nothing": _request(1, "ping", None),
        "params that are text": _request(1, "complete", "prompt"),
        "a msgid of text": _request("1", "ping", []),
        "a msgid of nothing": _request(None, "ping", []),
        "a msgid with a fraction": _request(1.5, "ping", []),
        "a negative msgid": _request(-1, "ping", []),
        "a msgid beyond 63 bits": _request(2**64 - 1, "ping", []),
        "a method of nothing": _request(1, None, []),
        "a method that is a number": _request(1, 7, []),
        "a method that is an array": _request(1, ["ping"], []),
        "a method without a letter": _request(1, "", []),
        "a method that is no UTF-8": _request(1, "p\udcffng", []),
        "a notification with four parts": msgpack.packb([2, "cancel", [], []]),
        "an extension type": _complete(prompt=msgpack.ExtType(4, b"x")),
        "a timestamp": _complete(prompt=msgpack.Timestamp(1)),
        "an extension of four gigabytes": _PROMPT + b"\xc9\xff\xff\xff\xff\x04",
        "keys that are numbers": _request(1, "complete", [{1: "x"}]),
        "keys that are bytes": _request(1, "complete", [{b"prompt": "x"}]),
        "keys that are nothing": _request(1, "complete", [{None: "x"}]),
        "a key that is an array": _PARAMS + b"\x91\x81\x90\xc0",
        "a number for the prompt": _complete(prompt=5),
        "no number for the temperature": _complete(prompt="x", temperature=float("nan")),
        "a msgid twice": _request(5, "complete", [{"prompt": "twice", "cache": "bypass"}]) + _request(5, "ping", []),
        "an array of four thousand million": _PARAMS + b"\xdd\xff\xff\xff\xff" + b"\x90" * 3000,
        "a map of four thousand million": _PARAMS + b"\x91\xdf\xff\xff\xff\xff\xa1x\xc0",
        "a text of four gigabytes": _PROMPT + b"\xdb\xff\xff\xff\xff" + b"x" * 300_000,
        "bytes of four gigabytes": _PROMPT + b"\xc6\xff\xff\xff\xff" + b"x" * 300_000,
        "nested giants": b"\xdd\xff\xff\xff\xff" * 1000,
        "fifteen hundred levels": _PROMPT + b"\x91" * 1500 + b"\xc0",
        "fifteen hundred levels of maps": _PROMPT + b"\x81\xa1x" * 1500 + b"\xc0",
        "a hundred thousand levels": b"\x91" * 100_000,
        "a megabyte of empty arrays": _PROMPT + b"\xdd\x00\x10\x00\x00" + b"\x90" * MIB,
        "one element too many": _PROMPT + b"\xdd" + (max_elements + 1).to_bytes(4, "big") + b"\xc0" * (max_elements + 1),
    }  # fmt: skip
    large: dict[str, tuple[bytes, int, bytes]] = {
        "a method of megabytes": (b"\x94\x00\x01\xdb" + half.to_bytes(4, "big"), half, b"\x90"),
        "a method of megabytes of bytes": (b"\x94\x00\x01\xc6" + half.to_bytes(4, "big"), half, b"\x90"),
        "a prompt of bytes that fills a frame": (
            _PROMPT + b"\xc6" + (max_frame_bytes - 1000).to_bytes(4, "big"), max_frame_bytes - 1000, b""),
        "a prompt one byte too long": (
            _PROMPT + b"\xdb" + (max_frame_bytes - len(_PROMPT) - 4).to_bytes(4, "big"), max_frame_bytes, b""),
    }  # fmt: skip
    return {
        **{name: lambda data=data: iter((data,)) for name, data in small.items()},
        **{name: lambda parts=parts: _in_pieces(*parts) for name, parts in large.items()},
    }


def _in_pieces(head: bytes, length: int, tail: bytes) -> Iterator[bytes]:
    yield head
    piece = b"x" * 65536
    while length > 0:
        yield piece[: min(length, len(piece))]
        length -= len(piece)
    yield tail


PECULIAR: Mapping[str, bytes] = {
    "a prompt that is no UTF-8": _complete(prompt="caf\udce9 What is 2 + 2?"),
    "half of a surrogate pair": _complete(prompt="\udced\udca0\udcbd What is 2 + 2?"),
    "an empty array for no arguments": _request(1, "ping", []),
    "an empty array for the map of arguments": _request(1, "status", [[]]),
    "an empty array for an empty map": _complete(prompt="What is 2 + 2?", extra=[]),
    "whole numbers for fractions": _complete(prompt="What is 2 + 2?", temperature=0, timeout_s=20),
    "a method of bytes": _request(1, b"ping", []),
    "a msgid of 2^32": _request(2**32, "ping", []),
    "numbers in their longest spelling": b"\x94\x00\xcf\x00\x00\x00\x00\x00\x00\x00\x01\xdb\x00\x00\x00\x04ping\xdd\x00\x00\x00\x00",
    "an unknown notification before": msgpack.packb([2, "nvim_error_event", [0, "x"]]) + _request(1, "ping", []),
    "an answer to nobody before": msgpack.packb([1, 77, None, "x"]) + _request(1, "ping", []),
}  # fmt: skip


@dataclass(slots=True)
class Thrown:
    """What became of all that was thrown: how many ended in an ``error``, in a close with a reason or without one, and
    which did not, in words. ``slowest_s`` is the longest that one took after its last byte had left."""

    errors: int = 0
    told: int = 0
    closed: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


async def throw(path: Path, name: str, pieces: Iterator[bytes], thrown: Thrown, *, within_s: float = WITHIN_S) -> None:
    """Send one kind on a connection of its own, and wait for its end."""
    stream = await _connected(path)
    sent_at = trio.current_time()

    async def send() -> None:
        nonlocal sent_at
        try:
            for piece in pieces:
                await stream.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it hung up before the end
        sent_at = trio.current_time()
        patience.deadline = sent_at + within_s

    async with stream:
        with trio.CancelScope() as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await _end(stream, thrown)
                nursery.cancel_scope.cancel()
    thrown.slowest_s = max(thrown.slowest_s, trio.current_time() - sent_at)
    if patience.cancelled_caught:
        thrown.wrong.append(f"{name}: neither an error nor a close within {within_s:g} s")


async def ask_peculiarly(path: Path, name: str, data: bytes, wrong: list[str], *, within_s: float = 20.0) -> None:
    """Send what looks malformed and is not; it must be answered without an error."""
    stream = await _connected(path)
    wire = Connection(Limits(max_frame_bytes=64 * MIB, max_elements=10_000_000))
    async with stream:
        await stream.send_all(data)
        with trio.move_on_after(within_s):
            while True:
                for event in wire.receive_data(received := await stream.receive_some(65536)):
                    if not isinstance(event, Response) or event.error is not None:
                        wrong.append(f"{name}: {event}")
                    return
                if not received:
                    break
        wrong.append(f"{name}: no answer")


async def _end(stream: trio.SocketStream, thrown: Thrown) -> None:
    wire = Connection(Limits(max_frame_bytes=64 * MIB, max_elements=10_000_000))
    while True:
        try:
            data = await stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            thrown.closed += 1
            return
        try:
            events = wire.receive_data(data)
        except RemoteProtocolError as error:
            thrown.wrong.append(f"the daemon itself said what is malformed: {error}")
            return
        for event in events:
            if isinstance(event, Notification) and event.method == "error":
                thrown.told += 1
                return
            if isinstance(event, Response) and event.error is not None:
                thrown.errors += 1
                return


async def _connected(path: Path) -> trio.SocketStream:
    """Connect, also through a backlog that is full at the moment."""
    while True:
        plain = socket.socket(socket.AF_UNIX)
        plain.setblocking(False)
        try:
            plain.connect(str(path))
        except BlockingIOError:
            plain.close()
            await trio.sleep(0.01)
            continue
        return trio.SocketStream(trio.socket.from_stdlib_socket(plain))
