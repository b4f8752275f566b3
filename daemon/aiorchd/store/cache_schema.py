"""``cache.db``: answers that were paid for. Losing it costs money, nothing else, so it is disposable.

=============  ======================================================================================================
answers        one row an answer; ``key`` is its identity (docs/keys.md), ``body`` the packed reply, ``checksum`` guards
               the row, ``used_at`` is when it was written or last read from here (to the minute)
answer_tags    the tags of an answer, for deleting by tag
semantic_entries  one row a question that the semantic cache knows: its vector and the hashes of its words, never the words;
               ``key`` is that of its answer
semantic_state what the semantic cache has learned
_counts        how many answers there are (kept by triggers; sqlite-utils and Datasette know this table)
=============  ======================================================================================================

Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiorchd.store.kinds import FileKind, Table

if TYPE_CHECKING:
    from sqlite_utils import Database


def create_answers(database: Database) -> None:
    """Make the table of answers, its tags, and the count of both."""
    answers = database.table("answers")
    answers.create(
        {
            "number": int,
            "key": bytes,
            "stored_at": float,
            "expires_at": float,
            "used_at": int,
            "source_id": str,
            "uid": int,
            "partition": str,
            "model": str,
            "cost_usd": float,
            "checksum": bytes,
            "body": bytes,  # last, so that reading the others does not walk through long bodies
        },
        pk="number",
        not_null={
            "key",
            "stored_at",
            "expires_at",
            "used_at",
            "source_id",
            "uid",
            "partition",
            "model",
            "checksum",
            "body",
        },
    )
    answers.create_index(["key"], unique=True)
    answers.create_index(["expires_at"])
    answers.create_index(["used_at"])
    answers.create_index(["source_id"])
    answers.create_index(["uid"])
    database.execute(
        """
        CREATE TABLE answer_tags (
            answer INTEGER NOT NULL REFERENCES answers (number) ON DELETE CASCADE,
            tag TEXT NOT NULL,
            PRIMARY KEY (answer, tag)
        ) WITHOUT ROWID
        """
    )
    database.table("answer_tags").create_index(["tag"])
    answers.enable_counts()


def create_semantic(database: Database) -> None:
    """Make the tables of the semantic cache."""
    entries = database.table("semantic_entries")
    entries.create(
        {
            "number": int,
            "key": bytes,
            "scope": bytes,
            "mark": bytes,
            "source_id": str,
            "uid": int,
            "right": int,
            "wrong": int,
            "sketch": bytes,
            "vector": bytes,
        },
        pk="number",
        not_null={"key", "scope", "mark", "source_id", "uid", "right", "wrong", "sketch", "vector"},
    )
    entries.create_index(["key"], unique=True)
    state = database.table("semantic_state")
    state.create({"name": str, "value": bytes}, pk="name", not_null={"value"})


CACHE: Final = FileKind(
    name="cache",
    application_id=0x61696F63,  # "aioc"
    synchronous="NORMAL",
    disposable=True,
    foreign_keys=True,
    secure_delete="ON",  # what a user has forgotten is overwritten
    steps=(
        create_answers,
        create_semantic,
    ),
    tables=(
        Table(
            "answers",
            ("key",),
            (
                "number",
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
            ),
        ),
        Table("answer_tags", ("answer", "tag")),
        Table("_counts", ("table",), ("count",)),
        Table(
            "semantic_entries",
            ("key",),
            ("number", "scope", "mark", "source_id", "uid", "right", "wrong", "sketch", "vector"),
        ),
        Table("semantic_state", ("name",), ("value",)),
    ),
)
