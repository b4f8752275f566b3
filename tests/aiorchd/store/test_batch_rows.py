"""How large batches may be is there again after a restart, bounded, and a disk that fails costs nothing but that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from store_values import StandingClock

from aiorchd.store import batch_rows
from aiorchd.store.errors import FaultKind, FileFault
from aiorchd.store.opening import open_store


class Woken:
    def wake(self, *, hurry: bool = False) -> None: ...

    def tidy_soon(self) -> None: ...


def opened(folder: Path):
    return open_store(folder, release="1", wall_clock=StandingClock(), flush_s=0.0)


async def test_the_newest_state_of_each_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert list(await store.batches.load()) == []
        store.batches.keep("tag", "small", b"1")
        store.batches.keep("sort", "", b"2")
        await store.flush()
        store.batches.keep("tag", "small", b"3")
    async with opened(tmp_path) as store:
        assert list(await store.batches.load()) == [("sort", "", b"2"), ("tag", "small", b"3")]


async def test_what_changed_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_rows, "MOST_ROWS", 3)
    async with opened(tmp_path) as store:
        for number in range(5):
            store.batches.keep("tag", f"model {number}", b"1")
            await store.flush()
        store.batches.keep("tag", "model 0", b"2")
    async with opened(tmp_path) as store:
        await store.flush()
        kept = [model for _, model, _ in await store.batches.load()]
        assert kept[-1] == "model 0"
        assert len(kept) <= 3
        # More than that are not even gathered.
        for number in range(9):
            store.batches.keep("sort", f"model {number}", b"1")
        work = store.batches.collect()
        assert work is not None
        assert len(work.states) == 3


async def test_a_disk_that_cannot_be_read_has_nothing() -> None:
    class Failing:
        async def read(self, work: Any, *, timeout_s: float) -> Any:
            raise FileFault(FaultKind.UNAVAILABLE, "no such device")

    assert list(await batch_rows.BatchRows(Failing(), writer=Woken()).load()) == []  # type: ignore[arg-type]


def test_what_could_not_be_written_is_written_later_unless_it_is_out_of_date() -> None:
    rows = batch_rows.BatchRows(None, writer=Woken())  # type: ignore[arg-type]
    rows.keep("tag", "a", b"1")
    rows.keep("tag", "b", b"1")
    first = rows.collect()
    assert first is not None
    assert rows.collect() is None
    rows.keep("tag", "b", b"2")
    rows.failed(first, None)  # type: ignore[arg-type]
    again = rows.collect()
    assert again is not None
    assert sorted(again.states) == [("tag", "a", b"1"), ("tag", "b", b"2")]
