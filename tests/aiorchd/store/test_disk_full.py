"""A disk that is full, or fails: serving goes on, promises are refused, and all of it works again when there is room."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from store_values import a_key, a_record, an_answer

from aiorch.errors import StorageError
from aiorchd.store.opening import Store

Opener = Callable[..., Any]

LIMITED = """
import json, resource, signal, sys, trio
from pathlib import Path
from store_values import StandingClock, a_key, a_record, an_answer
from aiorch.errors import StorageError
from aiorchd.store.opening import open_store

async def main():
    async with open_store(Path(sys.argv[1]), release="1.0", wall_clock=StandingClock(), flush_s=0.01) as store:
        await store.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        acknowledged = []
        for number in range(3000):
            store.answers.put(an_answer(number, body=bytes(1000)))
            store.records.record(a_record(number))
            if number % 300 == 0:
                await store.flush()
                try:
                    await store.ledger.change(
                        lambda connection: connection.execute(
                            "INSERT INTO meta VALUES (?, ?)", (f"n{number}", "x" * 30_000)
                        ).rowcount
                    )
                    acknowledged.append(number)
                except StorageError as error:
                    print(json.dumps({"refused": str(error)}), flush=True)
        served = sum([await store.answers.get(a_key(number)) is not None for number in range(3000)])
        states = {name: file.state for name, file in store.statistics().files.items()}
        calls = sum(tally.calls for tally in (await store.records.totals(0)).tallies.values())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with trio.fail_after(20):
            while True:
                store.answers.put(an_answer(9000))
                store.records.record(a_record(9000))
                await store.flush()
                after = {name: file.state for name, file in store.statistics().files.items()}
                if after["cache"] == after["metrics"] == "ok" and not store.records.statistics().tallies:
                    break
                await trio.sleep(0.05)
        await store.ledger.change(lambda connection: connection.execute("INSERT INTO meta VALUES ('late', '')").rowcount)
        print(json.dumps({"acknowledged": acknowledged, "served": served, "states": states, "calls": calls,
            "dropped": store.answers.statistics()["dropped"]}), flush=True)

trio.run(main)
"""


def no_room(store: Store, name: str) -> Callable[[], None]:
    """Let one file not grow any more; gives the way to undo it."""
    file = {"cache": store.answers.file, "metrics": store.records.file, "ledger": store.ledger.file}[name]
    connection = file._writer
    assert connection is not None
    (before,) = connection.execute("PRAGMA max_page_count").fetchone()
    connection.execute("PRAGMA max_page_count = 1")  # as many as there are

    def undo() -> None:
        connection.execute(f"PRAGMA max_page_count = {before}")

    return undo


async def working(store: Store) -> None:
    with trio.fail_after(10):
        while any(file.state != "ok" for file in store.statistics().files.values()):
            await store.flush()
            await trio.sleep(0.01)


async def test_a_full_cache_serves_what_it_has_and_keeps_what_it_gathered(
    opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1))
        await store.flush()
        make_room = no_room(store, "cache")
        for number in range(2, 200):
            store.answers.put(an_answer(number, body=bytes(5000)))
        await store.flush()
        assert store.statistics().files["cache"].state == "full"
        assert await store.answers.get(a_key(1)) is not None  # on disk
        assert await store.answers.get(a_key(100)) is not None  # gathered
        assert store.statistics().answers["queued"] == 198
        store.records.record(a_record(1))
        await store.flush()
        assert store.records.statistics().written == 1  # the other files are not affected
        make_room()
        await working(store)
        assert store.statistics().answers["written"] == 199
        assert store.statistics().answers["dropped"] == 0
    assert [record.message for record in caplog.records if "work" in record.message] == [
        "file does not work",
        "file works again",
    ]


async def test_forgetting_on_a_full_disk_holds_and_is_carried_out_later(opened: Opener) -> None:
    async with opened() as store:
        for number in range(400):
            store.answers.put(an_answer(number, uid=number % 2, body=bytes(2000)))
        await store.flush()
        # A deletion needs room in the log, so it is the log that has to be full: hold the file as a stranger would.
        stranger = sqlite3.connect(store.directory / "cache.db", isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        gone = await store.answers.delete(uid=1)
        assert len(gone) == 200
        assert await store.answers.get(a_key(1)) is None
        assert await store.answers.get(a_key(2)) is not None
        assert store.statistics().answers["deletions_pending"] == 1
        stranger.execute("ROLLBACK")
        stranger.close()
        with trio.fail_after(10):
            while store.statistics().answers["deletions_pending"]:
                await trio.sleep(0.01)
        assert await store.answers.get(a_key(1)) is None
        assert store.statistics().answers["entries"] == 200


async def test_full_metrics_count_on_in_memory(opened: Opener) -> None:
    async with opened() as store:
        await store.flush()
        make_room = no_room(store, "metrics")
        for start in range(0, 5000, 500):
            for number in range(start, start + 500):
                store.records.record(a_record(number))
            await store.flush()
        assert store.statistics().files["metrics"].state == "full"
        assert sum(tally.calls for tally in (await store.records.totals(0)).tallies.values()) == 5000
        assert await store.records.find("call-4999") is not None
        make_room()
        await working(store)
        await store.flush()
        assert store.records.statistics().tallies == 0
        assert sum(tally.calls for tally in (await store.records.totals(0)).tallies.values()) == 5000


async def test_a_full_ledger_promises_nothing(opened: Opener) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES ('large', zeroblob(1000000))")

    async with opened() as store:
        make_room = no_room(store, "ledger")
        with pytest.raises(StorageError, match="full"):
            await store.ledger.change(fill)
        make_room()
        assert (
            await store.ledger.ask(
                lambda connection: connection.execute("SELECT 1 FROM meta WHERE name = 'large'").fetchall()
            )
            == []
        )
        await store.ledger.change(fill)
        assert store.statistics().files["ledger"].state == "ok"


@pytest.mark.slow
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    # A real limit of the kernel, on files, logs and all: the write itself fails.
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "state")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    *refusals, told = map(json.loads, ended.stdout.splitlines())
    assert told["states"]["cache"] in ("io", "full")
    assert told["states"]["metrics"] in ("io", "full")
    assert told["calls"] == 3000  # counted all the same
    assert told["served"] + told["dropped"] >= 3000
    assert refusals
    assert all("the ledger cannot be written" in refusal["refused"] for refusal in refusals)
    connection = sqlite3.connect(tmp_path / "state" / "ledger.db")
    kept = {name for (name,) in connection.execute("SELECT name FROM meta")}
    connection.close()
    assert {f"n{number}" for number in told["acknowledged"]} | {"late"} <= kept
    assert told["acknowledged"]
    for name in ("cache.db", "metrics.db", "ledger.db"):
        connection = sqlite3.connect(tmp_path / "state" / name)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    connection = sqlite3.connect(tmp_path / "state" / "metrics.db")
    assert connection.execute("SELECT sum(calls) FROM hours").fetchone()[0] >= 3001
    connection.close()
