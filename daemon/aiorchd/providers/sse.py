"""Server-sent events, read from bytes in any pieces. No I/O.

The parsing rules are the HTML standard's (section 9.2.6), which browsers follow: lines end in CR LF, LF or CR; a byte
order mark at the very start is dropped; lines that begin with a colon are comments; the ``data`` lines of one event are
joined by line feeds; an empty line ends the event. One thing is more lenient: an event that the end of the stream cuts
off before its empty line is given all the same, since servers leave that line out after their last event. Whether it is
whole is for whoever reads its data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_EVENT_BYTES: Final = 8_388_608
"""An event may hold a generated image, not more."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """One event is over the limit; the stream cannot be read on."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``name`` is ``""`` when none was given. Bytes of ``data`` that are not UTF-8 became U+FFFD."""

    name: str
    data: str


class EventParser:
    """Takes bytes, gives events. The same bytes give the same events however they are cut."""

    __slots__ = ("_after_cr", "_begun", "_data", "_max_bytes", "_name", "_partial", "_size")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        self._partial: list[bytes] = []
        """Pieces of the line that is not complete yet."""
        self._data: list[bytes] = []
        """Data lines of the event that is not complete yet."""
        self._name = b""
        self._size = 0
        """Bytes held in these two."""
        self._after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes; raises `EventTooLarge`."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        rest = lines.pop()
        events: list[Event] = []
        for line in lines:
            if self._partial:
                self._partial.append(line)
                self._size -= sum(map(len, self._partial)) - len(line)
                line = b"".join(self._partial)
                self._partial.clear()
            self._take_line(line, events)
        if rest:
            self._partial.append(rest)
            self._hold(len(rest))
        return events

    def finish(self) -> list[Event]:
        """Tell the end of the stream; gives the event that it cut off, if any."""
        events = self.feed(b"\n\n")
        self._after_cr = False
        return events

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            if self._data:
                text = b"\n".join(self._data).decode("utf-8", "replace")
                events.append(Event(self._name.decode("utf-8", "replace"), text))
                self._data.clear()
            self._name = b""
            self._size = 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._hold(len(value) + 1)
        elif field == b"event":
            self._name = value
            self._hold(len(value))

    def _hold(self, size: int) -> None:
        self._size += size
        if self._size > self._max_bytes:
            raise EventTooLarge(f"one event of the stream is over {self._max_bytes} bytes")
