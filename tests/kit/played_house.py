"""A whole pipeline with everything around it played by hand: disk, provider, records."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import trio
from harness import a_caller, a_reply

from aiorch.errors import CallError
from aiorchd.calls.call import Attempt, Call
from aiorchd.calls.caller import Caller
from aiorchd.calls.journal import CallRecord, Hit
from aiorchd.calls.ports import StoredAnswer
from aiorchd.calls.question import Question
from aiorchd.calls.reply import Reply
from aiorchd.config.schema import Concurrency, Config, Model, Provider, Retry, Routing
from aiorchd.pipeline.generation import Pipeline
from aiorchd.pipeline.lasting import Lasting, lasting_state
from aiorchd.pipeline.order import open_pipeline
from aiorchd.pipeline.plan import Plan


class Disk:
    """The disk tier, as a dict."""

    def __init__(self) -> None:
        self.kept: dict[bytes, StoredAnswer] = {}

    def absent(self, key: bytes) -> bool:
        return False  # nothing is sure without looking

    def likely(self, key: bytes) -> bool:
        return key in self.kept

    def look(self, key: bytes) -> StoredAnswer | None:
        return self.kept.get(key)

    async def get(self, key: bytes) -> StoredAnswer | None:
        await trio.lowlevel.checkpoint()
        return self.kept.get(key)

    def put(self, answer: StoredAnswer) -> None:
        self.kept[answer.key] = answer

    def drop(self, key: bytes) -> None:
        self.kept.pop(key, None)

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

    attempt_s = None

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
