"""Damaged files, one after the other: serving goes on or the start is refused in one clear line; nothing is ever deleted,
and no answer is ever wrong."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from damaging import (
    a_broken_log,
    a_folder,
    cut_short,
    exchange_pages,
    flip_bits,
    foreign,
    garbage,
    lost_tables,
    only_a_journal,
    zero_pages,
)
from store_values import StandingClock, a_hit, a_key, a_record, an_answer

from aiorchd.store.errors import LedgerDamaged, SchemaTooNew
from aiorchd.store.opening import Store, open_store

Opener = Callable[..., Any]
FILES = ("cache.db", "metrics.db", "ledger.db")
ANSWERS = 300


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with something in every file."""
    folder = tmp_path_factory.mktemp("made") / "state"

    async def make() -> None:
        async with open_store(folder, release="1.0", wall_clock=StandingClock()) as store:
            for number in range(ANSWERS):
                store.answers.put(an_answer(number, tags=("a",)))
                store.records.record(a_record(number))
            store.records.record_hits(a_hit(number) for number in range(50))

    trio.run(make)
    return folder


@pytest.fixture
def damaged(made: Path, state_dir: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(made, state_dir)
    return state_dir


DAMAGES = (
    flip_bits,
    cut_short,
    zero_pages,
    garbage,
    exchange_pages,
    foreign,
    lost_tables,
    a_folder,
    only_a_journal,
    a_broken_log,
)


def contents(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "aiorchd.lock")


async def use(store: Store) -> int:
    """Do everything once; every answer that comes must be right. Returns how many came."""
    found = 0
    for number in range(ANSWERS):
        answer = await store.answers.get(a_key(number))
        if answer is not None:
            assert (answer.body, answer.uid) == (f"answer {number}".encode(), 1000)
            found += 1
    await store.flush()
    await store.flush()
    store.answers.put(an_answer(5000))
    store.records.record(a_record(5000))
    store.answers.touch([a_key(number) for number in range(ANSWERS)])
    await store.flush()
    await store.flush()
    return found


async def works(store: Store) -> None:
    """Whatever was damaged, new things are kept from now on."""
    with trio.fail_after(10):
        while store.statistics().answers["queued"] or store.records.statistics().queued:
            await store.flush()
            await trio.sleep(0.01)
    await store.answers.delete(keys=[a_key(6000)])
    store.answers.put(an_answer(6000))
    store.records.record(a_record(6000))
    await store.flush()
    assert (await store.answers.get(a_key(6000))) == an_answer(6000)
    assert (await store.records.find("call-6000")) is not None


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FILES)
async def test_a_damaged_file(
    opened: Opener, damaged: Path, name: str, damage: Callable[[Path, int], None], seed: int
) -> None:
    damage(damaged / name, seed)
    before = contents(damaged)
    if name == "ledger.db":
        try:
            async with opened() as store:
                # What SQLite itself does not see is not damage: a flipped bit in an unused byte, a log that is not its own.
                assert damage in (flip_bits, exchange_pages, zero_pages, a_broken_log, cut_short)
                found = await store.ledger.ask(
                    lambda connection: connection.execute("PRAGMA integrity_check").fetchall()
                )
                assert found == [("ok",)]
                assert store.ledger.previous is not None
                assert store.ledger.statistics().instance_id
        except LedgerDamaged as error:
            assert error.exit_code == 78
            assert str(error).count("\n") == 0
            assert "ledger.db is damaged (" in str(error)
            assert "is not replaced" in str(error)
            assert contents(damaged) == before  # nothing was touched
        return
    async with opened() as store:
        await use(store)
        await works(store)
        put_aside = store.statistics().files[name.removesuffix(".db")].put_aside
        assert {file: len(told.put_aside) for file, told in store.statistics().files.items() if file not in name} == {
            other: 0 for other in ("cache", "metrics", "ledger") if other not in name
        }
    if damage in (garbage, foreign, lost_tables, a_folder, only_a_journal):
        assert len(put_aside) == 1
    for kept in put_aside:
        assert kept.startswith(f"{name}.damaged-")
    if damage in (garbage, foreign, only_a_journal):
        assert [raw for raw in before if raw in contents(damaged)].count(before[0]) or put_aside
        assert any(raw in before for raw in contents(damaged))
    async with opened() as store:  # and it does not come back
        assert await store.answers.get(a_key(6000)) == an_answer(6000)
        await works(store)
        assert all(not file.put_aside for file in store.statistics().files.values())


@pytest.mark.parametrize("damage", [flip_bits, cut_short, zero_pages, garbage], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FILES)
async def test_a_damaged_log_of_a_process_that_was_killed(
    opened: Opener, tmp_path: Path, state_dir: Path, name: str, damage: Callable[[Path, int], None], seed: int
) -> None:
    async with open_store(tmp_path / "first", release="1.0", wall_clock=StandingClock(), flush_s=0.01) as store:
        for number in range(ANSWERS):
            store.answers.put(an_answer(number))
            store.records.record(a_record(number))
        await store.flush()
        await store.ledger.change(lambda connection: connection.execute("INSERT INTO meta VALUES ('a', 'b')").rowcount)
        shutil.copytree(
            tmp_path / "first", state_dir
        )  # as a killed process leaves it, with logs that are not folded in
    assert (state_dir / f"{name}-wal").stat().st_size > 0
    damage(state_dir / f"{name}-wal", seed)
    async with opened() as store:  # SQLite takes from a log what is whole, up to the damage
        await use(store)
        await works(store)
        assert all(not file.put_aside for file in store.statistics().files.values())
    for file in FILES:
        connection = sqlite3.connect(state_dir / file)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


async def test_what_is_put_aside_is_the_very_file(opened: Opener, damaged: Path) -> None:
    garbage(damaged / "cache.db", 1)
    raw = (damaged / "cache.db").read_bytes()
    async with opened() as store:
        (kept,) = store.statistics().files["cache"].put_aside
    assert (damaged / kept).read_bytes() == raw


@pytest.mark.parametrize("name", FILES)
async def test_a_newer_file_is_refused_whole(opened: Opener, damaged: Path, name: str) -> None:
    connection = sqlite3.connect(damaged / name)
    with connection:
        connection.execute("PRAGMA user_version = 50")
    connection.close()
    # The other files would be put aside or begun anew; but first all are looked at, and then none is touched.
    other = damaged / ("metrics.db" if name == "cache.db" else "cache.db")
    garbage(other, 1)
    before = contents(damaged)
    with pytest.raises(SchemaTooNew, match=rf"{name} has schema 50") as caught:
        async with opened():
            raise AssertionError("opened")
    assert caught.value.exit_code == 78
    assert contents(damaged) == before


async def test_a_missing_ledger_is_begun_and_not_in_silence(
    opened: Opener, damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (damaged / "ledger.db").unlink()
    async with opened() as store:
        assert store.ledger.previous is None
    assert "the ledger is missing where other state is" in caplog.text


async def test_damage_that_comes_while_running(
    opened: Opener, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as store:
        for number in range(ANSWERS):
            store.answers.put(an_answer(number))
        await store.flush()
        connection = sqlite3.connect(state_dir / "cache.db")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        raw = bytearray((state_dir / "cache.db").read_bytes())
        raw[4096:] = b"\xff" * (len(raw) - 4096)
        (state_dir / "cache.db").write_bytes(raw)
        store.answers.file._reader = None  # its pages are in memory; a new connection sees the disk
        store.answers.file._close_writer()
        for number in range(ANSWERS):
            answer = await store.answers.get(a_key(number))
            assert answer is None or answer == an_answer(number)
        await works(store)
        assert len(store.statistics().files["cache"].put_aside) == 1
        assert store.statistics().files["cache"].state == "ok"
    assert "damaged file put aside" in caplog.text


async def test_a_file_that_somebody_removes_while_running(opened: Opener, state_dir: Path) -> None:
    async with opened() as store:
        store.answers.put(an_answer(1))
        store.records.record(a_record(1))
        await store.flush()
        (state_dir / "cache.db").unlink()
        (state_dir / "metrics.db").unlink()
        store.answers.put(an_answer(2))
        store.records.record(a_record(2))
        await works(store)
        assert await store.answers.get(a_key(2)) == an_answer(2)
        assert await store.records.find("call-2") is not None
    assert (state_dir / "cache.db").exists()


async def test_a_directory_that_vanishes_again_and_again_is_used_when_it_is_there(
    opened: Opener, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as store:
        for number in range(3):
            shutil.rmtree(state_dir)
            store.answers.put(an_answer(number))
            store.records.record(a_record(number))
            await store.flush()
            await store.flush()
            assert store.statistics().files["cache"].state != "ok"
            assert await store.answers.get(a_key(number)) == an_answer(number)  # served from what waits
            state_dir.mkdir(mode=0o700)
            await works(store)
            assert store.statistics().files["cache"].state == store.statistics().files["metrics"].state == "ok"
        assert store.statistics().files["cache"].put_aside == ()
        assert not (state_dir / "ledger.db").exists()
    assert "put aside" not in caplog.text


async def test_a_ledger_that_somebody_removes_while_running_takes_nothing_more(opened: Opener, state_dir: Path) -> None:
    from aiorch.errors import StorageError

    async with opened() as store:
        assert store.statistics().files["ledger"].state == "ok"
        (state_dir / "ledger.db").unlink()
        assert store.statistics().files["ledger"].state == "damaged"  # told before anybody needs it
        with pytest.raises(StorageError, match="removed or exchanged"):
            await store.ledger.change(lambda connection: None)
        assert store.statistics().files["ledger"].state == "damaged"
        store.answers.put(an_answer(1))  # everything else goes on
        await store.flush()
        assert store.statistics().answers["written"] == 1
    assert not (state_dir / "ledger.db").exists()  # and nobody made an empty one


async def test_a_ledger_that_went_away_during_a_fault_is_not_begun_anew(opened: Opener, state_dir: Path) -> None:
    from aiorch.errors import StorageError

    away = state_dir.with_name("away")
    async with opened() as store:
        store.ledger.file._close_writer()  # as after an I/O error
        state_dir.rename(away)  # as when its disk is gone, and what it was mounted on is there again
        state_dir.mkdir()
        with pytest.raises(StorageError, match="removed or exchanged"):
            await store.ledger.change(lambda connection: None)
        assert not (state_dir / "ledger.db").exists()
        state_dir.rename(state_dir.with_name("empty"))
        away.rename(state_dir)
        await store.ledger.change(lambda connection: None)
        assert store.statistics().files["ledger"].state == "ok"


@pytest.mark.parametrize("name", FILES)
async def test_a_strangers_file_beside_our_log_is_kept_as_it_is(
    opened: Opener, tmp_path: Path, state_dir: Path, name: str
) -> None:
    async with open_store(tmp_path / "first", release="1.0", wall_clock=StandingClock(), flush_s=0.01) as store:
        for number in range(ANSWERS):
            store.answers.put(an_answer(number))
            store.records.record(a_record(number))
        await store.flush()
        shutil.copytree(tmp_path / "first", state_dir)
    foreign(state_dir / name, 1)  # its log stays: SQLite would fold it into what is there now
    before = contents(state_dir)
    raw = (state_dir / name).read_bytes()
    if name == "ledger.db":
        with pytest.raises(LedgerDamaged):
            async with opened():
                raise AssertionError("opened")
        assert [each for each in before if len(each) != 32768] == [
            each for each in contents(state_dir) if len(each) != 32768
        ]
        return
    async with opened() as store:
        (kept,) = store.statistics().files[name.removesuffix(".db")].put_aside
    assert (state_dir / kept).read_bytes() == raw
