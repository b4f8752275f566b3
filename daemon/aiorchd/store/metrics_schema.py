"""``metrics.db``: what was asked, what it cost and how long it took; never what was said. At most a second may be lost.

===============  ====================================================================================================
calls            one row a finished call, the newest ``keep_calls`` of them; ``story`` is what ``explain`` tells
series           the combinations that calls are counted by; "" where a call had none
minutes, hours   sums by series for each minute (two days) and each hour (``keep_days``); ``starts_at`` is its beginning
minute_times     how many calls of a series took how long, by buckets of core/histogram.py; add up over anything
hour_times       the same by hour
batch_sizes      how many questions of an operation a model may be asked together, and what was measured (packed); ``number``
                 grows with each change
progress         single facts: the last round written and by which process, so that nothing is counted twice; rows in calls
usage_by_hour    a view for people
===============  ====================================================================================================

Times are seconds since the epoch, durations seconds, money US dollars. ``costs_unknown`` counts calls whose price is not
known, or that of one of its attempts: it is missing in ``spent_usd``, it did not cost nothing; ``attempts_unknown`` counts such
attempts, and ``estimated_usd`` what they are taken to have cost. A call that asked no provider has no cost to know. What an
attempt took is counted at the model that was asked: in the series of its call if that model answered it, else in one whose
``cache`` is ``attempt`` and whose ``error`` is the attempt's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiorchd.store.kinds import FileKind, Table

if TYPE_CHECKING:
    from sqlite_utils import Database

_FIRST_SUMS: Final = (
    "calls",
    "attempts",
    "throttled",
    "fallbacks",
    "costs_known",
    "costs_unknown",
    "spent_usd",
    "savings_known",
    "savings_unknown",
    "saved_usd",
    "usage_known",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
"""What is added up for each series since the first release, in the order of the columns."""

KINDS: Final = ("context_fallbacks", "filter_fallbacks", "hedges")
"""What came later: why another model was asked, and second tries beside a first."""

SAVINGS: Final = ("timed_savings", "saved_s", "counted_savings", "saved_tokens")
"""And what came after that: what calls answered without a provider saved besides money, and of how many it is known."""

COSTS: Final = ("attempts_unknown", "estimated_usd")
"""And after that: attempts of unknown cost, and what these are counted as, beside ``spent_usd``."""

PROOFS: Final = ("semantic_checks", "semantic_wrong", "batch_questions", "batches", "batch_left_out")
"""And after that: near answers that were compared to the model's and those of them that were wrong; questions that were asked
together with others, in how many provider calls (each question has its share of one), and those that these did not answer."""

CALL_COSTS: Final = ("cost_known_usd", "cost_unknown_attempts", "cost_estimate_usd")
"""The same of a single call."""

SUMS: Final = (*_FIRST_SUMS, *KINDS, *SAVINGS, *COSTS, *PROOFS)
"""All of them."""

TIMES: Final = ("total_calls", "overhead_calls")
"""What is added up for each bucket of durations."""

DOLLARS: Final = frozenset(("spent_usd", "saved_usd", "estimated_usd"))


def create_calls(database: Database) -> None:
    """Make the table of single calls."""
    calls = database.table("calls")
    calls.create(
        {
            "number": int,
            "id": str,
            "at": float,
            "uid": int,
            "pid": int,
            "unit": str,
            "kind": str,
            "operation": str,
            "task": str,
            "model": str,
            "provider": str,
            "cache": str,
            "error": str,
            "simulated": int,
            "streamed": int,
            "attempts": int,
            "throttled": int,
            "fallbacks": int,
            "input_tokens": int,
            "cache_read_tokens": int,
            "cache_write_tokens": int,
            "output_tokens": int,
            "reasoning_tokens": int,
            "cost_usd": float,
            "saved_usd": float,
            "queue_s": float,
            "provider_s": float,
            "total_s": float,
            "source_id": str,
            "tags": str,
            "story": str,
        },
        pk="number",
        not_null={"id", "at", "uid", "unit", "cache"},
    )
    calls.create_index(["id"], unique=True)
    # Plain hits have no story. They are many, and the first to go when there are too many rows.
    database.execute("CREATE INDEX idx_calls_plain ON calls (number) WHERE story IS NULL")
    database.execute("CREATE INDEX idx_calls_told ON calls (number) WHERE story IS NOT NULL")


def create_sums(database: Database) -> None:
    """Make the series, their sums by minute and hour, and the count of batches."""
    series = database.table("series")
    names = ("unit", "uid", "model", "provider", "cache", "error", "operation")
    series.create(
        {
            "number": int,
            **{name: int if name == "uid" else str for name in names},
            "last_at": int,
        },
        pk="number",
        not_null={*names, "last_at"},
    )
    series.create_index(list(names), unique=True)
    columns = ", ".join(f"{name} {'REAL' if name in DOLLARS else 'INTEGER'} NOT NULL" for name in _FIRST_SUMS)
    for span in ("minute", "hour"):
        database.execute(
            f"""
            CREATE TABLE {span}s (
                starts_at INTEGER NOT NULL,
                series INTEGER NOT NULL REFERENCES series (number),
                {columns},
                PRIMARY KEY (starts_at, series)
            ) WITHOUT ROWID
            """
        )
        database.execute(
            f"""
            CREATE TABLE {span}_times (
                starts_at INTEGER NOT NULL,
                series INTEGER NOT NULL REFERENCES series (number),
                bucket INTEGER NOT NULL,
                total_calls INTEGER NOT NULL,
                overhead_calls INTEGER NOT NULL,
                PRIMARY KEY (starts_at, series, bucket)
            ) WITHOUT ROWID
            """
        )
    database.table("progress").create({"name": str, "value": int}, pk="name", not_null={"value"})
    database.create_view(
        "usage_by_hour",
        """
        SELECT datetime(hours.starts_at, 'unixepoch') AS hour_utc, series.unit, series.uid, series.operation, series.model,
               series.provider, series.cache, series.error, hours.calls, hours.attempts, hours.throttled, hours.fallbacks,
               hours.spent_usd, hours.costs_unknown, hours.saved_usd
        FROM hours JOIN series ON series.number = hours.series
        """,
    )


def add_kinds(database: Database) -> None:
    """Count fallbacks by what went wrong, and second tries."""
    for name in KINDS:
        for table, rule in (("calls", ""), ("minutes", " NOT NULL DEFAULT 0"), ("hours", " NOT NULL DEFAULT 0")):
            database.execute(f"ALTER TABLE {table} ADD COLUMN {name} INTEGER{rule}")


def add_savings(database: Database) -> None:
    """Add up the providers' seconds and tokens that were saved."""
    database.execute("ALTER TABLE calls ADD COLUMN saved_s REAL")
    for name in SAVINGS:
        for table in ("minutes", "hours"):
            kind = "REAL" if name == "saved_s" else "INTEGER"
            database.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind} NOT NULL DEFAULT 0")


def add_costs(database: Database) -> None:
    """Tell what is known of a cost from what is not, call by call and in the sums."""
    for name in CALL_COSTS:
        kind = "INTEGER" if name == "cost_unknown_attempts" else "REAL"
        database.execute(f"ALTER TABLE calls ADD COLUMN {name} {kind}")
    for name in COSTS:
        for table in ("minutes", "hours"):
            kind = "REAL" if name in DOLLARS else "INTEGER"
            database.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind} NOT NULL DEFAULT 0")
    for table in ("minutes", "hours"):  # each had one such attempt at least; what it may have cost was not kept
        database.execute(f"UPDATE {table} SET attempts_unknown = costs_unknown WHERE costs_unknown > 0")  # noqa: S608


def create_batch_sizes(database: Database) -> None:
    """Make the table of how large batches may be."""
    sizes = database.table("batch_sizes")
    sizes.create(
        {"number": int, "operation": str, "model": str, "state": bytes},
        pk="number",
        not_null={"operation", "model", "state"},
    )
    sizes.create_index(["operation", "model"], unique=True)


def add_proofs(database: Database) -> None:
    """Add up what is measured of near answers and of batches, by whoever asked."""
    for name in PROOFS:
        for table in ("minutes", "hours"):
            kind = "REAL" if name == "batches" else "INTEGER"
            database.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind} NOT NULL DEFAULT 0")


METRICS: Final = FileKind(
    name="metrics",
    application_id=0x61696F6D,  # "aiom"
    synchronous="NORMAL",
    disposable=True,
    foreign_keys=False,  # they are there for readers; one writer keeps them true
    secure_delete="FAST",
    steps=(create_calls, create_sums, add_kinds, add_savings, add_costs, create_batch_sizes, add_proofs),
    tables=(
        Table(
            "calls",
            ("id",),
            (
                "number",
                "at",
                "uid",
                "pid",
                "unit",
                "kind",
                "operation",
                "task",
                "model",
                "provider",
                "cache",
                "error",
                "simulated",
                "streamed",
                "attempts",
                "throttled",
                "fallbacks",
                *KINDS,
                "input_tokens",
                "cache_read_tokens",
                "cache_write_tokens",
                "output_tokens",
                "reasoning_tokens",
                "cost_usd",
                *CALL_COSTS,
                "saved_usd",
                "saved_s",
                "queue_s",
                "provider_s",
                "total_s",
                "source_id",
                "tags",
                "story",
            ),
            (("idx_calls_plain", "story IS NULL"), ("idx_calls_told", "story IS NOT NULL")),
        ),
        Table("series", ("unit", "uid", "model", "provider", "cache", "error", "operation"), ("number", "last_at")),
        Table("minutes", ("starts_at", "series"), SUMS),
        Table("hours", ("starts_at", "series"), SUMS),
        Table("minute_times", ("starts_at", "series", "bucket"), TIMES),
        Table("hour_times", ("starts_at", "series", "bucket"), TIMES),
        Table("progress", ("name",), ("value",)),
        Table("batch_sizes", ("operation", "model"), ("number", "state")),
    ),
)
