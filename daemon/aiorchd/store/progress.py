"""The single facts of ``metrics.db``: which round was written last and by which process, and how many rows there are."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """``batch`` is the number of the last round that ``process`` wrote; the others are counts of rows in ``calls``."""

    process: int = 0
    batch: int = 0
    plain_calls: int = 0
    told_calls: int = 0


def read_progress(connection: sqlite3.Connection) -> Progress:
    """Read all of them."""
    facts = dict(connection.execute("SELECT name, value FROM progress").fetchall())
    return Progress(
        process=facts.get("process", 0),
        batch=facts.get("batch", 0),
        plain_calls=facts.get("plain_calls", 0),
        told_calls=facts.get("told_calls", 0),
    )


def write_progress(connection: sqlite3.Connection, **facts: int) -> None:
    """Set some of them."""
    for name, value in facts.items():
        connection.execute(
            "INSERT INTO progress (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )


def add_progress(connection: sqlite3.Connection, **changes: int) -> None:
    """Add to some of them."""
    for name, change in changes.items():
        if change:
            connection.execute(
                "INSERT INTO progress (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = max(0, value + excluded.value)",
                (name, change),
            )
