"""The composition root: the order of the stages, what is a hit, and what may never be shared."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgpack
import pytest
import trio
from harness import RecordedSink, a_caller, a_reply
from msgspec.structs import replace
from played_house import CONFIG, a_question, house

from aiorch.errors import InvalidRequest, NotFound, ProviderError, UnknownModel
from aiorchd.calls.caller import UNMAPPED_UID, Caller
from aiorchd.calls.question import Question
from aiorchd.calls.reply import Reply
from aiorchd.config.schema import CallerTable, Concurrency, Config, Queue, Routing


async def test_the_order_of_the_stages() -> None:
    async with house() as it:
        stage: Any = it.pipeline._observe
        order = []
        while stage is not None:
            order.append(type(stage).__name__)
            stage = getattr(stage, "_inner", None)
        stack: Any = it.pipeline._stages["route"]._stacks["small"]
        while stack is not None:
            order.append(type(stack).__name__)
            stack = getattr(stack, "_inner", None)
        assert order == [
            "Observe", "Deadline", "Repeats", "Cache", "Semantic", "Coalesce", "Admit", "Validate", "Batch", "Catalogues",
        "HostRoutes", "Route",
            "Afford", "Retry", "Breaker", "Gate", "Spend", "Dispatch",
        ]  # fmt: skip


async def test_a_hit_is_answered_without_a_task_with_its_own_id_and_told() -> None:
    async with house() as it:
        first = await it.ask()
        assert first.cache == "miss"
        wire = it.hit()
        assert wire is not None
        assert (wire["text"], wire["cache"], wire["cost_usd"], wire["attempts"]) == (first.text, "exact", 0.0, 0)
        assert set(wire["timing"]) == {"queue_s", "provider_s", "overhead_s", "total_s"}
        miss, hit = it.told.records
        assert hit.id == wire["id"] != miss.id
        assert hit.source_id == miss.id
        assert len(it.provider.asked) == 1


async def test_what_one_user_asked_is_not_anothers_hit() -> None:
    async with house() as it:
        await it.ask(caller=a_caller(1))
        assert it.hit(caller=a_caller(2)) is None
        assert it.hit(caller=a_caller(1), partition="p") is None
        assert it.hit(caller=a_caller(1)) is not None


async def test_a_user_without_a_number_caches_nothing() -> None:
    async with house() as it:
        nobody = a_caller(UNMAPPED_UID)
        await it.ask(caller=nobody)
        assert it.hit(caller=nobody) is None
        await it.ask(caller=nobody)
        assert len(it.provider.asked) == 2
        assert it.disk.kept == {}


async def test_chance_is_neither_kept_nor_shared() -> None:
    async with house() as it:
        it.provider.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: it.ask(temperature=0.7))
            await trio.testing.wait_all_tasks_blocked()
            it.provider.gate.set()
        assert len(it.provider.asked) == 2
        assert it.hit(temperature=0.7) is None
        await it.ask(temperature=0)
        assert it.hit(temperature=0.0) is not None


async def test_identical_calls_in_flight_share_one() -> None:
    async with house() as it:
        it.provider.gate = trio.Event()
        replies: list[Reply] = []

        async def one() -> None:
            replies.append(await it.ask())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            it.provider.gate.set()
        assert len(it.provider.asked) == 1
        assert sorted(reply.cache for reply in replies) == ["coalesced"] * 4 + ["miss"]


async def test_fallback_is_kept_under_what_was_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with house() as it:
        it.provider.failing["small"] = ProviderError("down")
        reply = await it.ask(model="small")
        assert reply.model == "large"
        again = it.hit(model="small")
        assert again is not None
        assert again["model"] == "large"
        assert it.hit(model="large") is None
        assert it.told.records[0].fallbacks == 1


async def test_a_switched_off_model_is_answered_by_the_fallback_and_an_unknown_one_refused() -> None:
    async with house() as it:
        assert (await it.ask(model="off")).model == "large"
        with pytest.raises(UnknownModel, match="small"):
            await it.ask(model="smal")
        assert it.told.records[-1].error == "unknown_model"


async def test_streams_replay_from_the_cache_and_are_never_quick() -> None:
    async with house() as it:
        sink = RecordedSink()
        question = a_question(stream=True, call_id="c")
        await it.pipeline.answer(it.call(question, sink=sink))
        assert sink.pieces == ["piece"]
        caller = a_caller()
        assert it.pipeline.try_hit(caller, it.pipeline.prepare(caller, question), 0.0) is None
        again = RecordedSink()
        reply = await it.pipeline.answer(it.call(question, sink=again))
        assert reply.cache == "exact"
        assert again.text == reply.text
        assert it.hit() is not None  # a plain call shares the entry


async def test_cache_modes() -> None:
    async with house() as it:
        with pytest.raises(NotFound):
            await it.ask(cache="only")
        await it.ask()
        assert (await it.ask(cache="only")).cache == "exact"
        assert (await it.ask(cache="bypass")).cache == "miss"
        assert (await it.ask(cache="refresh")).cache == "miss"
        assert len(it.provider.asked) == 3
        assert it.hit(cache="refresh") is None
        assert it.hit(cache="bypass") is None


async def test_what_is_remembered_by_its_bytes_is_bounded_and_per_user() -> None:
    async with house() as it:
        one, two = a_caller(1), a_caller(2)
        prepared = it.pipeline.prepare(one, a_question())
        it.pipeline.remember(one, b"bytes", prepared)
        assert it.pipeline.recognise(one, b"bytes") is prepared
        assert it.pipeline.recognise(two, b"bytes") is None
        for number in range(5000):
            it.pipeline.remember(one, b"%d" % number, prepared)
        assert it.pipeline.recognise(one, b"bytes") is None
        assert it.pipeline.recognise(one, b"4999") is prepared
        for number in range(3):
            it.pipeline.remember(one, b"x" * 2_000_000 + b"%d" % number, prepared)
        assert it.pipeline.recognise(one, b"4999") is None
        assert it.pipeline._remembered_bytes <= 4 * 1024 * 1024


async def test_what_needs_a_task_is_not_remembered() -> None:
    async with house() as it:
        caller = a_caller()
        for fields in ({"stream": True, "call_id": 1}, {"key": "k"}, {"cache": "refresh"}, {"temperature": 1.0}):
            it.pipeline.remember(caller, b"bytes", it.pipeline.prepare(caller, a_question(**fields)))
            assert it.pipeline.recognise(caller, b"bytes") is None


async def test_what_has_no_key_is_refused_by_name() -> None:
    async with house() as it:
        question = Question(kind="chat", request={"messages": [{"role": "user", "content": float("nan")}]})
        with pytest.raises(InvalidRequest, match="content"):
            it.pipeline.prepare(a_caller(), question)


@pytest.mark.parametrize("at_once", [False, True])
async def test_an_answer_on_disk_is_given_as_one_in_memory_and_tells_where_it_was(at_once: bool) -> None:
    async with house() as it:
        caller = a_caller()

        async def fetched(who: Caller = caller, **fields: Any) -> dict[str, Any] | None:
            prepared = it.pipeline.prepare(who, a_question("q", **fields))
            now = trio.current_time()
            packed = (
                it.pipeline.read_hit(who, prepared, now) if at_once else await it.pipeline.fetch_hit(who, prepared, now)
            )
            return None if packed is None else msgpack.unpackb(packed)

        assert await fetched() is None
        first = await it.ask()
        in_memory = it.hit()
        it.lasting.memory.clear()
        found = await fetched()
        assert found is not None
        assert in_memory is not None
        own = {"id": None, "timing": None}
        assert {**found, **own} == {**in_memory, **own}
        record = it.told.records[-1]
        assert (record.id, record.cache, record.cost_usd) == (found["id"], "exact", 0.0)
        assert record.story is not None
        assert record.story["notes"][0][1:] == ["cache", "found on disk"]
        it.lasting.memory.clear()
        # Nobody else's, and nothing that a hit in memory would not be given for.
        assert await fetched(a_caller(1001)) is None
        assert await fetched(partition="p") is None
        assert await fetched(stream=True) is None
        assert await fetched(key="k") is None
        assert await fetched(cache="refresh") is None
        assert await fetched(tier="memory") is None
        assert first.text == found["text"]


async def test_forgetting() -> None:
    async with house() as it:
        await it.ask("one")
        await it.ask("two")
        first = it.told.records[0].id
        assert await it.pipeline.forget(uid=None, request_id=first, tag=None) >= 1
        assert it.hit("one") is None
        await it.pipeline.forget(uid=None, request_id=None, tag=None)
        assert it.hit("two") is None


async def test_state_outlives_a_generation_and_follows_the_file() -> None:
    async with house() as it:
        await it.ask()
        turnstile = it.lasting.turnstiles["small"]
        changed = Config(
            providers=CONFIG.providers, models=CONFIG.models[:1], routing=Routing(), concurrency=Concurrency(max=2)
        )
        async with house(changed, it.lasting) as other:
            other.lasting.reconfigure(changed)
            assert other.lasting.turnstiles["small"] is turnstile
            assert turnstile.statistics().permits == 2
            assert set(other.lasting.turnstiles) == {"small"}
            # Another chain of candidates is another policy.
            assert other.hit() is None


async def test_a_target_taken_out_while_it_is_busy_comes_back_with_its_permits_taken() -> None:
    async with house(replace(CONFIG, concurrency=Concurrency(max=1))) as it, trio.open_nursery() as nursery:
        it.provider.gate = trio.Event()
        nursery.start_soon(partial(it.ask, model="large"))
        await trio.testing.wait_all_tasks_blocked()
        busy, less = it.lasting.turnstiles["large"], replace(CONFIG, models=CONFIG.models[:1])
        it.lasting.reconfigure(less)
        it.lasting.reconfigure(CONFIG)
        assert it.lasting.turnstiles["large"] is busy
        it.provider.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        it.lasting.reconfigure(less)
        assert "large" not in it.lasting.turnstiles


async def test_the_throttle_the_key_s_limits_and_weights_act_live(autojump_clock: trio.testing.MockClock) -> None:
    async with house() as it:
        await it.ask("one")
        provider = CONFIG.providers["main"]
        changed = replace(
            CONFIG,
            queue=Queue(calls_per_second=1.0),
            providers={"main": replace(provider, requests_per_minute=6000)},
            callers={"1000": CallerTable(weight=3.0)},
        )
        it.lasting.reconfigure(changed)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(it.ask, f"throttled {number}")
            await trio.testing.wait_all_tasks_blocked()
            [small, _] = it.pipeline.limits(None)
            assert [account["owner"] for account in small["accounts"]] == ["model small", "key of main", "all models"]
            assert [each["waits_for"] for each in small["who_waits"]][:1] == ["requests a minute"]
            assert small["permits"]["algorithm"] == "aimd"
            assert it.pipeline.limits(4321)[0]["who_waits"] == []
        assert trio.current_time() - began == pytest.approx(3.0, abs=0.01)
        assert it.lasting.shares is not None
        assert it.lasting.shares.share_of(a_caller(1000)) == (1000, 3.0)
        it.lasting.reconfigure(CONFIG)
        began = trio.current_time()
        await it.ask("open again")
        await it.ask("and again")
        assert trio.current_time() == began


async def test_a_key_names_the_same_question_whatever_the_file_makes_of_it() -> None:
    async with house() as before:
        first = await before.ask(key="k", temperature=1.0)
        async with house(replace(CONFIG, routing=Routing(fallback=())), before.lasting) as after:
            again = await after.ask(key="k", temperature=1.0)
            assert (again.text, again.cache, after.provider.asked) == (first.text, "exact", [])
            with pytest.raises(InvalidRequest, match="key: was used"):
                await after.ask(key="k", temperature=0.5)


async def test_a_keyed_call_whose_caller_left_is_told_once_with_what_it_cost() -> None:
    async with house() as it:
        it.provider.gate = trio.Event()
        async with trio.open_nursery() as caller:
            caller.start_soon(partial(it.ask, key="k"))
            await trio.testing.wait_all_tasks_blocked()
            caller.cancel_scope.cancel()
        assert it.told.records == []
        it.provider.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert [(record.error, record.cost_usd, record.attempts) for record in it.told.records] == [
            (None, a_reply().cost_usd, 1)
        ]


async def test_a_key_of_a_user_without_a_number_is_nobodys() -> None:
    async with house() as it:
        nobody = a_caller(UNMAPPED_UID)
        assert [(await it.ask(caller=nobody, key="k")).cache for _ in range(2)] == ["miss", "miss"]
        assert it.lasting.keyed.kept.statistics().entries == 0


async def test_deadlines_come_from_the_call_or_the_file_and_are_bounded() -> None:
    async with house() as it:
        now = trio.current_time()
        assert it.call(a_question(timeout_s=5.0)).deadline == pytest.approx(now + 5, abs=1)
        assert it.call(a_question()).deadline == pytest.approx(now + CONFIG.timeouts.total_s, abs=1)
        assert it.call(a_question(timeout_s=1e9)).deadline == pytest.approx(now + CONFIG.timeouts.max_total_s, abs=1)
        assert [it.call(a_question(timeout_s=time_s)).bounded_by for time_s in (None, 5.0, 1e9)] == [
            "timeouts.total_s",
            "timeout_s",
            "timeouts.max_total_s",
        ]


async def test_embeddings_go_the_same_way() -> None:
    async with house() as it:
        question = Question(kind="embed", request={"input": ["a", "b"]})
        assert len((await it.pipeline.answer(it.call(question))).vectors or ()) == 2
        assert (await it.pipeline.answer(it.call(question))).cache == "exact"
        assert it.provider.asked == [("small", "embed")]
