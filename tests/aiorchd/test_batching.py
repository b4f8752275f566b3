"""Asking together through the pipeline: who may share a call with whom, what is told of it, and who pays."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from harness import RecordedSink, a_caller, a_reply, a_usage
from msgspec.structs import replace
from played_house import CONFIG, Disk, House, Played, Told

from aiorchd.calls.call import Attempt
from aiorchd.calls.caller import Caller
from aiorchd.calls.question import Question
from aiorchd.calls.reply import Reply
from aiorchd.config.operations import Material
from aiorchd.config.prompt_template import PromptTemplate
from aiorchd.config.schema import Batch, Budget, Model, Operation, Provider
from aiorchd.pipeline.lasting import lasting_state
from aiorchd.pipeline.order import open_pipeline
from aiorchd.pipeline.plan import Plan

SCHEMA = {"type": "object", "properties": {"tag": {"type": "string"}}, "required": ["tag"]}


class Answering(Played):
    """A provider that answers each item with its own text, under its id."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[list[str]] = []
        self.requests: list[Any] = []

    async def chat(self, attempt: Attempt) -> Reply:
        await super().chat(attempt)
        request = attempt.call.request
        self.requests.append(request)
        text = request["messages"][-1]["content"]
        start = text.find('{"items":')
        if start < 0:
            self.items.append([text])
            said = text.removeprefix("Tag:\n")
            return a_reply(
                json.dumps({"tag": said}) if "output_schema" in request else said, usage=a_usage(10, 2), cost_usd=0.01
            )
        items = json.loads(text[start:])["items"]
        self.items.append([item["text"] for item in items])
        structured = "tag" in json.dumps(request["output_schema"])
        answers = [
            {"id": item["id"], "answer": {"tag": item["text"]} if structured else item["text"]} for item in items
        ]
        return a_reply(json.dumps({"answers": answers}), usage=a_usage(20, 8), cost_usd=0.03)


class Together(House):
    provider: Answering

    async def burst(self, *texts: str, name: str = "tag", **fields: Any) -> list[Reply]:
        """Ask at the same moment."""
        return await self.together(*({"text": text, "name": name, **fields} for text in texts))

    async def together(self, *asked: dict[str, Any]) -> list[Reply]:
        replies: dict[int, Reply] = {}

        async def one(
            number: int, text: str, name: str = "tag", caller: Caller | None = None, sink: Any = None, **fields: Any
        ) -> None:
            names = ("temperature", "max_tokens", "stop", "extra", "tools")
            request = {key: fields.pop(key) for key in names if key in fields}
            question = Question(kind="chat", request=request, operation=name, input=text, **fields)
            replies[number] = await self.pipeline.answer(self.call(question, caller, sink))

        async with trio.open_nursery() as nursery:
            for number, fields in enumerate(asked):
                nursery.start_soon(lambda number=number, fields=fields: one(number, **fields))
        return [replies[number] for number in range(len(asked))]

    @property
    def sizes(self) -> list[int]:
        return sorted(map(len, self.provider.items))


@asynccontextmanager
async def together(config: Any = CONFIG, schema: Any = None, **fields: Any) -> AsyncIterator[Together]:
    operation = Operation(**{"template": "Tag:\n{{ input }}", "system": "You tag.", "batch_size": 4, **fields})
    config = replace(config, operations={"tag": operation, "other": operation})
    provider, disk, told = Answering(), Disk(), Told()
    state = lasting_state(config, answers=disk, records=told, wall_clock=lambda: 1_000_000.0, rng=random.Random(1))
    material = Material(PromptTemplate("Tag:\n{{ input }}"), schema)
    plan = Plan(
        config=config,
        providers=dict.fromkeys(config.providers, provider),
        addresses=dict.fromkeys(config.providers, "openai http://x"),
        simulated=False,
        materials={"tag": material, "other": material},
    )
    async with open_pipeline(plan, state) as pipeline:
        yield Together(pipeline, provider, disk, told, state)


async def test_a_burst_is_one_call_and_each_has_its_answer_its_share_and_its_row(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with together(schema=SCHEMA, max_tokens=50) as it:
        replies = await it.burst("cats", "dogs", "mice", "owls")
        [sent] = [request for request in it.provider.requests if len(request["messages"][-1]["content"]) > 40]
        assert [reply.data["tag"] for reply in replies] == ["cats", "dogs", "mice", "owls"]
        assert sent["messages"][0]["content"].startswith("You tag.\n\n")
        assert sent["messages"][1]["content"].startswith("Tag:\n{")
        batched = [reply for reply in replies if reply.batched]
        assert len(batched) >= 3
        assert all(reply.validation and reply.validation["ok"] for reply in replies)
        rows = it.told.records
        checks = len(it.provider.items) - 1
        assert sum(row.cost_usd or 0 for row in rows) == pytest.approx(0.03 + 0.01 * checks)
        assert sum((row.input_tokens or 0) + (row.output_tokens or 0) for row in rows) == 28 + 12 * checks
        assert sum(row.attempts for row in rows) == 1 + checks
        assert [row.batch_questions for row in rows] == [4, 4, 4, 4]
        assert all(any(note[1] == "batch" for note in (row.story or {})["notes"]) for row in rows)
        # What was answered together is kept like any other answer, and a hit is nothing shared.
        again = await it.burst("cats")
        assert (again[0].cache, again[0].batched, again[0].data) == ("exact", False, {"tag": "cats"})


@pytest.mark.parametrize(
    "fields",
    [
        {"caller": a_caller(1001)},
        {"caller": a_caller(unit="other.service")},
        {"partition": "p"},
        {"name": "other"},
        {"model": "large"},
        {"priority": "bulk"},
        {"max_tokens": 7},
        {"task": "another"},
        {"extra": {"user": "u"}},
    ],
    ids=["user", "unit", "partition", "operation", "model", "priority", "parameter", "task", "metadata"],
)
async def test_others_are_not_mixed(autojump_clock: trio.testing.MockClock, fields: dict[str, Any]) -> None:
    async with together() as it:
        mine = [{"text": text} for text in ("cats", "dogs")]
        theirs = [{"text": text, **fields} for text in ("mice", "owls")]
        replies = await it.together(*mine, *theirs)
        assert [reply.text for reply in replies] == ["cats", "dogs", "mice", "owls"]
        groups = [set(items) for items in it.provider.items if len(items) > 1]
        assert sorted(map(sorted, groups)) == [["cats", "dogs"], ["mice", "owls"]]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"batch": False}, "it says so itself"),
        ({"temperature": 0.7}, "its answer is left to chance"),
        ({"temperature": 0.7, "cache_samples": 2}, "its answer is left to chance"),
        ({"stop": ["x"]}, "it has tools or stop words"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "it has tools or stop words"),
        ({"cost_limit_usd": 0.5}, "it has a cost_limit of its own"),
        ({"extra": {"response_format": {"type": "text"}}}, "its extra may ask for another form of answer"),
        ({"extra": {"n": 2}}, "its answer is left to chance"),
    ],
)
async def test_what_goes_alone(autojump_clock: trio.testing.MockClock, fields: dict[str, Any], why: str) -> None:
    async with together() as it:
        replies = await it.burst("cats", "dogs", **fields)
        assert it.sizes == [1, 1]
        assert not any(reply.batched for reply in replies)
        assert [(row.story or {})["notes"][-1][2] for row in it.told.records] == [f"is asked alone: {why}"] * 2


async def test_streams_and_calls_without_an_operation_go_alone(autojump_clock: trio.testing.MockClock) -> None:
    async with together() as it:
        await it.together(
            {"text": "cats", "stream": True, "call_id": "1", "sink": RecordedSink()},
            {"text": "dogs", "stream": True, "call_id": "2", "sink": RecordedSink()},
        )
        assert it.sizes == [1, 1]
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(lambda number=number: it.ask(f"question {number}"))
        assert it.sizes == [1] * 4


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (CONFIG, {"batch_size": None}),
        (CONFIG, {"batch_size": 1}),
        (replace(CONFIG, batch=Batch(max_size=1)), {}),
    ],
)
async def test_it_is_opted_in(autojump_clock: trio.testing.MockClock, config: Any, fields: dict[str, Any]) -> None:
    async with together(config, **fields) as it:
        await it.burst("cats", "dogs", "mice")
        assert it.sizes == [1, 1, 1]
        assert it.lasting.batching.statistics() == ()


async def test_what_a_process_of_the_host_may_answer_goes_alone(autojump_clock: trio.testing.MockClock) -> None:
    config = replace(
        CONFIG,
        providers={**CONFIG.providers, "ours": Provider(dialect="host")},
        models=(*CONFIG.models, Model(name="own", provider="ours")),
    )
    async with together(config, models=("large", "own")) as it:
        await it.burst("cats", "dogs")
        assert it.sizes == [1, 1]


async def test_a_schema_that_cannot_be_moved(autojump_clock: trio.testing.MockClock) -> None:
    async with together(schema={**SCHEMA, "properties": {"tag": {"$id": "x", "type": "string"}}}) as it:
        await it.burst("cats", "dogs")
        assert it.sizes == [1, 1]


async def test_a_bad_answer_in_a_batch_is_asked_again_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    schema = {"type": "object", "properties": {"tag": {"enum": ["cats", "dogs", "mice"]}}, "required": ["tag"]}
    async with together(schema=schema) as it:
        real = it.provider.chat

        async def chat(attempt: Attempt) -> Reply:
            reply = await real(attempt)
            batch = '"answers"' in reply.text
            return replace(reply, text=reply.text.replace('"tag": "mice"', '"tag": "rats"') if batch else reply.text)

        it.provider.chat = chat  # type: ignore[method-assign]
        replies = await it.burst("cats", "dogs", "mice")
        assert [reply.data["tag"] for reply in replies] == ["cats", "dogs", "mice"]
        again = [request for request in it.provider.requests if request["messages"][-1]["content"] == "Tag:\nmice"]
        assert len(again) >= 1


async def test_the_limits_of_the_model_that_is_asked_first(autojump_clock: trio.testing.MockClock) -> None:
    small, *others = CONFIG.models
    config = replace(CONFIG, models=(replace(small, max_output_tokens=100), *others))
    async with together(config, max_tokens=20) as it:
        await it.burst("cats", "dogs", "mice", "owls")
        assert max(it.sizes) == 2, "each may take 20 tokens, and 24 around them"
        assert all(request["max_tokens"] <= 88 for request in it.provider.requests)


async def test_a_budget_is_reserved_for_the_call_of_all_and_settled_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = replace(CONFIG, budget=Budget(per_day_usd=5.0))
    async with together(config) as it:
        await it.burst("cats", "dogs", "mice", "owls")
        [budget] = it.lasting.purse.budgets()
        assert budget.spent_usd == pytest.approx(0.03 + 0.01 * (len(it.provider.items) - 1))
        assert budget.held_usd == 0


async def test_what_was_learned_outlives_a_generation(autojump_clock: trio.testing.MockClock) -> None:
    async with together() as it:
        await it.burst("cats", "dogs", "mice")
        it.pipeline.retire()
        await it.burst("owls", "cows")
        told = it.lasting.batching.statistics()
        assert [one.batches for one in told] == [1]
        assert told[0].alone == {"the configuration has changed": 2}
