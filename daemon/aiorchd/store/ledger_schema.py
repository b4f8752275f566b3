"""``ledger.db``: what was promised to be kept. Every commit reaches the disk before anybody is told of it.

=====  ==============================================================================================================
meta   single facts: ``instance_id`` names this state directory for ever, ``created_at`` says since when
boots  one row a start of the daemon, the last thousand; ``stopped_at`` is empty after a crash
=====  ==============================================================================================================

Times are seconds since the epoch. Jobs, budgets and feedback come here with their features.
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


LEDGER: Final = FileKind(
    name="ledger",
    application_id=0x61696F6C,  # "aiol"
    synchronous="FULL",
    disposable=False,
    foreign_keys=True,
    secure_delete="FAST",
    steps=(create_meta_and_boots,),
    tables=(
        Table("meta", ("name",), ("value",)),
        Table("boots", ("number",), ("release", "pid", "started_at", "stopped_at")),
    ),
)
