"""Catalogues: a caller's tools are sent as they were first sent, whatever the order of names in his maps."""

from __future__ import annotations

import json
from functools import partial

import trio
from harness import InnerService, a_call, a_caller, a_reply, cancel_at_every_checkpoint

from aiorchd.calls.call import Call
from aiorchd.core.first_forms import FirstForms
from aiorchd.core.recurrence import WITHIN_S, Recurrence
from aiorchd.stages.catalogues import LEAST_CHARACTERS, Catalogues

TOOLS = [
    {
        "type": "function",
        "function": {"name": "find", "parameters": {"type": "object", "properties": {"b": {}, "a": {}}}},
    }
]
TURNED = [
    {
        "function": {"parameters": {"properties": {"a": {}, "b": {}}, "type": "object"}, "name": "find"},
        "type": "function",
    }
]


def build() -> tuple[Catalogues, list[str]]:
    inner: InnerService[Call] = InnerService()
    sent: list[str] = []

    def answer(call: Call) -> object:
        sent.append(json.dumps(call.request.get("tools")))
        return a_reply()

    inner.answer = answer  # type: ignore[assignment]
    return Catalogues(inner, FirstForms(), Recurrence()), sent


def call_with(tools: object, **more: object) -> Call:
    return a_call(request={"messages": [{"role": "user", "content": "hi"}], "tools": tools}, **more)


async def test_tools_are_sent_as_they_first_came() -> None:
    stage, sent = build()
    await stage(call_with(TOOLS))
    await stage(call_with(TURNED))
    await stage(call_with([*TURNED, *TURNED]))
    assert sent[0] == sent[1] == json.dumps(TOOLS)
    assert sent[2] == json.dumps([*TURNED, *TURNED])
    assert (stage.statistics().forms, stage.statistics().settled) == (2, 1)


async def test_those_of_other_users_and_partitions_are_their_own() -> None:
    stage, sent = build()
    await stage(call_with(TOOLS))
    await stage(call_with(TURNED, caller=a_caller(uid=4321)))
    await stage(call_with(TURNED, partition="apart"))
    assert sent[1:] == [json.dumps(TURNED)] * 2


async def test_without_tools_nothing_is_done() -> None:
    stage, sent = build()
    await stage(a_call())
    assert (sent, stage.statistics().forms) == (["null"], 0)


async def test_cancelled_anywhere_it_holds_nothing() -> None:
    def scenario(_: trio.Nursery) -> tuple[Catalogues, partial[object]]:
        stage, _sent = build()
        return stage, partial(stage, call_with(TOOLS))

    await cancel_at_every_checkpoint(scenario, lambda _stage: None)  # type: ignore[arg-type]


SYSTEM = "Answer in one word. " * (LEAST_CHARACTERS // 20 + 1)


async def recurring(*calls: Call, pause_s: float = 0.0) -> list[bool]:
    inner: InnerService[Call] = InnerService()
    seen: list[bool] = []

    def answer(call: Call) -> object:
        seen.append(call.recurring)
        return a_reply()

    inner.answer = answer  # type: ignore[assignment]
    stage = Catalogues(inner, FirstForms(), Recurrence())
    for call in calls:
        await stage(call)
        await trio.sleep(pause_s)
    return seen


def with_system(system: object, question: str, **more: object) -> Call:
    return a_call(
        request={"messages": [{"role": "system", "content": system}, {"role": "user", "content": question}]}, **more
    )


async def test_a_long_beginning_that_comes_again_is_told(autojump_clock: object) -> None:
    first, second = with_system(SYSTEM, "one"), with_system(SYSTEM, "two")
    assert await recurring(first, second) == [False, True]
    assert await recurring(first, second, pause_s=WITHIN_S) == [False, False]
    assert await recurring(first, with_system(SYSTEM + "!", "two")) == [False, False]
    assert await recurring(first, with_system(SYSTEM, "two", model="large")) == [False, False]
    assert await recurring(with_system("short", "one"), with_system("short", "two")) == [False, False]
    parts = [{"type": "text", "text": SYSTEM}]
    assert await recurring(with_system(parts, "one"), with_system(parts, "two")) == [False, True]


async def test_what_comes_behind_does_not_count_and_tools_do() -> None:
    long = a_call(SYSTEM)
    assert await recurring(long, long) == [False, False]
    tools = [{"type": "function", "function": {"name": "find", "description": SYSTEM}}]
    assert await recurring(call_with(tools), call_with(tools)) == [False, True]
    assert await recurring(with_system(b"no json", "one"), with_system(b"no json", "two")) == [False, False]


async def test_texts_to_be_embedded_have_no_beginning() -> None:
    call = a_call(kind="embed", request={"input": [SYSTEM]})
    assert await recurring(call, call) == [False, False]
