"""Damaged files, met by a real daemon; many more of them in tests/aiorchd/store, and in benchmarks/damaged_files.py."""

from __future__ import annotations

from pathlib import Path

from damaging import (
    Story,
    Trial,
    flip_bits,
    foreign,
    garbage,
    lost_tables,
    make,
    newer_schema,
    start_on_each,
    zero_pages,
)
from live_editing import configuration
from processes import daemon

from aiorchsim.process import start_simulator

TRIALS = (
    Trial("ledger.db", "", garbage, 1),
    Trial("ledger.db", "", foreign, 1),
    Trial("metrics.db", "", newer_schema, 1),
    Trial("cache.db", "", lost_tables, 0),
    Trial("metrics.db", "", foreign, 1),
    Trial("cache.db", "-wal", flip_bits, 1),
    Trial("ledger.db", "-shm", zero_pages, 1),
)


async def test_it_serves_or_says_why_not_and_keeps_the_file(tmp_path: Path) -> None:
    story = Story()
    with start_simulator("[[models]]\nlatency_s = 0.001\n") as simulator:
        config = configuration(simulator.base_url)
        (tmp_path / "first").mkdir()
        with daemon(tmp_path / "first", config, start=False) as first:
            made = await make(first, tmp_path, answers=40)
        await start_on_each(tmp_path, config, made, TRIALS, story)
    assert story.wrong == []
    assert (story.refused, story.served, story.put_aside) == (3, 4, 2)
    assert story.found > 0
