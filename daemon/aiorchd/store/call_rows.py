"""Finished calls as rows of ``metrics.db``: written in bulk, found by id, deleted when old or too many."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from aiorchd.calls.journal import COUNTED_ONLY, CallRecord
from aiorchd.store.bulk import insert_many
from aiorchd.store.metrics_schema import KINDS
from aiorchd.store.plain import plain_count, plain_dollars, plain_text
from aiorchd.store.short_turns import in_short_turns

STORY_BYTES: Final = 64 * 1024
"""A longer story is cut to its first notes and attempts."""

_COLUMNS: Final = tuple(name for name in CallRecord.__struct_fields__ if name not in COUNTED_ONLY)
_INSERT: Final = f"INSERT INTO calls ({', '.join(_COLUMNS)})"
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM calls WHERE id = ?"  # noqa: S608
_PLAIN_COLUMNS: Final = _COLUMNS[:-2]
assert _COLUMNS[-2:] == ("tags", "story")
_INSERT_PLAIN: Final = f"INSERT INTO calls ({', '.join(_PLAIN_COLUMNS)})"
_plain_row_of: Final = attrgetter(*_PLAIN_COLUMNS)
_AGAIN: Final = "ON CONFLICT (id) DO NOTHING"
_LONGEST_TEXT: Final = 200
_MOST_TAGS: Final = 64
_TEXTS: Final = ("unit", "kind", "operation", "task", "model", "provider", "cache", "error", "source_id")
_OWN_PARTS: Final = frozenset(("notes", "attempts", "error"))
"""What the house itself tells of a call: text, numbers, lists and maps of them."""
_quick_json: Final = msgspec.json.Encoder(enc_hook=str).encode
_texts_of: Final = attrgetter(*_TEXTS)
_COUNTS: Final = (
    "pid",
    "attempts",
    "throttled",
    "fallbacks",
    "context_fallbacks",
    "filter_fallbacks",
    "hedges",
    "cost_unknown_attempts",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def is_plain(record: CallRecord) -> bool:
    """Whether the whole story of a call is its fields: these are many, and the first to go."""
    return record.story is None


def write_calls(connection: sqlite3.Connection, records: Sequence[CallRecord]) -> tuple[int, int]:
    """Write records; returns how many plain ones and how many others are there now that were not before.

    What an id had already is left as it is: a batch may come twice.
    """
    bare = [record for record in records if record.story is None and not record.tags]
    rest = [record for record in records if record.story is not None or record.tags]
    plain = _insert(
        connection, _INSERT_PLAIN, _PLAIN_COLUMNS, [_plain_row_of(record) for record in in_short_turns(bare)]
    )
    plain_tagged = [_row(record) for record in rest if record.story is None]
    plain += _insert(connection, _INSERT, _COLUMNS, plain_tagged)
    told = [_row(record) for record in in_short_turns(rest) if record.story is not None]
    return plain, _insert(connection, _INSERT, _COLUMNS, told)


def bounded(record: CallRecord) -> CallRecord:
    """Cut what a caller may have made long or odd, so that waiting to be written costs a known amount of memory."""
    texts = _texts_of(record)
    longest = max(map(len, filter(None, (*texts, *record.tags))), default=0)
    if longest <= _LONGEST_TEXT and len(record.tags) <= _MOST_TAGS:
        return record
    long = [name for name, text in zip(_TEXTS, texts, strict=True) if text and len(text) > _LONGEST_TEXT]
    changes: dict[str, Any] = {name: getattr(record, name)[:_LONGEST_TEXT] for name in long}
    changes["tags"] = tuple(tag[:_LONGEST_TEXT] for tag in record.tags[:_MOST_TAGS])
    return replace(record, **changes)


def read_call(connection: sqlite3.Connection, call_id: str) -> CallRecord | None:
    """Find one call."""
    row = connection.execute(_SELECT, (plain_text(call_id),)).fetchone()
    if row is None:
        return None
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in (*KINDS, "cost_unknown_attempts"):  # not known of a call from before they were counted
        values[name] = values[name] or 0
    values["simulated"], values["streamed"] = bool(values["simulated"]), bool(values["streamed"])
    values["tags"] = tuple(_parsed(values["tags"]) or ())
    values["story"] = _parsed(values["story"])
    return CallRecord(**values)


def most_calls(connection: sqlite3.Connection) -> int:
    """Tell how many rows there may be at most, without counting them."""
    oldest, newest = connection.execute(
        "SELECT (SELECT min(number) FROM calls), (SELECT max(number) FROM calls)"
    ).fetchone()
    return 0 if oldest is None else int(newest) - int(oldest) + 1


def recount(connection: sqlite3.Connection) -> tuple[int, int]:
    """Count plain rows and others, in their indexes."""
    plain = connection.execute("SELECT count(*) FROM calls INDEXED BY idx_calls_plain WHERE story IS NULL").fetchone()
    told = connection.execute("SELECT count(*) FROM calls INDEXED BY idx_calls_told WHERE story IS NOT NULL").fetchone()
    return plain[0], told[0]


def drop_oldest(connection: sqlite3.Connection, *, plain: bool, limit: int) -> int:
    """Delete the oldest rows of one sort; returns how many."""
    sort = (
        "INDEXED BY idx_calls_plain WHERE story IS NULL"
        if plain
        else "INDEXED BY idx_calls_told WHERE story IS NOT NULL"
    )
    return connection.execute(
        f"DELETE FROM calls WHERE number IN (SELECT number FROM calls {sort} ORDER BY number LIMIT ?)",  # noqa: S608
        (limit,),
    ).rowcount


def drop_before(connection: sqlite3.Connection, before: float, limit: int) -> tuple[int, int]:
    """Delete rows from before a time (wall seconds) among the ``limit`` oldest; returns how many plain ones and others."""
    rows = connection.execute(
        "DELETE FROM calls WHERE number IN (SELECT number FROM calls ORDER BY number LIMIT ?) AND at < ? "
        "RETURNING story IS NULL",
        (limit, before),
    ).fetchall()
    plain = sum(row[0] for row in rows)
    return plain, len(rows) - plain


def _insert(connection: sqlite3.Connection, insert: str, columns: Sequence[str], rows: list[Any]) -> int:
    if not rows:
        return 0
    connection.execute("SAVEPOINT calls")
    try:
        written = insert_many(connection, insert, len(columns), rows, _AGAIN)
    except (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
        return _insert_singly(connection, insert, columns, rows, error)
    except (UnicodeEncodeError, OverflowError) as error:  # a caller's name that is no UTF-8, a provider's absurd count
        return _insert_singly(connection, insert, columns, rows, error)
    connection.execute("RELEASE calls")
    return written


def _insert_singly(
    connection: sqlite3.Connection, insert: str, columns: Sequence[str], rows: list[Any], error: Exception
) -> int:
    connection.execute("ROLLBACK TO calls")
    connection.execute("RELEASE calls")
    if len(rows) > 1:
        return sum(_insert(connection, insert, columns, [row]) for row in rows)
    mended = [_mended(name, value) for name, value in zip(columns, rows[0], strict=True)]
    if mended == list(rows[0]):
        raise error
    return _insert(connection, insert, columns, [mended])


def _mended(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    if name in _COUNTS and isinstance(value, int):
        return plain_count(value)
    return plain_dollars(value) if isinstance(value, float) else value


def _row(record: CallRecord) -> tuple[Any, ...]:
    tags = json.dumps([plain_text(tag) for tag in record.tags]) if record.tags else None
    return (*_plain_row_of(record), tags, None if record.story is None else _story(record.story))


def _story(story: dict[str, Any]) -> str:
    if story.keys() <= _OWN_PARTS:
        try:
            quick = _quick_json(story)
            if len(quick) <= STORY_BYTES:
                return quick.decode()
        except (ValueError, OverflowError):
            pass  # halves of characters, an absurd count: told as well as can be
    return _any_story(story)


def _any_story(story: dict[str, Any]) -> str:
    text = json.dumps(story, default=str, ensure_ascii=False, separators=(",", ":"))
    if len(text) > STORY_BYTES:
        short = {name: value[:50] if isinstance(value, list) else str(value)[:1000] for name, value in story.items()}
        text = json.dumps({**short, "cut": True}, default=str, ensure_ascii=False, separators=(",", ":"))
    if len(text) > STORY_BYTES:
        text = json.dumps({"cut": True})
    return plain_text(text)


def _parsed(text: Any) -> Any:
    if not isinstance(text, str):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
