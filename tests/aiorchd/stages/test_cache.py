"""Cache: what is known is answered, what is worth keeping is kept, nobody gets what is not his or out of date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack
import pytest
import trio
from harness import (
    InnerService,
    RecordedSink,
    a_call,
    a_caller,
    a_reply,
    a_usage,
    ask,
    cancel_at_every_checkpoint,
)
from hypothesis import given
from hypothesis import strategies as st
from kept_log import KeptLog
from msgspec import structs
from msgspec.structs import replace

from aiorch.errors import NotFound, ProviderError
from aiorchd.calls.answer import fixed_fields, from_body, own_fields, to_body
from aiorchd.calls.call import Call
from aiorchd.calls.kept import Kept
from aiorchd.calls.ports import StoredAnswer
from aiorchd.calls.replay import pieces
from aiorchd.calls.reply import Reply
from aiorchd.core.memory_cache import MemoryCache
from aiorchd.core.s3_fifo import S3FifoCache
from aiorchd.runtime.crew import Crew
from aiorchd.stages.cache import MAX_TTL_S, Cache, Wanted
from aiorchd.stages.coalesce import Coalesce
from aiorchd.stages.relay import Relay

KEY = b"\x01key"


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Disk:
    """The disk tier, played by hand: a dict whose reads can be held up."""

    def __init__(self) -> None:
        self.rows: dict[bytes, StoredAnswer] = {}
        self.puts: list[StoredAnswer] = []
        self.touched: list[bytes] = []
        self.hold: trio.Event | None = None
        self.reads = 0

    def absent(self, key: bytes) -> bool:
        return False  # nothing is sure without looking

    def likely(self, key: bytes) -> bool:
        return key in self.rows

    def look(self, key: bytes) -> StoredAnswer | None:
        self.reads += 1
        return self.rows.get(key)

    async def get(self, key: bytes) -> StoredAnswer | None:
        self.reads += 1
        found = self.rows.get(key)
        if self.hold is not None:
            await self.hold.wait()
        else:
            await trio.lowlevel.checkpoint()
        return found

    def put(self, answer: StoredAnswer) -> None:
        self.puts.append(answer)
        self.rows[answer.key] = answer

    def drop(self, key: bytes) -> None:
        self.rows.pop(key, None)

    def touch(self, keys: Iterable[bytes]) -> None:
        self.touched.extend(keys)

    async def delete(
        self,
        *,
        uid: int | None = None,
        keys: Sequence[bytes] | None = None,
        source_id: str | None = None,
        tag: str | None = None,
        everything: bool = False,
    ) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        gone = [
            key
            for key, row in self.rows.items()
            if (uid is None or row.uid == uid)
            and (keys is None or key in keys)
            and (source_id is None or row.source_id == source_id)
            and (tag is None or tag in row.tags)
        ]
        for key in gone:
            del self.rows[key]
        return gone

    async def some_stored_at(self) -> list[float]:
        return [row.stored_at for row in self.rows.values()]

    def statistics(self) -> Mapping[str, Any]:
        return {"entries": len(self.rows)}


class House:
    """A cache stage with its tiers and clock, over a hand-played inner service."""

    def __init__(self, strategy: Any = "hybrid", ttl_s: float = 3600.0, inner: Any = None) -> None:
        self.clock = Clock()
        self.memory: MemoryCache[Kept] = S3FifoCache(100, 10_000_000)
        self.disk = Disk()
        self.inner: InnerService[Any] = inner if inner is not None else InnerService()
        self.cache = self.rebuilt(strategy, ttl_s)

    def rebuilt(self, strategy: Any = "hybrid", ttl_s: float = 3600.0, **fields: Any) -> Cache:
        return Cache(
            self.inner,
            strategy=strategy,
            memory=self.memory,
            store=self.disk,
            wall_clock=self.clock,
            ttl_s=ttl_s,
            **fields,
        )

    async def ask(self, **fields: Any) -> Reply:
        return await self.cache(asking(**fields))

    async def knows(self, **fields: Any) -> bool:
        """Whether an answer would be found; asks nobody."""
        try:
            await self.ask(**{"cache": "only", **fields})
        except NotFound:
            return False
        return True


def asking(**fields: Any) -> Call:
    return a_call(**{"key": KEY, **fields})


@pytest.fixture
def house() -> House:
    made = House()
    made.inner.answer = lambda call: a_reply(
        text=f"from {call.id}", cost_usd=0.5, attempts=2, queue_s=1.0, provider_s=2.0
    )
    return made


# --- hits ----------------------------------------------------------------------------------------------------------------


async def test_the_second_is_a_hit(house: House) -> None:
    first = await house.ask(id="c1")
    assert first.cache == "miss"
    house.clock.now += 30
    second = await house.ask(id="c2")
    assert second == structs.replace(
        first,
        cache="exact",
        saved_usd=0.5,
        source_id="c1",
        age_s=30.0,
        saved_s=2.0,
        attempts=0,
        queue_s=0.0,
        provider_s=0.0,
    )
    assert house.inner.asked == 1
    statistics = house.cache.statistics()
    assert statistics.memory is not None
    assert (statistics.memory.hits, statistics.memory.misses, statistics.kept, statistics.busy) == (1, 1, 1, 0)
    assert statistics.disk == {"entries": 1}


async def test_other_keys_are_other_questions(house: House) -> None:
    await house.ask()
    await house.ask(key=b"\x01other")
    assert house.inner.asked == 2


async def test_a_hit_tells_its_story(house: House) -> None:
    await house.ask(id="c1")
    house.clock.now += 12
    call = asking()
    await house.cache(call)
    assert [note[1:] for note in call.journal.notes] == [("cache", "answered with what the call c1 brought 12 s ago")]


async def test_an_answer_of_unknown_price_saved_an_unknown_sum(house: House) -> None:
    house.inner.answer = lambda _: a_reply(cost_usd=None)
    await house.ask()
    assert (await house.ask()).saved_usd is None


async def test_errors_are_not_kept(house: House) -> None:
    house.inner.answer = lambda _: ProviderError("broken")
    for _ in range(2):
        with pytest.raises(ProviderError):
            await house.ask()
    assert house.inner.asked == 2
    assert len(house.memory) == 0


async def test_it_survives_the_stage(house: House) -> None:
    await house.ask()
    house.cache = house.rebuilt(ttl_s=1)
    assert (await house.ask()).cache == "exact"


async def test_a_clock_that_is_set_back(house: House) -> None:
    await house.ask()
    house.clock.now -= 30
    assert (await house.ask()).age_s == 0.0
    house.clock.now -= 3600
    assert (await house.ask()).cache == "miss"  # neither tier trusts an answer from the future


# --- peeking -------------------------------------------------------------------------------------------------------------


async def test_peeking_finds_what_is_in_memory_and_counts_hits_only(house: House) -> None:
    assert house.cache.peek_fresh(KEY, house.clock.now) is None
    await house.ask(id="c1", tags=("a",), partition="p", caller=a_caller(7))
    kept = house.cache.peek_fresh(KEY, house.clock.now)
    assert kept is not None
    assert (kept.source_id, kept.tags, kept.partition, kept.uid) == ("c1", ("a",), "p", 7)
    assert (kept.stored_at, kept.expires_at) == (house.clock.now, house.clock.now + 3600)
    assert house.cache.peek_fresh(KEY, house.clock.now + 3600) is None
    statistics = house.memory.statistics()
    assert (statistics.hits, statistics.misses) == (1, 1)


def spliced(kept: Kept, more: dict[str, Any]) -> dict[str, Any]:
    """What the door makes of a hit: the kept start, which ends with the name of its id, and what is its own."""
    (_, call_id), *others = more.items()
    body = kept.packed_start + msgpack.packb(call_id)
    for name, value in others:
        body += msgpack.packb(name) + msgpack.packb(value)
    whole: dict[str, Any] = msgpack.unpackb(body)
    return whole


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    text=st.text(min_size=1),
    data=plain,
    tool_calls=st.lists(st.dictionaries(st.text(), plain, max_size=2), max_size=2).map(tuple),
    extra=st.none() | st.dictionaries(st.text(), plain, min_size=1, max_size=2),
    cost_usd=st.none() | st.floats(0, 10),
    usage=st.none() | st.just(a_usage()),
)
def test_a_spliced_hit_is_what_the_stage_would_have_answered(**fields: Any) -> None:
    house = House()
    house.inner.answer = lambda _: a_reply(**fields)

    async def main() -> None:
        await house.ask(id="c1")
        kept = house.cache.peek_fresh(KEY, house.clock.now)
        assert kept is not None
        reply = await house.ask()
        assert spliced(kept, {"id": "c2", "timing": {}}) == {
            **fixed_fields(reply),
            **own_fields(reply),
            "id": "c2",
            "timing": {},
        }
        assert own_fields(reply) == {
            "cost_usd": 0.0,
            "saved_usd": fields["cost_usd"],
            "cache": "exact",
            "batched": False,
            "attempts": 0,
        }

    trio.run(main)


async def test_what_a_hit_needs_is_made_when_the_first_one_comes(house: House) -> None:
    await house.ask(id="c1")
    kept = house.memory.peek(KEY, house.clock.now)
    assert kept is not None
    assert (kept.packed_start, kept.reply.cache) == (b"", "miss")
    told = house.disk.touched.copy()
    assert house.cache.peek_fresh(KEY, house.clock.now) is kept
    packed = kept.packed_start
    assert (kept.reply.cache, kept.reply.source_id, packed[-3:]) == ("exact", "c1", b"\xa2id")
    assert house.cache.peek_fresh(KEY, house.clock.now) is kept
    assert kept.packed_start is packed
    assert house.disk.touched == told  # it has just been put there


async def test_a_text_that_no_wire_carries_is_not_kept(house: House) -> None:
    house.inner.answer = lambda _: a_reply(text="\ud83d")
    await house.ask()
    assert house.memory.peek(KEY, house.clock.now) is None
    assert house.cache.statistics().not_kept == 1


async def test_embeddings_are_kept_without_packed_form(house: House) -> None:
    house.inner.answer = lambda _: Reply(vectors=(b"\x00" * 4096, b"\x01" * 4096), model="embedder", provider="main")
    await house.ask(kind="embed")
    kept = house.cache.peek_fresh(KEY, house.clock.now)
    assert kept is not None
    assert kept.packed_start == b""
    assert kept.size_bytes > 8192
    house.memory.clear()
    assert (await house.ask(kind="embed")).vectors == (b"\x00" * 4096, b"\x01" * 4096)


async def test_what_an_answer_weighs_is_not_understated(house: House) -> None:
    import sys

    def weight(value: Any) -> int:
        if isinstance(value, dict):
            return sys.getsizeof(value) + sum(weight(k) + weight(v) for k, v in value.items())
        if isinstance(value, list | tuple):
            return sys.getsizeof(value) + sum(map(weight, value))
        return sys.getsizeof(value)

    for fields in (
        {"text": "short"},
        {"text": "long " * 10_000},
        {"data": {f"k{number}": [number + 1000, f"v{number}"] for number in range(1000)}},
        {"tool_calls": tuple({"id": f"c{n}", "function": {"name": "f", "arguments": "{}"}} for n in range(50))},
    ):
        house.memory.clear()
        house.inner.answer = lambda _, fields=fields: a_reply(**fields)
        await house.ask(cache="refresh")
        kept = house.cache.peek_fresh(KEY, house.clock.now)
        assert kept is not None
        actual = weight([kept.packed_start, kept.reply.text, kept.reply.data, kept.reply.tool_calls, kept.reply.extra])
        assert kept.size_bytes >= actual
        assert kept.size_bytes <= 4 * actual + 3000


# --- modes ---------------------------------------------------------------------------------------------------------------


async def test_refresh_asks_anew_and_replaces(house: House) -> None:
    await house.ask(id="c1")
    assert (await house.ask(id="c2", cache="refresh")).cache == "miss"
    assert (await house.ask()).source_id == "c2"
    assert house.disk.rows[KEY].source_id == "c2"


async def test_bypass_neither_looks_nor_keeps(house: House) -> None:
    await house.ask(cache="bypass")
    assert len(house.memory) == 0
    assert not house.disk.puts
    await house.ask(id="c1")
    assert (await house.ask(cache="bypass")).cache == "miss"
    assert (await house.ask()).source_id == "c1"


async def test_only_asks_nobody(house: House) -> None:
    with pytest.raises(NotFound, match='"only" was asked for, and there is no kept answer') as caught:
        await house.ask(cache="only")
    assert caught.value.stage == "cache"
    assert house.inner.asked == 0
    await house.ask()
    assert (await house.ask(cache="only")).cache == "exact"


async def test_without_a_key_nothing_is_looked_up_or_kept(house: House) -> None:
    for _ in range(2):
        assert (await house.ask(key=None)).cache == "miss"
    assert len(house.memory) == 0
    assert not house.disk.puts
    with pytest.raises(NotFound, match="are not kept"):
        await house.ask(key=None, cache="only")


# --- lifetimes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["memory", "disk", "hybrid"])
async def test_an_answer_lives_as_long_as_it_should(house: House, strategy: str) -> None:
    house.cache = house.rebuilt(strategy, ttl_s=100)
    await house.ask()
    house.clock.now += 99.9
    assert (await house.ask()).cache == "exact"
    house.clock.now += 0.1
    assert (await house.ask()).cache == "miss"


async def test_a_call_may_say_how_long(house: House) -> None:
    await house.ask(cache_ttl_s=10.0)
    house.clock.now += 10
    assert (await house.ask(cache_ttl_s=1e300)).cache == "miss"
    assert house.disk.rows[KEY].expires_at == house.clock.now + MAX_TTL_S


async def test_lifetime_0_keeps_nothing(house: House) -> None:
    await house.ask(cache_ttl_s=0.0)
    assert not await house.knows()
    house.cache = house.rebuilt(ttl_s=0)
    await house.ask()
    assert not await house.knows()
    await house.ask(cache_ttl_s=5)
    assert await house.knows()
    assert house.cache.statistics().not_kept == 1


# --- what is worth keeping -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"finish_reason": "stop"}, True),
        ({"finish_reason": None}, True),
        ({"finish_reason": "length"}, True),
        ({"finish_reason": "tool_calls", "text": "", "tool_calls": ({"id": "1"},)}, True),
        ({"finish_reason": "content_filter"}, False),
        ({"finish_reason": "error"}, False),
        ({"finish_reason": "a reason of tomorrow"}, False),
        ({"text": ""}, False),
        ({"text": "", "vectors": (b"\x00\x00\x00\x00",)}, True),
        ({"validation": {"schema": True, "ok": True}}, True),
        ({"validation": {"schema": True, "ok": False}}, False),
        ({"text": "half a pair \ud83d"}, False),
        ({"data": {"a": 2**64}}, False),
        ({"extra": {"a": object()}}, False),
        ({"cache": "stale"}, False),
        ({"cache": "semantic"}, False),
    ],
    ids=str,
)
async def test_what_is_kept(house: House, fields: dict[str, Any], kept: bool) -> None:
    house.inner.answer = lambda _: a_reply(**fields)
    await house.ask()
    assert await house.knows() is kept
    assert len(house.disk.puts) == kept
    house.memory.clear()
    assert await house.knows() is kept
    statistics = house.cache.statistics()
    unfit = not kept and "cache" not in fields  # what was given from below is kept there
    assert (statistics.kept, statistics.not_kept) == (int(kept), int(unfit))


async def test_simulated_answers_never_reach_the_disk(house: House) -> None:
    house.inner.answer = lambda _: a_reply(simulated=True)
    await house.ask()
    assert (await house.ask()).simulated
    assert not house.disk.puts


async def test_what_is_too_heavy_for_memory_is_kept_on_disk(house: House) -> None:
    house.memory.reconfigure(100, 2000)
    house.inner.answer = lambda _: a_reply(text="x" * 10_000)
    await house.ask()
    assert len(house.memory) == 0
    assert (await house.ask()).cache == "exact"


# --- strategies and the disk -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "in_memory", "on_disk"),
    [("memory", True, False), ("disk", False, True), ("hybrid", True, True), ("off", False, False)],
)
async def test_strategies(house: House, strategy: str, in_memory: bool, on_disk: bool) -> None:
    house.cache = house.rebuilt(strategy)
    await house.ask()
    assert len(house.memory) == in_memory
    assert bool(house.disk.puts) is on_disk
    assert (house.cache.peek_fresh(KEY, house.clock.now) is not None) is in_memory
    assert await house.knows() is (strategy != "off")
    statistics = house.cache.statistics()
    assert (statistics.memory is not None, statistics.disk is not None) == (in_memory, on_disk)
    assert statistics.strategy == strategy


async def test_only_with_the_cache_off_says_so(house: House) -> None:
    house.cache = house.rebuilt("off")
    with pytest.raises(NotFound, match="the cache is off"):
        await house.ask(cache="only")


async def test_the_disk_answers_after_a_restart_and_memory_after_that(house: House) -> None:
    house.inner.answer = lambda _: a_reply(
        text="whole", data={"a": [1]}, tool_calls=({"id": "1"},), extra={"x": "y"}, validation={"ok": True}
    )
    fresh = await house.ask(id="c1", tags=("a",))
    house.memory.clear()
    house.clock.now += 60
    call = asking()
    reply = await house.cache(call)
    assert reply == structs.replace(
        fresh, cache="exact", saved_usd=0.001, source_id="c1", age_s=60.0, attempts=0, queue_s=0.0, provider_s=0.0
    )
    assert [what for _, _, what in call.journal.notes] == [
        "found on disk",
        "answered with what the call c1 brought 60 s ago",
    ]
    assert house.cache.statistics().disk_hits == 1
    assert house.disk.reads == 2
    await house.ask()
    assert house.disk.reads == 2
    kept = house.memory.peek(KEY, house.clock.now)
    assert kept is not None
    assert kept.expires_at == house.disk.rows[KEY].expires_at
    assert kept.tags == ("a",)


WANTED = Wanted(KEY, 1000, "", False, None, None, None)
"""What is kept under `KEY`, for whom it is kept."""


async def bring(cache: Cache, wanted: Wanted, at_once: bool) -> Kept | None:
    return cache.bring_at_once(wanted) if at_once else await cache.bring(wanted)


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_is_known_to_be_on_disk_is_brought_into_memory(house: House, at_once: bool) -> None:
    await house.ask(id="c1")
    house.memory.clear()
    kept = await bring(house.cache, WANTED, at_once)
    assert kept is not None
    assert kept.source_id == "c1"
    assert house.memory.peek(KEY, house.clock.now) is kept
    assert house.cache.statistics().disk_hits == 1
    told = house.memory.statistics()
    assert (told.hits, told.misses) == (0, 2)
    assert house.cache.peek_fresh(KEY, house.clock.now) is kept


@pytest.mark.parametrize(
    ("fields", "later_s"),
    [
        ({"uid": 1001}, 0.0),
        ({"partition": "p"}, 0.0),
        ({"max_age_s": 60.0}, 60.0),
        ({"exact_key": b"\x01another"}, 0.0),
        ({}, 3600.0),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
async def test_what_does_not_suit_is_not_brought(
    house: House, fields: dict[str, Any], later_s: float, at_once: bool
) -> None:
    house.cache = house.rebuilt(stale_s=100.0, refreshes=Refreshes())
    await house.ask()
    house.memory.clear()
    house.clock.now += later_s
    assert await bring(house.cache, structs.replace(WANTED, **fields), at_once) is None
    assert house.memory.peek(KEY, house.clock.now) is None


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_is_not_known_to_be_there_is_not_waited_for(house: House, at_once: bool) -> None:
    assert await bring(house.cache, WANTED, at_once) is None
    await house.ask()
    reads = house.disk.reads
    for strategy in ("memory", "disk", "off"):
        assert await bring(house.rebuilt(strategy), WANTED, at_once) is None
    assert house.disk.reads == reads


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_body_that_makes_no_sense_is_not_brought(house: House, at_once: bool) -> None:
    await house.ask()
    house.memory.clear()
    house.disk.rows[KEY] = replace(house.disk.rows[KEY], body=b"nonsense")
    assert await bring(house.cache, WANTED, at_once) is None
    assert await bring(house.cache, WANTED, at_once) is None
    assert not await house.knows()
    assert house.cache.statistics().unreadable == 1


async def test_what_is_forgotten_while_it_is_brought_does_not_come_back(house: House) -> None:
    await house.ask()
    house.memory.clear()
    house.disk.hold = trio.Event()
    found: list[Kept | None] = []

    async def bring_it() -> None:
        found.append(await house.cache.bring(WANTED))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring_it)
        await trio.testing.wait_all_tasks_blocked()
        await house.cache.forget(everything=True)
        house.disk.hold.set()
    assert found == [None]
    assert house.memory.peek(KEY, house.clock.now) is None


async def test_the_row_on_disk(house: House) -> None:
    await house.ask(id="c1", caller=a_caller(7), partition="p", tags=("a", "b"))
    (row,) = house.disk.puts
    assert replace(row, body=b"") == StoredAnswer(
        key=KEY,
        body=b"",
        stored_at=house.clock.now,
        expires_at=house.clock.now + 3600,
        source_id="c1",
        uid=7,
        partition="p",
        model="small",
        tags=("a", "b"),
        cost_usd=0.5,
    )
    assert from_body(row.body) == a_reply(text="from c1", cost_usd=0.5, saved_s=2.0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x93garbage",
        msgpack.packb([99, {}]),
        msgpack.packb([1, []]),
        msgpack.packb([1, {"text": "x"}]),
        to_body(a_reply())[:-1],
        to_body(Reply(text=b"bytes")),  # type: ignore[arg-type]
        to_body(Reply(text="x", extra={"a": "\ud800"})),
    ],
    ids=lambda body: repr(body[:12]),
)
async def test_a_body_that_makes_no_sense_is_a_miss(house: House, body: bytes) -> None:
    await house.ask()
    house.memory.clear()
    house.disk.rows[KEY] = replace(house.disk.rows[KEY], body=body)
    assert (await house.ask()).cache == "miss"
    assert house.cache.statistics().disk_hits == 0


async def test_a_row_out_of_date_is_a_miss_whatever_the_disk_thinks(house: House) -> None:
    await house.ask()
    for stored_at, expires_at in ((0.0, house.clock.now), (house.clock.now + 61, house.clock.now + 99)):
        house.memory.clear()
        house.disk.rows[KEY] = replace(house.disk.rows[KEY], stored_at=stored_at, expires_at=expires_at)
        assert not await house.knows()


async def test_who_looked_on_disk_finds_what_came_meanwhile(house: House) -> None:
    async with trio.open_nursery() as nursery:
        house.disk.hold = trio.Event()
        slow = ask(nursery, house.cache, asking())
        await trio.testing.wait_all_tasks_blocked()
        assert house.cache.statistics().busy == 1
        await house.ask(id="c2", cache="refresh")
        house.disk.hold.set()
        assert (await slow.reply()).source_id == "c2"
    assert house.inner.asked == 1


async def test_a_slow_disk_does_not_overwrite_what_is_newer(house: House) -> None:
    await house.ask(id="old")
    house.memory.clear()
    async with trio.open_nursery() as nursery:
        house.disk.hold = trio.Event()
        slow = ask(nursery, house.cache, asking())
        await trio.testing.wait_all_tasks_blocked()
        await house.ask(id="new", cache="refresh")
        house.disk.hold.set()
        await slow.reply()
    assert (await house.ask()).source_id == "new"


# --- forgetting ----------------------------------------------------------------------------------------------------------


async def filled(house: House) -> None:
    for number, (uid, tags) in enumerate([(1, ("a",)), (1, ("a", "b")), (2, ("a",)), (2, ())]):
        await house.ask(id=f"c{number}", key=b"k%d" % number, caller=a_caller(uid), tags=tags)


@pytest.mark.parametrize(
    ("marks", "gone"),
    [
        ({"source_id": "c1"}, {1}),
        ({"source_id": "c1", "uid": 1}, {1}),
        ({"source_id": "c1", "uid": 2}, set()),
        ({"tag": "a"}, {0, 1, 2}),
        ({"tag": "a", "uid": 1}, {0, 1}),
        ({"everything": True, "uid": 2}, {2, 3}),
        ({"everything": True}, {0, 1, 2, 3}),
        ({"tag": "z"}, set()),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["both", "memory", "disk"])
async def test_forgetting(house: House, marks: dict[str, Any], gone: set[int], where: str) -> None:
    await filled(house)
    if where == "memory":
        house.disk.rows.clear()
    if where == "disk":
        house.memory.clear()
    assert await house.cache.forget(**marks) == len(gone)
    for number in range(4):
        assert await house.knows(key=b"k%d" % number, shared=True) is (number not in gone)


async def test_clearing(house: House) -> None:
    await filled(house)
    assert await house.cache.clear(uid=1) == 2
    assert await house.cache.clear() == 2
    assert len(house.memory) == 0
    assert not house.disk.rows


async def test_forgetting_needs_a_mark(house: House) -> None:
    with pytest.raises(ValueError, match="what to forget"):
        await house.cache.forget(uid=1)


@pytest.mark.parametrize("strategy", ["memory", "disk", "off"])
async def test_forgetting_in_one_tier(house: House, strategy: str) -> None:
    house.cache = house.rebuilt(strategy)
    await house.ask(id="c1")
    assert await house.cache.forget(source_id="c1") == (strategy != "off")
    assert not await house.knows()


@pytest.mark.parametrize("strategy", ["memory", "disk", "off"])
@pytest.mark.parametrize("marks", [{"source_id": "c1"}, {"tag": "a"}, {"everything": True}], ids=str)
async def test_what_is_forgotten_while_a_tier_is_not_used_does_not_come_back(
    house: House, strategy: str, marks: dict[str, Any]
) -> None:
    await house.ask(id="c1", tags=("a",))
    house.cache = house.rebuilt(strategy)
    assert await house.cache.forget(**marks) == 1
    house.cache = house.rebuilt("hybrid")
    assert not await house.knows()


@pytest.mark.parametrize("strategy", ["memory", "disk"])
async def test_what_is_renewed_while_a_tier_is_not_used_is_not_older_when_it_is(house: House, strategy: str) -> None:
    await house.ask(id="older")
    house.cache = house.rebuilt(strategy)
    await house.ask(id="newer", cache="refresh")
    house.cache = house.rebuilt("hybrid")
    assert (await house.ask()).text == "from newer"
    house.memory.clear()
    found = [await house.ask(cache="only")] if await house.knows() else []
    assert [reply.text for reply in found] in ([], ["from newer"])


@pytest.mark.parametrize("tier", ["memory", "disk"])
async def test_what_is_renewed_in_one_tier_by_a_call_takes_the_older_from_the_other(house: House, tier: str) -> None:
    await house.ask(id="older")
    await house.ask(id="newer", cache="refresh", tier=tier)
    assert (await house.ask(cache="only")).text == "from newer"
    house.memory.clear()
    assert await house.knows() == (tier == "disk")


async def test_a_simulated_answer_takes_no_true_one_from_the_disk(house: House) -> None:
    await house.ask(id="true")
    house.inner.answer = lambda _: a_reply(simulated=True)
    house.cache = house.rebuilt("memory")
    await house.ask(cache="refresh")
    house.cache = house.rebuilt("disk")
    assert (await house.ask(cache="only")).text == "from true"


async def test_what_is_forgotten_while_it_is_read_does_not_come_back(house: House) -> None:
    await house.ask(id="wrong")
    house.memory.clear()
    async with trio.open_nursery() as nursery:
        house.disk.hold = trio.Event()
        reading = ask(nursery, house.cache, asking(id="anew"))
        await trio.testing.wait_all_tasks_blocked()
        assert await house.cache.forget(source_id="wrong") == 1
        house.disk.hold.set()
        assert (await reading.reply()).cache == "miss"
    assert (await house.ask()).source_id == "anew"


# --- together with shared flights -------------------------------------------------------------------------------------------


async def test_a_passenger_does_not_keep_twice_and_the_payer_has_the_last_word(house: House) -> None:
    replies = iter(
        [
            a_reply(cache="coalesced", source_id="c1"),
            a_reply(cache="coalesced", source_id="c1"),
            a_reply(cache="miss"),
            a_reply(cache="coalesced", source_id="c1"),
        ]
    )
    house.inner.answer = lambda _: next(replies)
    for name in ("c2", "c3", "c1", "c4"):
        await house.ask(id=name, cache="refresh", tags=(name,))
    assert [row.tags for row in house.disk.puts] == [("c2",), ("c1",)]
    kept = house.cache.peek_fresh(KEY, house.clock.now)
    assert kept is not None
    assert (kept.tags, kept.source_id) == (("c1",), "c1")


async def test_passengers_keep_nothing_where_only_the_disk_remembers(house: House) -> None:
    house.cache = house.rebuilt("disk")
    house.inner.answer = lambda _: a_reply(cache="coalesced", source_id="c1")
    await house.ask()
    assert not house.disk.puts


@pytest.mark.parametrize("strategy", ["memory", "hybrid"])
async def test_identical_calls_at_any_moment_are_asked_once(
    autojump_clock: trio.testing.MockClock, strategy: str
) -> None:
    async with trio.open_nursery() as nursery:
        inner: InnerService[Call] = InnerService()

        async def answer(_: Call) -> Reply:
            await trio.sleep(1)
            return a_reply()

        inner.answer = answer
        house = House(strategy, inner=Coalesce(inner, Crew(nursery), KeptLog(), Relay))

        async def arrive(at_s: float, yields: int) -> None:
            await trio.sleep(at_s)
            for _ in range(yields):
                await trio.lowlevel.checkpoint()
            replies.append(await house.ask())

        replies: list[Reply] = []
        async with trio.open_nursery() as callers:
            for at_s in (0.0, 0.5, 1.0, 1.5):
                for yields in range(20):
                    callers.start_soon(arrive, at_s, yields)
        assert inner.asked == 1
        assert sum(reply.cache == "miss" for reply in replies) == 1
        assert len(replies) == 80


# --- streams -------------------------------------------------------------------------------------------------------------


async def test_a_hit_is_replayed_in_pieces(house: House) -> None:
    text = "word " * 100 + "\n" + "x" * 300
    tools = ({"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}, {"id": "t2"})
    house.inner.answer = lambda _: a_reply(text=text, tool_calls=tools)
    await house.ask()
    sink = RecordedSink()
    reply = await house.ask(sink=sink)
    assert reply.cache == "exact"
    assert sink.text == reply.text == text
    assert len(sink.pieces) > 5
    assert sink.pieces[-2:] == [[{"index": 0, **tools[0]}], [{"index": 1, **tools[1]}]]


async def test_an_answer_that_streamed_is_kept_for_those_that_do_not(house: House) -> None:
    await house.ask(sink=RecordedSink())
    assert (await house.ask()).cache == "exact"


async def test_a_slow_reader_of_a_replay_holds_up_only_itself(house: House) -> None:
    house.inner.answer = lambda _: a_reply(text="long " * 100)
    await house.ask()
    async with trio.open_nursery() as nursery:
        sink = RecordedSink(room=trio.Event())
        slow = ask(nursery, house.cache, asking(sink=sink))
        await trio.testing.wait_all_tasks_blocked()
        assert house.cache.statistics().busy == 1
        assert (await house.ask()).cache == "exact"
        slow.cancel()
        assert await slow.wait() is None
    assert house.cache.statistics().busy == 0


@given(st.text(" \nab\u4e16\U0001f30d", max_size=600))
def test_pieces_add_up_and_are_small(text: str) -> None:
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= 80 for piece in cut)


def test_pieces_end_with_words() -> None:
    cut = list(pieces("seven words make a rather short sentence. " * 20))
    assert all(piece.endswith(" ") for piece in cut)


# --- everywhere ----------------------------------------------------------------------------------------------------------


async def test_cancelled_anywhere_it_is_idle(autojump_clock: trio.testing.MockClock) -> None:
    def scenario(nursery: trio.Nursery) -> Any:
        house = House()
        house.inner.answer = lambda _: a_reply(text="long " * 50, tool_calls=({"id": "1"},))

        async def run() -> None:
            await house.ask()
            house.memory.clear()
            await house.ask(sink=RecordedSink())
            await house.cache.clear()
            await house.ask()

        return house, run

    def idle(house: House) -> None:
        assert house.cache.statistics().busy == 0

    await cancel_at_every_checkpoint(scenario, idle, at_least=8)


# --- how old an answer may be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["memory", "disk", "hybrid"])
async def test_no_tier_gives_what_is_older_than_the_call_allows(house: House, strategy: str) -> None:
    house.cache = house.rebuilt(strategy)
    await house.ask(id="c1")
    house.clock.now += 60
    assert await house.knows(cache_ttl_s=60.5)
    assert not await house.knows(cache_ttl_s=60)
    assert await house.knows()
    assert (await house.ask(id="c2", cache_ttl_s=60)).cache == "miss"
    assert (await house.ask(cache_ttl_s=1)).source_id == "c2"


async def test_the_short_way_too(house: House) -> None:
    await house.ask()
    house.clock.now += 60
    hits = house.memory.statistics().hits
    assert house.cache.peek_fresh(KEY, house.clock.now, 60.0) is None
    assert house.memory.statistics().hits == hits
    assert house.cache.peek_fresh(KEY, house.clock.now, 60.5) is not None
    assert house.memory.statistics().hits == hits + 1


# --- the disk hears of what memory serves ------------------------------------------------------------------------------------


async def test_the_disk_is_told_of_hits_in_memory_now_and_then(house: House) -> None:
    await house.ask()
    for _ in range(10):
        house.clock.now += 60
        await house.ask()
        assert house.cache.peek_fresh(KEY, house.clock.now) is not None
    assert house.disk.touched == [KEY, KEY]
    house.memory.clear()
    await house.ask()  # the disk knows itself what is read from it
    assert len(house.disk.touched) == 2


async def test_of_simulated_answers_it_hears_nothing(house: House) -> None:
    house.inner.answer = lambda _: a_reply(simulated=True)
    await house.ask()
    house.clock.now += 1000
    assert (await house.ask()).cache == "exact"
    assert not house.disk.touched


# --- stale answers -----------------------------------------------------------------------------------------------------------


class Refreshes:
    """Notes what is to be asked anew."""

    def __init__(self) -> None:
        self.begun: list[tuple[Call, bytes, Any]] = []

    def begin(self, call: Call, key: bytes, keep: Any) -> bool:
        self.begun.append((call, key, keep))
        return True


@pytest.mark.parametrize("strategy", ["memory", "disk", "hybrid"])
async def test_a_stale_answer_is_given_and_asked_for_anew(house: House, strategy: str) -> None:
    refreshes = Refreshes()
    house.cache = house.rebuilt(strategy, ttl_s=100, stale_s=50, refreshes=refreshes)
    await house.ask(id="c1")
    house.clock.now += 99
    assert (await house.ask()).cache == "exact"
    house.clock.now += 50
    assert house.cache.peek_fresh(KEY, house.clock.now) is None  # for this a task is needed
    call = asking()
    reply = await house.cache(call)
    assert (reply.cache, reply.source_id, reply.age_s, reply.saved_usd) == ("stale", "c1", 149.0, 0.5)
    assert own_fields(reply)["cost_usd"] == 0.0
    assert "49 s out of date; it is being asked for anew" in call.journal.notes[-1][2]
    ((asked, key, keep),) = refreshes.begun
    assert (asked, key) == (call, KEY)
    assert (await house.ask(cache="only")).cache == "stale"
    assert len(refreshes.begun) == 1  # who wants nobody asked
    assert house.cache.statistics().stale_hits == 2
    keep(structs.replace(call, id="anew"), KEY, a_reply(text="new"))
    assert ((await house.ask()).text, (await house.ask()).cache) == ("new", "exact")
    house.clock.now += 150
    assert (await house.ask()).cache == "miss"


async def test_a_call_may_want_no_stale_answer(house: House) -> None:
    house.cache = house.rebuilt(ttl_s=100, stale_s=50, refreshes=Refreshes())
    await house.ask()
    house.clock.now += 120
    assert (await house.ask(cache_ttl_s=100)).cache == "miss"


async def test_memory_does_not_give_what_a_new_configuration_calls_too_old(house: House) -> None:
    house.cache = house.rebuilt(ttl_s=100, stale_s=1000, refreshes=Refreshes())
    await house.ask()
    house.clock.now += 120
    house.cache = house.rebuilt(ttl_s=100)
    assert house.cache.peek_fresh(KEY, house.clock.now) is None
    assert not await house.knows()


# --- samples -----------------------------------------------------------------------------------------------------------------


async def test_so_many_samples_are_drawn_and_then_given_by_chance(house: House) -> None:
    chances = iter([0.0, 0.34, 0.99, 0.5])
    house.cache = house.rebuilt(chance=lambda: next(chances))
    for number in range(3):
        assert (await house.ask(id=f"c{number}", samples=3)).cache == "miss"
    assert [(await house.ask(samples=3)).source_id for _ in range(4)] == ["c0", "c1", "c2", "c1"]
    assert house.inner.asked == 3
    assert not await house.knows()  # a call that does not ask for chance has its own answer
    house.memory.clear()
    house.cache = house.rebuilt(chance=lambda: 0.99)
    assert (await house.ask(samples=3)).source_id == "c2"  # from the disk
    assert (await house.ask(id="c3", samples=4)).cache == "miss"  # one more is wanted


async def test_only_and_refresh_and_forgetting_of_samples(house: House) -> None:
    assert not await house.knows(samples=2)
    await house.ask(id="c0", samples=2)
    assert await house.knows(samples=2)  # one is better than none
    await house.ask(id="c1", samples=2)
    assert (await house.ask(id="c2", samples=2, cache="refresh")).cache == "miss"
    assert {row.source_id for row in house.disk.rows.values()} == {"c1", "c2"}
    assert await house.cache.forget(source_id="c1") == 1
    assert (await house.ask(samples=2)).cache == "miss"


async def test_samples_asked_for_at_once_are_different_calls(autojump_clock: trio.testing.MockClock) -> None:
    house = House()
    async with trio.open_nursery() as nursery:
        asked = [ask(nursery, house.cache, asking(samples=2)) for _ in range(3)]
        for received in [await house.inner.next() for _ in asked]:
            received.reply()
        for one in asked:
            await one.reply()
    assert len(house.disk.rows) == 2  # no more than are wanted
    assert (await house.ask(samples=2)).cache == "exact"


async def test_a_sample_that_fails_leaves_its_place_free(house: House) -> None:
    house.inner.answer = lambda _: ProviderError("broken")
    with pytest.raises(ProviderError):
        await house.ask(samples=1)
    house.inner.answer = lambda _: a_reply()
    await house.ask(samples=1)
    assert (await house.ask(samples=1)).cache == "exact"


# --- what makes no sense any more ---------------------------------------------------------------------------------------------


def test_a_body_of_an_earlier_version_is_read() -> None:
    version, fields = msgpack.unpackb(to_body(a_reply(provider_s=2.0)))
    del fields["provider_s"]
    assert from_body(msgpack.packb([version, fields])) == a_reply()


async def test_a_body_that_makes_no_sense_any_more_is_a_miss_and_counted(house: House) -> None:
    await house.ask()
    house.memory.clear()
    house.disk.rows[KEY] = replace(house.disk.rows[KEY], body=b"\x92\x63\x80")
    assert (await house.ask()).cache == "miss"
    assert house.cache.statistics().unreadable == 1
    house.memory.clear()
    assert (await house.ask()).cache == "exact"  # it was replaced


# --- ages, and what a hit is worth ----------------------------------------------------------------------------------------------


async def test_the_ages_of_both_tiers(house: House) -> None:
    assert await house.cache.ages() == {
        tier: {"oldest_age_s": None, "median_age_s": None} for tier in ("memory", "disk")
    }
    for number in range(3):
        await house.ask(key=b"\x01%d" % number)
        house.clock.now += 10
    assert await house.cache.ages() == {
        tier: {"oldest_age_s": 30.0, "median_age_s": 20.0} for tier in ("memory", "disk")
    }
    house.cache = house.rebuilt("memory")
    assert set(await house.cache.ages()) == {"memory"}


async def test_a_hit_says_how_long_its_answer_took(house: House) -> None:
    first = await house.ask()
    assert (first.provider_s, first.saved_s) == (2.0, None)
    hit = await house.ask()
    assert (hit.provider_s, hit.saved_s) == (0.0, 2.0)
    house.memory.clear()
    assert (await house.ask()).saved_s == 2.0
    assert from_body(house.disk.rows[KEY].body) is not None
