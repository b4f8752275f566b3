"""What the three files are: how durable, how disposable, and the steps that make their tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from sqlite_utils import Database

Step: TypeAlias = Callable[["Database"], None]
"""One migration: a named function that is applied once, in the transaction that records it."""


@dataclass(frozen=True, slots=True)
class Table:
    """What our statements rely on in a table: that its ``key`` is unique, its other ``columns``, and any ``indexes`` that
    are named in a query with a condition (name and condition)."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...] = ()
    indexes: tuple[tuple[str, str], ...] = ()

    def probes(self) -> tuple[str, ...]:
        """Give statements that SQLite can only compile when all of this is there. They are explained, never run."""
        names = ", ".join(f'"{name}"' for name in (*self.key, *self.columns))
        values = ", ".join("0" for _ in (*self.key, *self.columns))
        key = ", ".join(f'"{name}"' for name in self.key)
        return (
            f'INSERT INTO "{self.name}" ({names}) VALUES ({values}) ON CONFLICT ({key}) DO NOTHING',  # noqa: S608
            *(
                f'SELECT 1 FROM "{self.name}" INDEXED BY "{index}" WHERE {condition}'  # noqa: S608
                for index, condition in self.indexes
            ),
        )


@dataclass(frozen=True, slots=True)
class FileKind:
    """One of the three files.

    ``application_id`` is written into the header, so that an exchanged or foreign file is recognised; ``steps`` in order
    make its schema, and their number is its version (``PRAGMA user_version``); ``tables`` are looked at when it is
    opened. A ``disposable`` file that is damaged is put aside and begun anew; another one stops the start.
    """

    name: str
    application_id: int
    synchronous: Literal["NORMAL", "FULL"]
    disposable: bool
    foreign_keys: bool
    secure_delete: Literal["ON", "FAST"]
    steps: tuple[Step, ...]
    tables: tuple[Table, ...]

    @property
    def version(self) -> int:
        """The version of the schema that this release reads and writes."""
        return len(self.steps)


def migrate(connection: sqlite3.Connection, kind: FileKind) -> None:
    """Apply the steps that are missing, each in the transaction that records it.

    sqlite-utils keeps the record, in the table its users know. It is imported here because only a new or an old file
    needs it: 30 ms and 4 MB that other starts are spared. The connection is not to be used for anything else after.
    """
    from sqlite_utils import Database, Migrations

    migrations = Migrations(f"aiorch_{kind.name}")
    for number, step in enumerate(kind.steps, 1):
        migrations(name=step.__name__)(_numbered(step, number))
    migrations.apply(Database(connection, execute_plugins=False))


def _numbered(step: Step, number: int) -> Step:
    def apply(database: Database) -> None:
        step(database)
        # Part of the same transaction: either the step, its record and its number are there, or none of them.
        database.execute(f"PRAGMA user_version = {number}")

    return apply
