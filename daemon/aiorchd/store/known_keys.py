"""Which keys are surely not in ``cache.db``, so that a question nobody asked before does not wait for a disk to say so.

The keys that are in the file are read step by step in the writer's thread, from their index alone; until all are read, none is
known to be absent. Keys put meanwhile and since are added on Trio's thread. The two threads never share a filter, since
adding is not atomic. When many keys were put, all are read anew; that also forgets those that were deleted.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from typing import Final

from aiorchd.core.key_filter import KEY_BYTES, KeyFilter
from aiorchd.store.answer_rows import count_answers, keys_after

_KEYS_A_STEP: Final = 2000
_KEYS_AT_ONCE: Final = 50
_PAUSE_S: Final = 1e-6
"""After so many keys the interpreter is let go for a moment, for which Trio's thread would wait up to 5 ms otherwise. A pause
of no length will not do: whoever lets go and asks again at once gets it before the other has woken up."""
_MOST_PUT: Final = 1 << 16
"""So many are remembered one by one, in some 6 MB; to put a key takes a tenth of what a filter's six bits do."""


class _Reading:
    """One reading of all keys: what the writer's thread has found, and what was put since it began."""

    def __init__(self, waiting: Iterable[bytes]) -> None:
        self.found: KeyFilter | None = None
        self.last = b""
        self.done = False
        self.put = set(waiting)


class KnownKeys:
    """Knows nothing until a first reading has come to its end."""

    def __init__(self) -> None:
        # This is all the mutable state: what is relied upon, and what will be.
        self._whole: _Reading | None = None
        self._reading: _Reading | None = None
        self._lacked: bytes | None = None
        """What was found to be absent last, and not put since: who asks for what nobody has asks again on its way."""

    def lacks(self, key: bytes) -> bool:
        """Tell whether a key is surely neither in the file nor was put since."""
        reading = self._reading
        if reading is not None and reading.done:
            self._whole, self._reading = reading, None
        if key == self._lacked:
            return True
        whole = self._whole
        if (
            whole is None
            or key in whole.put
            or len(key) < KEY_BYTES
            or whole.found is None
            or not whole.found.lacks(key)
        ):
            return False
        self._lacked = key
        return True

    def has(self, key: bytes) -> bool:
        """Tell whether a key is very probably in the file; False while that is not known."""
        return not self.lacks(key) and self._whole is not None

    def add(self, key: bytes) -> None:
        """A key was put, and is not in the file yet."""
        if key == self._lacked:
            self._lacked = None
        if self._whole is not None:
            self._whole.put.add(key)
        if self._reading is not None:
            self._reading.put.add(key)

    def read_if_due(self, waiting: Iterable[bytes]) -> None:
        """Begin a reading, on Trio's thread while the writer's rests, when there was none or too many were put since the
        last. ``waiting`` are keys that were put and may not be in the file yet."""
        if self._reading is None and (self._whole is None or len(self._whole.put) > _MOST_PUT):
            self.read_anew(waiting)

    def read_anew(self, waiting: Iterable[bytes]) -> None:
        """Begin a reading, as above, whatever was read before."""
        self._reading = _Reading(waiting)

    def read_on(self, connection: sqlite3.Connection) -> bool:
        """Read some keys, in the writer's thread; tells whether there are more."""
        reading = self._reading
        if reading is None or reading.done:
            return False
        if reading.found is None:
            reading.found = KeyFilter(count_answers(connection) * 5 // 4)
        keys = keys_after(connection, reading.last, _KEYS_A_STEP)
        for number, key in enumerate(keys):
            if number % _KEYS_AT_ONCE == 0:
                time.sleep(_PAUSE_S)
            if len(key) >= KEY_BYTES:
                reading.found.add(key)
        if len(keys) == _KEYS_A_STEP:
            reading.last = keys[-1]
            return True
        reading.done = True  # last: from now on it belongs to Trio's thread
        return False
