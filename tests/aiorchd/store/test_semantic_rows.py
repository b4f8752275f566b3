"""The semantic cache's rows: written, counted, deleted, bounded, and there again after a restart."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from store_values import StandingClock

from aiorchd.calls.ports import SemanticEntry
from aiorchd.store.opening import Store, open_store
from aiorchd.store.semantic_rows import SemanticBatch


def an_entry(number: int) -> SemanticEntry:
    return SemanticEntry(bytes([number]), b"scope", b"v" * 8, b"sketch", b"mark", f"c{number}", 1000)


def opened(folder: Path, **options: int):
    return open_store(folder, release="1", wall_clock=StandingClock(), flush_s=0.0, **options)


async def read(store: Store):
    entries, further = await store.semantic.load(0)
    assert further is None
    return entries, await store.semantic.load_state()


async def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(4):
            store.semantic.put(an_entry(number))
        await store.flush()
        store.semantic.recount(bytes([1]), 7, 2)
        store.semantic.delete([bytes([0])])
        store.semantic.put(replace(an_entry(2), mark=b"other"))
        store.semantic.keep_state(b"learned")
    async with opened(tmp_path) as store:
        entries, state = await read(store)
        assert state == b"learned"
        assert {entry.key: (entry.right, entry.wrong, entry.mark) for entry in entries} == {
            bytes([1]): (7, 2, b"mark"),
            bytes([2]): (0, 0, b"other"),
            bytes([3]): (0, 0, b"mark"),
        }


async def test_deleted_and_put_again_in_one_round_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.semantic.put(an_entry(1))
        await store.flush()
        store.semantic.delete([bytes([1])])
        store.semantic.put(replace(an_entry(1), mark=b"new"))
        await store.flush()
        entries, _ = await read(store)
        assert [entry.mark for entry in entries] == [b"new"]


async def test_forgetting_everything_forgets_these_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        store.semantic.put(an_entry(1))
        await store.flush()
        await store.answers.delete(everything=True)
        entries, _ = await read(store)
        assert list(entries) == []


async def test_the_oldest_beyond_the_bound_go(tmp_path: Path) -> None:
    async with opened(tmp_path, semantic_entries=2) as store:
        for number in range(5):
            store.semantic.put(an_entry(number))
        await store.flush()
        store.semantic.reconfigure(2)
        for _ in range(3):
            await store.flush()
        entries, _ = await read(store)
        assert [entry.key for entry in entries] == [bytes([3]), bytes([4])]


async def test_they_are_counted_now_and_then_and_the_bound_is_held_all_the_same(tmp_path: Path) -> None:
    counted: list[str] = []
    async with opened(tmp_path, semantic_entries=640) as store:
        rows = store.semantic

        def round_of(connection: sqlite3.Connection, entries: int, start: int) -> int:
            work = SemanticBatch((), tuple(many(start, entries)), None, ())
            rows.write(connection, work)
            connection.set_trace_callback(
                lambda statement: counted.append(statement) if "count(*)" in statement else None
            )
            while rows.tidy(connection):
                pass
            connection.set_trace_callback(None)
            return int(connection.execute("SELECT count(*) FROM semantic_entries").fetchone()[0])

        def many(start: int, entries: int) -> list[SemanticEntry]:
            return [replace(an_entry(0), key=number.to_bytes(2)) for number in range(start, start + entries)]

        kept = [rows.file.transact(partial(round_of, entries=5, start=5 * number)) for number in range(200)]
        rows.reconfigure(100)
        lowered = rows.file.transact(partial(round_of, entries=0, start=0))
    assert kept[:128] == [5 * (number + 1) for number in range(128)]
    assert max(kept) <= 640 + 640 // 64 + 5
    assert lowered == 100
    assert 5 < len(counted) < 40  # of 201 rounds


async def test_many_are_read_in_parts(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(450):
            store.semantic.put(replace(an_entry(0), key=number.to_bytes(2)))
        await store.flush()
        found: list[bytes] = []
        place: int | None = 0
        parts = 0
        while place is not None:
            entries, place = await store.semantic.load(place)
            found += [entry.key for entry in entries]
            parts += 1
        assert found == [number.to_bytes(2) for number in range(450)]
        assert parts == 5
