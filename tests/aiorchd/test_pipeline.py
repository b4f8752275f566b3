"""The composition root: the order of the stages, what is a hit, and what may never be shared."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgpack
import pytest
import trio
from harness import RecordedSink, a_caller, a_reply
from msgspec.structs import replace

from aiorch.errors import CallError, InvalidRequest, NotFound, ProviderError, UnknownModel
from aiorchd.calls.call import Attempt, Call
from aiorchd.calls.caller import UNMAPPED_UID, Caller
from aiorchd.calls.journal import CallRecord, Hit
from aiorchd.calls.ports import StoredAnswer
from aiorchd.calls.question import Question
from aiorchd.calls.reply import Reply
from aiorchd.config.schema import CallerTable, Concurrency, Config, Model, Provider, Queue, Retry, Routing
from aiorchd.pipeline import Lasting, Pipeline, Plan, lasting_state, open_pipeline


class Disk:
    """The disk tier, as a dict."""

    def __init__(self) -> None:
        self.kept: dict[bytes, StoredAnswer] = {}

    async def get(self, key: bytes) -> StoredAnswer | None:
        await trio.lowlevel.checkpoint()
        return self.kept.get(key)

    def put(self, answer: StoredAnswer) -> None:
        self.kept[answer.key] = answer

    async def delete(
        self,
        *,
        uid: int | None = None,
        keys: Sequence[bytes] | None = None,
        source_id: str | None = None,
        tag: str | None = None,
        everything: bool = False,
    ) -> list[bytes]:
        gone = list(self.kept)
        self.kept.clear()
        return gone

    def statistics(self) -> Mapping[str, Any]:
        return {"entries": len(self.kept)}


class Told:
    """Where finished calls are told."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.records.append(record)

    def record_hit(self, hit: Hit) -> None:
        self.records.append(hit.record())


class Played:
    """A provider that answers by script: (model, text) counts, errors by model."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.failing: dict[str, CallError] = {}
        self.gate: trio.Event | None = None

    async def chat(self, attempt: Attempt) -> Reply:
        text = attempt.call.request["messages"][-1]["content"]
        self.asked.append((attempt.target.name, text))
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if attempt.target.name in self.failing:
            raise self.failing[attempt.target.name].again()
        if attempt.call.sink is not None:
            await attempt.call.sink.send(text="piece")
        return a_reply(f"answer {len(self.asked)} to {text}")

    async def embed(self, attempt: Attempt) -> Reply:
        self.asked.append((attempt.target.name, "embed"))
        await trio.lowlevel.checkpoint()
        return a_reply("", vectors=tuple(b"\0\0\0\0" for _ in attempt.call.request["input"]))


CONFIG = Config(
    providers={"main": Provider(dialect="openai", base_url="http://127.0.0.1:1/v1")},
    models=(
        Model(name="small", provider="main", input_usd_per_1m=1.0, output_usd_per_1m=1.0),
        Model(name="large", provider="main"),
        Model(name="off", provider="main", enabled=False),
    ),
    routing=Routing(fallback=("large",)),
    concurrency=Concurrency(max=5),
    retry=Retry(max_attempts=2, backoff_s=(0.1,)),
)


class House:
    """One pipeline with everything around it played by hand."""

    def __init__(self, pipeline: Pipeline, provider: Played, disk: Disk, told: Told, lasting: Lasting) -> None:
        self.pipeline = pipeline
        self.provider = provider
        self.disk = disk
        self.told = told
        self.lasting = lasting

    def call(self, question: Question, caller: Caller | None = None, sink: Any = None) -> Call:
        who = caller if caller is not None else a_caller()
        return self.pipeline.open_call(who, self.pipeline.prepare(who, question), trio.current_time(), sink)

    async def ask(self, text: str = "q", caller: Caller | None = None, sink: Any = None, **fields: Any) -> Reply:
        return await self.pipeline.answer(self.call(a_question(text, **fields), caller, sink))

    def hit(self, text: str = "q", caller: Caller | None = None, **fields: Any) -> dict[str, Any] | None:
        who = caller if caller is not None else a_caller()
        packed = self.pipeline.try_hit(who, self.pipeline.prepare(who, a_question(text, **fields)), trio.current_time())
        return None if packed is None else msgpack.unpackb(packed)


def a_question(text: str = "q", **fields: Any) -> Question:
    request: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
    for name in ("temperature", "extra", "max_tokens"):
        if name in fields:
            request[name] = fields.pop(name)
    return Question(kind="chat", request=request, **fields)


@asynccontextmanager
async def house(config: Config = CONFIG, lasting: Lasting | None = None) -> AsyncIterator[House]:
    provider, disk, told = Played(), Disk(), Told()
    state = lasting or lasting_state(
        config, answers=disk, records=told, wall_clock=lambda: 1_000_000.0, rng=random.Random(1)
    )
    plan = Plan(config=config, providers={"main": provider}, addresses={"main": "openai http://x"}, simulated=False)
    async with open_pipeline(plan, state) as pipeline:
        yield House(pipeline, provider, disk, told, state)
    for name, stage in pipeline.statistics().items():
        for field in ("inside", "busy", "flights", "passengers", "running", "waiting", "in_flight", "sleeping"):
            assert not getattr(stage, field, 0), (name, field)


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
            "Observe", "Deadline", "Repeats", "Cache", "Coalesce", "Admit", "Validate", "HostRoutes", "Route",
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


async def test_embeddings_go_the_same_way() -> None:
    async with house() as it:
        question = Question(kind="embed", request={"input": ["a", "b"]})
        assert len((await it.pipeline.answer(it.call(question))).vectors or ()) == 2
        assert (await it.pipeline.answer(it.call(question))).cache == "exact"
        assert it.provider.asked == [("small", "embed")]
