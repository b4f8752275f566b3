"""``ledger.db``: what was promised to be kept. Every commit reaches the disk before anybody is told of it.

========  ===========================================================================================================
meta      single facts: ``instance_id`` names this state directory for ever, ``created_at`` says since when
boots     one row a start of the daemon, the last thousand; ``stopped_at`` is empty after a crash
spending  one row a budget and period, this year's and last year's: what was spent (``estimated`` of it by reservations
          that nobody settled) and what attempts under way hold, in nano-dollars; see ``core/spending``
========  ===========================================================================================================

Times are seconds since the epoch. Jobs and feedback come here with their features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiorchd.store.kinds import FileKind, Table

if TYPE_CHECKING:
    from sqlite_utils import Database


def create_meta_and_boots(database: Database) -> None:
    """Make the tables of the instance and its starts."""
    database.table("meta").create({"name": str, "value": str}, pk="name", not_null={"value"})
    database.table("boots").create(
        {"number": int, "release": str, "pid": int, "started_at": float, "stopped_at": float},
        pk="number",
        not_null={"release", "pid", "started_at"},
    )


def create_spending(database: Database) -> None:
    """Make the table of budgets."""
    numbers = ("spent_nano_usd", "estimated_nano_usd", "held_nano_usd", "attempts", "estimates")
    database.table("spending").create(
        {"scope": str, "period": str, **dict.fromkeys(numbers, int)}, pk=("scope", "period"), not_null=set(numbers)
    )


LEDGER: Final = FileKind(
    name="ledger",
    application_id=0x61696F6C,  # "aiol"
    synchronous="FULL",
    disposable=False,
    foreign_keys=True,
    secure_delete="FAST",
    steps=(create_meta_and_boots, create_spending),
    tables=(
        Table("meta", ("name",), ("value",)),
        Table(
            "spending",
            ("scope", "period"),
            ("spent_nano_usd", "estimated_nano_usd", "held_nano_usd", "attempts", "estimates"),
        ),
        Table("boots", ("number",), ("release", "pid", "started_at", "stopped_at")),
    ),
)
