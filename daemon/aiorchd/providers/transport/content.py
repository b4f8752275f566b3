"""Undo content encodings within bounds.

A few kilobytes of gzip can hold gigabytes. Input is therefore decompressed in bounded pieces, and the sum of what came
out is checked after each.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from aiorchd.providers.transport.failures import AnswerTooLarge, Malformed

_PIECE_BYTES: Final = 65_536


class Meter:
    """Counts the bytes of an answer that needs no decoding."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Pass data on; raises `AnswerTooLarge` instead of the piece that goes over the limit."""
        self._left -= len(data)
        if self._left < 0:
            raise AnswerTooLarge(f"sent an answer of more than {self._max_bytes} bytes")
        return iter((data,))

    def finish(self) -> None:
        """Tell the end of the answer."""


class Inflater(Meter):
    """Undoes gzip and deflate, several gzip members in a row included, and what servers call deflate but send raw.

    Which of these it is, the first two bytes tell.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._head = b""
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress in pieces; raises `AnswerTooLarge` and `Malformed`."""
        full = False
        while data or full:
            if self._stream is None or self._stream.eof:
                self._head += data
                if len(self._head) < 2:
                    return
                data, self._head = self._head, b""
                self._stream = zlib.decompressobj(_window_bits(data))
            try:
                piece = self._stream.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise Malformed("sent an answer whose compression is damaged") from error
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            # A full piece may have more behind it even when all input was taken.
            full = len(piece) == _PIECE_BYTES and not self._stream.eof
            if piece:
                yield from super().feed(piece)

    def finish(self) -> None:
        """Tell the end of the answer; raises `Malformed` when it ended in the middle of the compressed data."""
        if self._head or (self._stream is not None and not self._stream.eof):
            raise Malformed("sent a compressed answer that breaks off")


def _window_bits(data: bytes) -> int:
    """Tell gzip (RFC 1952), zlib (RFC 1950: method 8, a multiple of 31) and raw deflate apart."""
    if data.startswith(b"\x1f\x8b"):
        return zlib.MAX_WBITS | 16
    if data[0] & 0x0F == 8 and (data[0] * 256 + data[1]) % 31 == 0:
        return zlib.MAX_WBITS
    return -zlib.MAX_WBITS


def decoder(encoding: str, max_bytes: int) -> Meter:
    """Choose by the Content-Encoding header; raises `Malformed` for one that was not asked for."""
    if not encoding or (encoding := encoding.strip().lower()) in ("", "identity"):
        return Meter(max_bytes)
    if encoding in ("gzip", "x-gzip", "deflate"):
        return Inflater(max_bytes)
    raise Malformed(f"compressed its answer in a way that was not asked for ({encoding[:20]!r})")
