"""kill -9, five times, under load: the files are sound, what the ledger acknowledged is there, and only the last moment of
the rest is gone."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import pytest

# Says, on each line, how far it got: "l N" the ledger acknowledged N; "a N" answer and record N were given to the store,
# with the monotonic time.
WRITER = """
import sys, time, trio
from pathlib import Path
from store_values import a_hit, a_record, an_answer
from aiorchd.store.opening import open_store

async def main():
    first = int(sys.argv[2])
    async with open_store(Path(sys.argv[1]), release="1.0", wall_clock=time.time) as store:
        now = time.time()
        async with trio.open_nursery() as nursery:
            async def ledger():
                number = first
                while True:
                    await store.ledger.change(
                        lambda connection: connection.execute("INSERT INTO meta VALUES (?, '')", (f"n{number}",)).rowcount
                    )
                    print("l", number, flush=True)
                    number += 1
            nursery.start_soon(ledger)
            number = first
            while True:
                for _ in range(20):
                    store.answers.put(an_answer(number, stored_at=now, expires_at=now + 9999))
                    store.records.record(a_record(number, at=now))
                    store.records.record_hits([a_hit(number, at=now)])
                    number += 1
                print("a", number, time.monotonic(), flush=True)
                await trio.sleep(0.005)

trio.run(main)
"""


def read(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.mark.slow
def test_five_kills(tmp_path: Path) -> None:
    state = tmp_path / "state"
    rng = Random(5)
    acknowledged: set[str] = set()
    for run in range(5):
        first = run * 1_000_000
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(state), str(first)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        with process:
            assert process.stdout is not None
            given: list[tuple[int, float]] = []
            killer = None
            for line in process.stdout:
                if not line.endswith("\n"):
                    continue  # the kill came in the middle of it
                what, number, *when = line.split()
                if killer is None:  # it is under way: a little later is the end, at no particular moment
                    killer = threading.Timer(1.1 + rng.random() * 0.3, process.send_signal, [signal.SIGKILL])
                    killer.start()
                if what == "l":
                    acknowledged.add(f"n{number}")
                else:
                    given.append((int(number), float(when[0])))
            assert killer is not None
            killer.join()
        assert process.returncode == -signal.SIGKILL

        for name in ("cache.db", "metrics.db", "ledger.db"):
            assert read(state / name, "PRAGMA integrity_check") == [("ok",)]
        assert acknowledged <= {str(name) for (name,) in read(state / "ledger.db", "SELECT name FROM meta")}
        # Everything given to the store a second before the end is there.
        end = given[-1][1]
        sure = max((number for number, when in given if when <= end - 1.0), default=first)
        answers = read(state / "cache.db", "SELECT count(*) FROM answers WHERE source_id >= 'call-' AND number > 0")
        kept = {
            int(str(name).removeprefix("call-"))
            for (name,) in read(state / "cache.db", "SELECT source_id FROM answers")
        }
        assert set(range(first, sure)) <= kept
        told = {str(name) for (name,) in read(state / "metrics.db", "SELECT id FROM calls")}
        assert {f"call-{number}" for number in range(first, sure)} <= told
        assert answers[0][0] == read(state / "cache.db", "SELECT count FROM _counts")[0][0] == len(kept)
        # The sums are those of whole rounds: each call is one record and one hit.
        ((calls, misses),) = read(
            state / "metrics.db",
            "SELECT sum(calls), sum(calls) FILTER (WHERE cache = 'miss') FROM hours JOIN series ON number = series",
        )
        assert calls == 2 * misses >= 2 * len([name for name in told if name.startswith("call-")]) - 1
