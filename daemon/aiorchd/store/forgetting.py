"""A deletion of answers: in force from the moment it is asked for, carried out on disk a few hundred rows at a time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Final

import trio

from aiorchd.calls.ports import StoredAnswer
from aiorchd.store.plain import plain_text

_ROWS_A_STEP: Final = 200
_KEYS_A_STEP: Final = 200


class Forgetting:
    """Deletes the answers that bear all of the marks given; without any mark, every answer.

    What is stored for the same marks while it is still under way may be deleted with the rest: a lost answer is asked for
    again, a forgotten one must not come back.
    """

    def __init__(
        self,
        *,
        uid: int | None = None,
        keys: Sequence[bytes] | None = None,
        source_id: str | None = None,
        tag: str | None = None,
    ) -> None:
        self._uid = uid
        self._keys = None if keys is None else tuple(dict.fromkeys(keys))
        self._key_set = None if keys is None else frozenset(keys)
        self._source_id = None if source_id is None else plain_text(source_id)
        self._tag = None if tag is None else plain_text(tag)
        self._position = 0
        self._next_position = 0
        self._fresh: list[bytes] = []
        self._all_gone = False
        self.removed: list[bytes] = []
        """Keys of the answers that are gone."""
        self.listed = False
        """Whether the keys of everything were read: until then the file is not replaced."""
        self.finished = False
        self.attempted = trio.Event()
        """Set when it is finished, and when the disk failed it: it stays in force then and is tried again."""

    @property
    def of_everything(self) -> bool:
        """Whether it bears no mark: then the whole file is replaced, which takes no time and no disk."""
        return (self._uid, self._keys, self._source_id, self._tag) == (None, None, None, None)

    def covers(self, answer: StoredAnswer) -> bool:
        """Whether this answer is to be forgotten."""
        return (
            (self._uid is None or self._uid == answer.uid)
            and (self._key_set is None or answer.key in self._key_set)
            and (self._source_id is None or self._source_id == answer.source_id)
            and (self._tag is None or self._tag in answer.tags)
        )

    def find(self, connection: sqlite3.Connection) -> list[bytes]:
        """List the keys of what is still there, for when it cannot be deleted now."""
        found: list[bytes] = []
        position = 0
        while True:
            condition, values, position = self._condition(position)
            if condition is None:
                return found
            rows = connection.execute(f"SELECT key FROM answers WHERE {condition}", values)  # noqa: S608
            found += [bytes(key) for (key,) in rows]
            if self._keys is None:
                return found

    def delete(self, connection: sqlite3.Connection, until: float) -> None:
        """Delete until nothing is left or ``until`` (`time.monotonic`), in the worker thread, in somebody's transaction."""
        self._fresh, self._all_gone, position = [], False, self._position
        while not self._all_gone:
            condition, values, ahead = self._condition(position)
            if condition is None:
                self._all_gone = True
                break
            rows = connection.execute(
                "DELETE FROM answers WHERE number IN "  # noqa: S608
                f"(SELECT number FROM answers WHERE {condition} LIMIT {_ROWS_A_STEP}) RETURNING key",
                values,
            ).fetchall()
            self._fresh += [bytes(key) for (key,) in rows]
            if len(rows) < _ROWS_A_STEP:
                position = ahead
                self._all_gone = self._keys is None
            if time.monotonic() >= until:
                break
        self._next_position = position

    def committed(self) -> None:
        """What was just deleted is gone for good."""
        self.removed += self._fresh
        self._position = self._next_position
        if self._all_gone:
            self.finish()

    def finish(self) -> None:
        """Nothing that it covers is left."""
        self.finished = True
        self.attempted.set()

    def _condition(self, position: int) -> tuple[str | None, list[object], int]:
        terms, values = [], list[object]()
        if self._keys is not None:
            part = self._keys[position : position + _KEYS_A_STEP]
            if not part:
                return None, [], position
            terms.append(f"key IN ({','.join('?' * len(part))})")
            values += part
            position += len(part)
        if self._uid is not None:
            terms.append("uid = ?")
            values.append(self._uid)
        if self._source_id is not None:
            terms.append("source_id = ?")
            values.append(self._source_id)
        if self._tag is not None:
            terms.append("number IN (SELECT answer FROM answer_tags WHERE tag = ?)")
            values.append(self._tag)
        return " AND ".join(terms) or "1", values, position
