"""Take GOAWAY frames out of the bytes of an HTTP/2 connection. Pure: it only counts frame lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_LAST_STREAM_ID: Final = 2**31 - 1


class GoawayFilter:
    """Splits incoming bytes at GOAWAY frames, by the frame heads of RFC 9113 section 4.1."""

    _TYPE: Final = 7

    def __init__(self) -> None:
        self._pending = b""
        """The beginning of a frame head, or of a GOAWAY frame, that is not complete yet."""
        self._passing = 0
        """Bytes that are left of a frame that is passed on."""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int | None]]:
        """Give (bytes for h2, the last stream's number of a GOAWAY that followed them or None), in order."""
        data = self._pending + data
        self._pending = b""
        start = position = 0
        while True:
            if self._passing:
                step = min(self._passing, len(data) - position)
                position += step
                self._passing -= step
            if position >= len(data) or self._passing:
                break
            if len(data) - position < 9:
                self._pending = data[position:]
                break
            length = int.from_bytes(data[position : position + 3], "big")
            if data[position + 3] != self._TYPE or not 8 <= length <= 65_536:
                self._passing = 9 + length
                continue
            if len(data) - position < 9 + length:
                self._pending = data[position:]
                break
            last_stream_id = int.from_bytes(data[position + 9 : position + 13], "big") & _LAST_STREAM_ID
            yield data[start:position], last_stream_id
            position += 9 + length
            start = position
        rest = data[start:position]
        if rest:
            yield rest, None
