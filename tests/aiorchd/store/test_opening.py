"""The store as a whole: opened quickly, refused clearly, closed in order whatever happens."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from store_values import NOON, StandingClock, a_hit, a_key, a_record, an_answer

from aiorchd.store.errors import LedgerUnavailable, StateError, StateInUse
from aiorchd.store.opening import open_store

Opener = Callable[..., Any]


async def test_everything_in_it_is_private(opened: Opener, state_dir: Path) -> None:
    before = os.umask(0)
    try:
        async with opened() as store:
            store.answers.put(an_answer(1))
            store.records.record(a_record(1))
            await store.flush()
            names = {path.name for path in state_dir.iterdir()}
            assert names >= {"cache.db", "cache.db-wal", "metrics.db", "metrics.db-wal", "ledger.db", "aiorchd.lock"}
            for path in state_dir.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    finally:
        os.umask(before)


async def test_a_second_store_on_the_same_directory_is_refused_and_the_first_unharmed(opened: Opener) -> None:
    async with opened() as store:
        with pytest.raises(StateInUse, match="another aiorchd"):
            async with opened():
                raise AssertionError("opened twice")
        store.answers.put(an_answer(1))
        await store.flush()
        assert await store.answers.get(a_key(1)) is not None
    async with opened() as store:
        assert await store.answers.get(a_key(1)) is not None


async def test_a_ledger_that_cannot_be_opened_now_says_try_again(opened: Opener, state_dir: Path) -> None:
    async with opened():
        pass
    stranger = sqlite3.connect(state_dir / "ledger.db", isolation_level=None)
    stranger.execute("PRAGMA locking_mode = EXCLUSIVE")
    stranger.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerUnavailable, match="locked") as caught:
        async with opened():
            raise AssertionError("opened")
    assert caught.value.exit_code == 75
    stranger.close()
    async with opened():
        pass


async def test_a_cache_that_cannot_be_opened_now_is_opened_later(opened: Opener, state_dir: Path) -> None:
    async with opened():
        pass
    stranger = sqlite3.connect(state_dir / "cache.db", isolation_level=None)
    stranger.execute("PRAGMA locking_mode = EXCLUSIVE")
    stranger.execute("BEGIN EXCLUSIVE")
    async with opened() as store:
        assert store.statistics().files["cache"].state == "busy"
        store.answers.put(an_answer(1))
        assert await store.answers.get(a_key(1)) is not None
        assert await store.answers.get(a_key(2)) is None
        stranger.close()
        with trio.fail_after(10):
            while store.statistics().answers["queued"]:
                await store.flush()
                await trio.sleep(0.01)
        assert store.statistics().files["cache"].state == "ok"
        assert store.statistics().files["cache"].put_aside == ()


async def test_what_the_body_raises_comes_out_as_it_is(opened: Opener) -> None:
    with pytest.raises(ValueError, match="as it is"):
        async with opened() as store:
            store.answers.put(an_answer(1))
            raise ValueError("as it is")
    async with opened() as store:
        assert await store.answers.get(a_key(1)) is not None


async def test_cancelling_loses_nothing_and_closes_everything(opened: Opener, state_dir: Path) -> None:
    with trio.CancelScope() as scope:
        async with opened(flush_s=60.0) as store:
            await store.flush()
            store.answers.put(an_answer(1))
            store.records.record(a_record(1))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert sorted(path.name for path in state_dir.iterdir()) == ["aiorchd.lock", "cache.db", "ledger.db", "metrics.db"]
    async with opened() as store:
        assert await store.answers.get(a_key(1)) is not None
        assert await store.records.find("call-1") is not None
        assert store.ledger.previous is not None
        assert store.ledger.previous.stopped_at == NOON


async def test_it_reads_idle_when_all_is_done(opened: Opener) -> None:
    async with opened() as store:
        for number in range(100):
            store.answers.put(an_answer(number))
            store.records.record(a_record(number))
        store.records.record_hits([a_hit(1)])
        with trio.move_on_after(0):
            await store.answers.delete(uid=1)
        with trio.move_on_after(0):
            await store.ledger.change(lambda connection: None)
        await store.flush()
        await store.flush()
        told = store.statistics()
        assert (told.answers["queued"], told.answers["queued_bytes"], told.answers["deletions_pending"]) == (0, 0, 0)
        assert (told.records.queued, told.records.tallies, told.ledger.waiting) == (0, 0, 0)
        assert not told.writer.writing
        assert {name: file.state for name, file in told.files.items()} == {
            "cache": "ok",
            "metrics": "ok",
            "ledger": "ok",
        }


async def test_what_is_gathered_is_on_disk_within_a_second_by_itself(tmp_path: Path) -> None:
    async with open_store(tmp_path / "state", release="1.0", wall_clock=StandingClock()) as store:
        await store.flush()
        store.answers.put(an_answer(1))
        began = time.monotonic()
        while store.statistics().answers["queued"]:
            await trio.sleep(0.01)
        assert 0.1 < time.monotonic() - began < 1.0


def test_errors_of_the_start_end_in_an_exit_code_of_sysexits() -> None:
    def below(kind: type[StateError]) -> list[type[StateError]]:
        return [kind, *(one for sub in kind.__subclasses__() for one in below(sub))]

    assert {kind.__name__: kind.exit_code for kind in below(StateError)} == {
        "StateError": 78,
        "StateDirectoryUnusable": 77,
        "StateInUse": 75,
        "SchemaTooNew": 78,
        "LedgerDamaged": 78,
        "LedgerUnavailable": 75,
    }


def test_a_start_on_existing_files_does_not_import_sqlite_utils(tmp_path: Path) -> None:
    script = """
import sys, trio
from pathlib import Path
from aiorchd.store.opening import open_store

async def main():
    async with open_store(Path(sys.argv[1]), release="1.0") as store:
        await store.flush()
    print("sqlite_utils" in sys.modules)

trio.run(main)
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "state")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert told == ["True", "False"]
