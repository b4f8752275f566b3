"""The cache in memory: bounds always hold, freshness is exact, the least recently used goes first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiorchd.core.memory_cache import CLOCK_TOLERANCE_S, MemoryCache


def filled(*names: str, max_entries: int = 3, max_bytes: int = 1000, size_bytes: int = 10) -> MemoryCache[str]:
    cache: MemoryCache[str] = MemoryCache(max_entries, max_bytes)
    for name in names:
        assert cache.put(name.encode(), name, size_bytes=size_bytes, stored_at=0.0, expires_at=100.0)
    return cache


def test_what_was_put_is_found_until_it_expires() -> None:
    cache = filled("a")
    assert cache.get(b"a", 0.0) == "a"
    assert cache.get(b"a", 99.999) == "a"
    assert cache.get(b"a", 100.0) is None
    assert len(cache) == 0
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses, statistics.expired, statistics.bytes) == (2, 1, 1, 0)


def test_the_least_recently_used_goes_first() -> None:
    cache = filled("a", "b", "c")
    cache.get(b"a", 1.0)
    cache.put(b"d", "d", size_bytes=10, stored_at=1.0, expires_at=100.0)
    assert [cache.peek(key, 1.0) for key in (b"a", b"b", b"c", b"d")] == ["a", None, "c", "d"]
    assert cache.statistics().evictions == 1


def test_peek_is_no_use_and_counts_nothing() -> None:
    cache = filled("a", "b", "c")
    assert cache.peek(b"a", 1.0) == "a"
    assert cache.peek(b"z", 1.0) is None
    assert cache.peek(b"a", 100.0) is None
    cache.put(b"d", "d", size_bytes=10, stored_at=1.0, expires_at=100.0)
    assert cache.peek(b"a", 1.0) is None
    assert (cache.statistics().hits, cache.statistics().misses, cache.statistics().expired) == (0, 0, 0)


def test_recall_counts_hits_and_no_misses() -> None:
    cache = filled("a", "b", "c")
    assert cache.recall(b"a", 1.0) == "a"
    assert cache.recall(b"z", 1.0) is None
    assert (cache.statistics().hits, cache.statistics().misses) == (1, 0)
    cache.put(b"d", "d", size_bytes=10, stored_at=1.0, expires_at=100.0)
    assert cache.peek(b"a", 1.0) == "a"


def test_bytes_bound_too() -> None:
    cache = filled("a", "b", "c", max_entries=100, max_bytes=30)
    cache.put(b"d", "d", size_bytes=25, stored_at=1.0, expires_at=100.0)
    assert len(cache) == 1
    assert cache.statistics().bytes == 25


def test_what_is_heavier_than_the_cache_is_refused_and_pushes_nothing_out() -> None:
    cache = filled("a", "b", max_bytes=30)
    assert not cache.put(b"c", "c", size_bytes=31, stored_at=1.0, expires_at=100.0)
    assert len(cache) == 2
    assert cache.statistics().refused == 1
    assert not cache.put(b"a", "new", size_bytes=31, stored_at=1.0, expires_at=100.0)
    assert cache.peek(b"a", 1.0) is None  # the old value is out of date


def test_putting_again_replaces_and_weighs_once() -> None:
    cache = filled("a")
    cache.put(b"a", "new", size_bytes=7, stored_at=1.0, expires_at=5.0)
    assert cache.get(b"a", 2.0) == "new"
    assert cache.statistics().bytes == 7
    assert cache.get(b"a", 5.0) is None


def test_expired_entries_go_as_others_come_and_before_fresh_ones_must() -> None:
    cache: MemoryCache[int] = MemoryCache(10, 1000)
    for number in range(5):
        cache.put(b"old%d" % number, number, size_bytes=10, stored_at=0.0, expires_at=1.0)
    for number in range(3):
        cache.put(b"new%d" % number, number, size_bytes=10, stored_at=2.0, expires_at=100.0)
    assert cache.statistics().expired == 5
    assert cache.statistics().evictions == 0
    assert len(cache) == 3


def test_an_entry_from_the_future_has_expired() -> None:
    cache: MemoryCache[str] = MemoryCache(10, 1000)
    cache.put(b"a", "a", size_bytes=1, stored_at=10_000.0, expires_at=13_600.0)
    assert cache.get(b"a", 10_000.0 - CLOCK_TOLERANCE_S) == "a"
    assert cache.get(b"a", 10_000.0 - CLOCK_TOLERANCE_S - 0.1) is None


def test_reconfiguring_drops_what_no_longer_fits() -> None:
    cache = filled("a", "b", "c")
    cache.reconfigure(2, 1000)
    assert [cache.peek(key, 1.0) for key in (b"a", b"b", b"c")] == [None, "b", "c"]
    cache.reconfigure(2, 10)
    assert len(cache) == 1
    cache.reconfigure(0, 1000)
    assert len(cache) == 0
    assert not cache.put(b"a", "a", size_bytes=0, stored_at=0.0, expires_at=1.0)


def test_forgetting() -> None:
    cache = filled("a", "b", "c")
    assert cache.delete(b"a")
    assert not cache.delete(b"a")
    assert cache.delete_where(lambda value: value == "b") == [b"b"]
    assert cache.clear() == 1
    assert cache.statistics().bytes == 0


def test_the_epoch_moves_on_with_every_wish_to_forget_and_only_then() -> None:
    cache = filled("a", "b")
    cache.get(b"a", 1.0)
    cache.get(b"a", 100.0)
    cache.reconfigure(1, 10)
    assert cache.epoch == 0
    cache.delete(b"not there")
    cache.delete_where(lambda _: False)
    cache.clear()
    assert cache.epoch == 3


@pytest.mark.parametrize("bounds", [(-1, 0), (0, -1)])
def test_bounds_must_make_sense(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        MemoryCache(*bounds)
    with pytest.raises(ValueError, match="must not be negative"):
        filled().put(b"a", "a", size_bytes=-1, stored_at=0.0, expires_at=1.0)


KEYS = [b"a", b"b", b"c", b"d", b"e"]


class Model(RuleBasedStateMachine):
    """Against a plain list in order of use that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.rows: list[tuple[bytes, int, int, float, float]] = []
        self.serial = 0

    @initialize(entries=st.integers(0, 5), size=st.integers(0, 60))
    def begin(self, entries: int, size: int) -> None:
        self.cache: MemoryCache[int] = MemoryCache(entries, size)
        self.max_entries, self.max_bytes = entries, size

    def fresh(self, row: tuple[bytes, int, int, float, float]) -> bool:
        return row[3] - CLOCK_TOLERANCE_S <= self.now < row[4]

    def trim(self) -> None:
        while len(self.rows) > self.max_entries or sum(row[2] for row in self.rows) > self.max_bytes:
            del self.rows[0]

    @rule(key=st.sampled_from(KEYS), size=st.integers(0, 40), ttl=st.floats(0, 50))
    def put(self, key: bytes, size: int, ttl: float) -> None:
        self.serial += 1
        kept = self.cache.put(key, self.serial, size_bytes=size, stored_at=self.now, expires_at=self.now + ttl)
        self.rows = [row for row in self.rows if row[0] != key]
        for _ in range(2):
            if self.rows and not self.fresh(self.rows[0]):
                del self.rows[0]
            else:
                break
        assert kept == (size <= self.max_bytes and self.max_entries > 0)
        if kept:
            self.rows.append((key, self.serial, size, self.now, self.now + ttl))
            self.trim()

    @rule(key=st.sampled_from(KEYS), how=st.sampled_from(["get", "recall"]))
    def use(self, key: bytes, how: str) -> None:
        found = getattr(self.cache, how)(key, self.now)
        row = next((row for row in self.rows if row[0] == key), None)
        if row is None:
            assert found is None
        elif self.fresh(row):
            assert found == row[1]
            self.rows.remove(row)
            self.rows.append(row)
        else:
            assert found is None
            self.rows.remove(row)

    @rule(seconds=st.floats(-100, 100))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: bytes) -> None:
        assert self.cache.delete(key) == any(row[0] == key for row in self.rows)
        self.rows = [row for row in self.rows if row[0] != key]

    @rule(odd=st.booleans())
    def delete_some(self, odd: bool) -> None:
        gone = self.cache.delete_where(lambda value: value % 2 == odd)
        assert gone == [row[0] for row in self.rows if row[1] % 2 == odd]
        self.rows = [row for row in self.rows if row[1] % 2 != odd]

    @rule(entries=st.integers(0, 5), size=st.integers(0, 60))
    def reconfigure(self, entries: int, size: int) -> None:
        self.cache.reconfigure(entries, size)
        self.max_entries, self.max_bytes = entries, size
        self.trim()

    @precondition(lambda self: hasattr(self, "cache"))
    @invariant()
    def agrees(self) -> None:
        statistics = self.cache.statistics()
        assert statistics.entries == len(self.cache) == len(self.rows) <= self.max_entries
        assert statistics.bytes == sum(row[2] for row in self.rows) <= self.max_bytes
        for key in KEYS:
            expected = next((row[1] for row in self.rows if row[0] == key and self.fresh(row)), None)
            assert self.cache.peek(key, self.now) == expected


TestModel: Any = Model.TestCase


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 20)), max_size=30))
def test_counts_add_up(puts: list[tuple[bytes, int]]) -> None:
    cache: MemoryCache[int] = MemoryCache(3, 50)
    replaced = 0
    for number, (key, size) in enumerate(puts):
        replaced += cache.peek(key, 0.0) is not None
        cache.put(key, number, size_bytes=size, stored_at=0.0, expires_at=1.0)
    assert len(puts) == len(cache) + cache.statistics().evictions + replaced
