"""The size of a database in pages, and giving unused ones back to the file system bit by bit."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

_STEP_PAGES: Final = 512
_SPARE_PAGES: Final = 1024
"""Free pages that are kept for what comes next, as long as the file is within its bound."""


@dataclass(frozen=True, slots=True)
class Pages:
    """How many pages a file has, how many of them hold nothing, and how large one is."""

    count: int
    free: int
    size_bytes: int

    @property
    def used_bytes(self) -> int:
        """What is in use: content, indexes and overhead."""
        return (self.count - self.free) * self.size_bytes

    @property
    def file_bytes(self) -> int:
        """How large the file is, or will be once its write-ahead log is folded in."""
        return self.count * self.size_bytes


def pages_of(connection: sqlite3.Connection) -> Pages:
    """Look it up; this is in the header and costs no scan."""
    return Pages(
        count=connection.execute("PRAGMA page_count").fetchone()[0],
        free=connection.execute("PRAGMA freelist_count").fetchone()[0],
        size_bytes=connection.execute("PRAGMA page_size").fetchone()[0],
    )


def give_back(connection: sqlite3.Connection, max_bytes: int) -> bool:
    """Cut some free pages off a file that is too large or mostly empty; tell whether more of them are to go.

    A step moves pages from the end of the file into the gaps, so it is kept small.
    """
    pages = pages_of(connection)
    spare = max(_SPARE_PAGES, (pages.count - pages.free) // 4)
    wanted = max(pages.free - spare, min(pages.free, pages.count - max_bytes // pages.size_bytes))
    if wanted <= 0:
        return False
    for _ in range(min(wanted, _STEP_PAGES)):
        # One page a call: Python's sqlite3 takes only the first step of this statement, whatever number it is given.
        connection.execute("PRAGMA incremental_vacuum(1)")
    return wanted > _STEP_PAGES
