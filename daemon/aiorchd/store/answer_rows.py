"""Answers as rows of ``cache.db``: written, read and checked, counted, and deleted when too old or too many."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import Any, Final

from aiorchd.calls.ports import StoredAnswer
from aiorchd.store.bulk import insert_many
from aiorchd.store.pages import pages_of
from aiorchd.store.plain import plain_dollars, plain_text
from aiorchd.store.short_turns import in_short_turns

USED_RESOLUTION_S: Final = 60
"""An answer that is read again within this time is not written for it."""

_COLUMNS: Final = (
    "key",
    "stored_at",
    "expires_at",
    "used_at",
    "source_id",
    "uid",
    "partition",
    "model",
    "cost_usd",
    "checksum",
    "body",
)
_INSERT: Final = f"INSERT INTO answers ({', '.join(_COLUMNS)})"
_UPSERT: Final = "ON CONFLICT (key) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
_TAGGED: Final = "EXISTS (SELECT 1 FROM answer_tags WHERE answer = number)"
_SELECT: Final = f"SELECT number, {', '.join(_COLUMNS)}, {_TAGGED} FROM answers WHERE key = ?"  # noqa: S608
_NUMBERS: Final = struct.Struct("<ddq?d")
_pack_length: Final = struct.Struct("<I").pack
_UNFIT: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    struct.error,
    OverflowError,
    TypeError,
)
"""What is raised for a value, as opposed to a file, that is not right."""
_KEYS_PER_STATEMENT: Final = 500
_ROUND: Final = 64


@dataclass(frozen=True, slots=True)
class Row:
    """What one key led to. ``answer`` is None when the row fails its checksum."""

    number: int
    answer: StoredAnswer | None
    used_at: int


def checksum_of(answer: StoredAnswer) -> bytes:
    """Guard everything that an answer is served, kept and deleted by, not only its body."""
    cost = answer.cost_usd
    parts = [answer.key, _NUMBERS.pack(answer.stored_at, answer.expires_at, answer.uid, cost is None, cost or 0.0)]
    texts = [answer.source_id, answer.partition, answer.model]
    if answer.tags:
        texts += sorted(set(answer.tags))
    for text in texts:
        raw = text.encode("utf-8", "replace")
        parts += (_pack_length(len(raw)), raw)
    parts.append(answer.body)
    return blake2b(b"".join(parts), digest_size=8).digest()


def write_answers(connection: sqlite3.Connection, answers: Sequence[StoredAnswer], now: float) -> int:
    """Write answers with their tags, in place of older ones of the same keys; returns how many could not be."""
    connection.execute("SAVEPOINT answers")
    try:
        _write(connection, answers, now)
    except _UNFIT:
        # One of them is not fit to be stored: find it, and write the others.
        connection.execute("ROLLBACK TO answers")
        connection.execute("RELEASE answers")
        if len(answers) == 1:
            return 1
        return sum(write_answers(connection, [answer], now) for answer in answers)
    connection.execute("RELEASE answers")
    return 0


def _write(connection: sqlite3.Connection, answers: Sequence[StoredAnswer], now: float) -> None:
    for part in _parts([answer.key for answer in answers]):
        connection.execute(
            f"DELETE FROM answer_tags WHERE answer IN (SELECT number FROM answers WHERE key IN ({_marks(part)}))",  # noqa: S608
            part,
        )
    insert_many(connection, _INSERT, len(_COLUMNS), [_row(answer, now) for answer in in_short_turns(answers)], _UPSERT)
    tags = {answer.key: set(answer.tags) for answer in answers if answer.tags}
    for part in _parts(list(tags)):
        numbered = connection.execute(f"SELECT number, key FROM answers WHERE key IN ({_marks(part)})", part).fetchall()  # noqa: S608
        rows = [(number, tag) for number, key in numbered for tag in sorted(tags[key])]
        insert_many(connection, "INSERT INTO answer_tags (answer, tag)", 2, rows)


def storable(answer: StoredAnswer) -> StoredAnswer:
    """Give the answer as it will be read back."""
    cost = answer.cost_usd
    if (
        (cost is None or isfinite(cost))
        and answer.source_id.isascii()
        and answer.partition.isascii()
        and answer.model.isascii()
        and (not answer.tags or "".join(answer.tags).isascii())
    ):
        return answer
    return StoredAnswer(
        key=answer.key,
        body=answer.body,
        stored_at=answer.stored_at,
        expires_at=answer.expires_at,
        source_id=plain_text(answer.source_id),
        uid=answer.uid,
        partition=plain_text(answer.partition),
        model=plain_text(answer.model),
        tags=tuple(plain_text(tag) for tag in answer.tags),
        cost_usd=plain_dollars(cost),
    )


def read_answer(connection: sqlite3.Connection, key: bytes) -> Row | None:
    """Look one answer up and check it."""
    row = connection.execute(_SELECT, (key,)).fetchone()
    if row is None:
        return None
    number, used_at, tags = row[0], row[4], []
    if row[-1]:
        found = connection.execute("SELECT tag FROM answer_tags WHERE answer = ? ORDER BY tag", (number,))
        tags = [tag for (tag,) in found]
    return Row(number, _answer_of(key, row, tags), used_at if isinstance(used_at, int) else 0)


def _answer_of(key: bytes, row: Sequence[Any], tags: Sequence[Any]) -> StoredAnswer | None:
    _, _, stored_at, expires_at, _, source_id, uid, partition, model, cost_usd, checksum, body, _ = row
    try:
        answer = StoredAnswer(
            key=key,  # the one that was asked for: a damaged index that leads to another row is found out, too
            body=bytes(body),
            stored_at=float(stored_at),
            expires_at=float(expires_at),
            source_id=str(source_id),
            uid=int(uid),
            partition=str(partition),
            model=str(model),
            tags=tuple(str(tag) for tag in tags),
            cost_usd=None if cost_usd is None else float(cost_usd),
        )
        return answer if checksum_of(answer) == checksum else None
    except (TypeError, ValueError, OverflowError, struct.error):  # a damaged row may hold any type in any column
        return None


def drop_rows(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Delete rows that failed their checksum."""
    for number in numbers:
        connection.execute("DELETE FROM answers WHERE number = ?", (number,))


def drop_keys(connection: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    """Delete the answers under these keys; returns how many there were."""
    return sum(
        connection.execute(f"DELETE FROM answers WHERE key IN ({_marks(part)})", part).rowcount  # noqa: S608
        for part in _parts(keys)
    )


def mark_used(connection: sqlite3.Connection, keys: Sequence[bytes], now: float) -> None:
    """Note that these were read."""
    for part in _parts(keys):
        connection.execute(
            f"UPDATE answers SET used_at = ? WHERE key IN ({_marks(part)}) AND used_at < ?",  # noqa: S608
            (int(now), *part, int(now) - USED_RESOLUTION_S),
        )


def count_answers(connection: sqlite3.Connection) -> int:
    """Tell how many answers there are, without looking at them."""
    row = connection.execute("SELECT count FROM _counts WHERE \"table\" = 'answers'").fetchone()
    return 0 if row is None else max(0, int(row[0]))


def some_stored_at(connection: sqlite3.Connection, limit: int) -> list[float]:
    """Give the times of some answers, by even steps through their numbers; it costs a seek for each."""
    least, most = connection.execute(
        "SELECT (SELECT min(number) FROM answers), (SELECT max(number) FROM answers)"
    ).fetchone()
    if least is None:
        return []
    step = max(1, (most - least) // max(1, limit - 1))
    times: dict[int, float] = {}
    for wanted in range(least, most + 1, step):
        row = connection.execute(
            "SELECT number, stored_at FROM answers WHERE number >= ? ORDER BY number LIMIT 1", (wanted,)
        ).fetchone()
        if row is not None and isinstance(row[1], float):
            times[row[0]] = row[1]
    return list(times.values())


def keys_after(connection: sqlite3.Connection, key: bytes, limit: int) -> list[bytes]:
    """Give the next keys in their order, from their index alone."""
    rows = connection.execute("SELECT key FROM answers WHERE key > ? ORDER BY key LIMIT ?", (key, limit))
    return [found for (found,) in rows]


def drop_expired(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Delete some answers that may not be served any more; returns how many."""
    return connection.execute(
        "DELETE FROM answers WHERE number IN (SELECT number FROM answers WHERE expires_at <= ? LIMIT ?)", (now, limit)
    ).rowcount


def drop_least_used(connection: sqlite3.Connection, limit: int) -> int:
    """Delete the answers that were used longest ago; returns how many."""
    return connection.execute(
        "DELETE FROM answers WHERE number IN (SELECT number FROM answers ORDER BY used_at, number LIMIT ?)", (limit,)
    ).rowcount


def make_room(
    connection: sqlite3.Connection, now: float, max_entries: int, max_bytes: int, limit: int
) -> tuple[int, int, bool]:
    """Delete what exceeds the bounds, expired ones first and at most about ``limit``.

    Returns how many had expired, how many had not, and whether it is still too much.
    """
    expired = evicted = 0
    while True:
        excess = count_answers(connection) - max_entries
        too_large = pages_of(connection).used_bytes > max_bytes
        if excess <= 0 and not too_large:
            return expired, evicted, False
        if expired + evicted >= limit:
            return expired, evicted, True
        wanted = min(max(excess, _ROUND if too_large else 0), limit)
        dropped = drop_expired(connection, now, wanted)
        expired += dropped
        if not dropped:
            dropped = drop_least_used(connection, wanted)
            evicted += dropped
        if not dropped:
            return expired, evicted, False  # it is empty: an empty file may be larger than a tiny bound


def _row(answer: StoredAnswer, now: float) -> tuple[object, ...]:
    return (
        answer.key,
        answer.stored_at,
        answer.expires_at,
        int(now),
        answer.source_id,
        answer.uid,
        answer.partition,
        answer.model,
        answer.cost_usd,
        checksum_of(answer),
        answer.body,
    )


def _parts(keys: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [keys[start : start + _KEYS_PER_STATEMENT] for start in range(0, len(keys), _KEYS_PER_STATEMENT)]


def _marks(part: Sequence[bytes]) -> str:
    return ",".join("?" * len(part))
