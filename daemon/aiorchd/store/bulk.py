"""Many rows into a table at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Any, Final

_ROWS_PER_STATEMENT: Final = 128


def insert_many(
    connection: sqlite3.Connection, insert: str, columns: int, rows: Iterable[Sequence[Any]], suffix: str = ""
) -> int:
    """Insert rows, many to a statement (``insert`` is its beginning, ``suffix`` its end); returns how many took effect.

    Not ``executemany``: that gives up Python's lock at every row and has to get it back from a busy loop each time,
    which was seen to take milliseconds a row. One statement of 128 rows gives it up once.
    """
    changed = 0
    one = f"({','.join('?' * columns)})"
    remaining = iter(rows)
    while batch := list(islice(remaining, _ROWS_PER_STATEMENT)):
        statement = f"{insert} VALUES {','.join([one] * len(batch))} {suffix}"
        changed += connection.execute(statement, list(chain.from_iterable(batch))).rowcount
    return changed
