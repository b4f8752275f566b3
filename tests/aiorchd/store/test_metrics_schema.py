"""``metrics.db`` of an earlier release: its calls and sums stay, and what was not counted then is 0."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from aiorchd.store.call_rows import read_call
from aiorchd.store.kinds import migrate
from aiorchd.store.metrics_schema import COSTS, KINDS, METRICS, PROOFS, SAVINGS, SUMS
from aiorchd.store.sums import read_sums


def test_an_older_file_is_brought_up_to_date_with_all_that_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "metrics.db"
    first = sqlite3.connect(file)
    migrate(first, replace(METRICS, steps=METRICS.steps[:2]))
    first.close()
    with sqlite3.connect(file) as old:
        old.execute(
            "INSERT INTO calls (id, at, uid, pid, unit, kind, cache, fallbacks) VALUES ('c1', 60, 7, 1, 'u', 'chat', 'miss', 2)"
        )
        old.execute(
            "INSERT INTO series (number, unit, uid, model, provider, cache, error, operation, last_at) "
            "VALUES (1, 'u', 7, 'm', 'p', 'miss', '', '', 0)"
        )
        names = [name for name in SUMS if name not in (*KINDS, *SAVINGS, *COSTS, *PROOFS)]
        old.execute(
            f"INSERT INTO hours (starts_at, series, {', '.join(names)}) VALUES (0, 1, {', '.join('3' for _ in names)})"
        )
    old.close()
    connection = sqlite3.connect(file)
    migrate(connection, METRICS)
    connection.close()
    connection = sqlite3.connect(file, isolation_level=None)
    found = read_call(connection, "c1")
    assert found is not None
    assert (found.fallbacks, found.context_fallbacks, found.filter_fallbacks, found.hedges) == (2, 0, 0, 0)
    _, _, _, sums = read_sums(connection, since=0.0, now=1e9, uid=None)
    [tally] = sums.values()
    assert (tally.calls, tally.fallbacks, tally.hedges, tally.saved_tokens) == (3, 3, 0, 0)
    assert (found.saved_s, tally.saved_s) == (None, 0.0)
    assert (tally.semantic_checks, tally.batch_questions, tally.batches) == (0, 0, 0.0)
    assert (found.cost_unknown_attempts, tally.attempts_unknown, tally.estimated_usd) == (0, 3, 0.0)
    assert connection.execute("PRAGMA user_version").fetchone() == (METRICS.version,)
    connection.close()
