"""Validate: JSON out of answers, checked, told honestly, and a bad answer asked for again within reason."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
import trio
from forgetting import forgotten_at_once
from harness import RecordedSink, a_call, a_reply, a_usage, ask, cancel_at_every_checkpoint, harness

from aiorch.errors import InvalidRequest, Overloaded, ValidationFailed
from aiorchd.calls.call import Call
from aiorchd.calls.reply import Reply
from aiorchd.stages.json_schema import JsonSchemas
from aiorchd.stages.validate import Validate, ValidateStatistics

TAGS = {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}}}, "required": ["tags"]}
GOOD = '{"tags": ["a", "b"]}'
BAD = '{"tags": ["a", 5]}'
OK = {"schema": True, "ok": True, "repaired": [], "reasked": 0}


def validating(*replies: Any, **options: Any) -> tuple[Validate, Any]:
    """A stage over an inner service that gives these answers in turn: texts, replies, errors."""
    service, inner = harness(Validate, JsonSchemas(), **options)
    queue = list(replies)

    def answer(_: Call) -> Any:
        made = queue.pop(0)
        return a_reply(text=made) if isinstance(made, str) else made

    inner.answer = answer
    return service, inner


def wanting(schema: Any = TAGS, **fields: Any) -> Call:
    request = {"messages": [{"role": "user", "content": "Tag this."}], "output_schema": schema}
    return a_call(**{"request": request, **fields})


def formatted(response_format: Any) -> Call:
    return a_call(
        request={"messages": [{"role": "user", "content": "?"}], "extra": {"response_format": response_format}}
    )


async def test_a_good_answer_becomes_data(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = validating(GOOD)
    call = wanting()
    reply = await service(call)
    assert reply.data == {"tags": ["a", "b"]}
    assert reply.validation == OK
    assert reply.text == GOOD
    assert inner.requests == [call]
    assert service.statistics() == ValidateStatistics(inside=0, checked=1, bad=0, reasked=0, repaired=0)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"request": {"messages": [], "extra": {"response_format": {"type": "text"}}}},
        {"request": {"messages": [], "extra": {"response_format": "json"}}},
        {"request": {"messages": [], "extra": {}}},
        {"request": {"input": ["a"]}, "kind": "embed"},
    ],
    ids=str,
)
async def test_who_wants_no_json_gets_none(autojump_clock: trio.testing.MockClock, fields: dict[str, Any]) -> None:
    service, _ = validating(GOOD)
    reply = await service(a_call(**fields))
    assert (reply.data, reply.validation) == (None, None)
    assert service.statistics().checked == 0


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        ({"type": "json_object"}, False),
        ({"type": "json_schema", "json_schema": {"name": "t", "schema": TAGS}}, True),
        ({"type": "json_schema", "json_schema": {"name": "t"}}, False),
        ({"type": "json_schema"}, False),
    ],
    ids=str,
)
async def test_the_providers_own_way_of_asking(
    autojump_clock: trio.testing.MockClock, response_format: Any, schema: bool
) -> None:
    service, _ = validating(GOOD)
    reply = await service(formatted(response_format))
    assert reply.data == {"tags": ["a", "b"]}
    assert reply.validation == {**OK, "schema": schema}


async def test_a_schema_in_the_providers_own_way_is_checked(autojump_clock: trio.testing.MockClock) -> None:
    service, _ = validating(BAD, BAD)
    with pytest.raises(ValidationFailed):
        await service(formatted({"type": "json_schema", "json_schema": {"schema": TAGS}}))
    with pytest.raises(InvalidRequest, match=r"^invalid_request: extra\.response_format\.json_schema\.schema\.type: "):
        await service(formatted({"type": "json_schema", "json_schema": {"schema": {"type": "objekt"}}}))


async def test_what_was_undone_is_told(autojump_clock: trio.testing.MockClock) -> None:
    service, _ = validating(f"Sure!\n```json\n{GOOD}\n```")
    reply = await service(wanting())
    assert reply.data == {"tags": ["a", "b"]}
    assert reply.validation == {**OK, "repaired": ["code_fence"]}
    assert reply.text.startswith("Sure!")
    assert service.statistics().repaired == 1
    msgpack.packb(reply.validation)


async def test_a_wrong_schema_is_refused_before_anything_is_spent(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = validating()
    for schema in ({"type": "objekt"}, False, {"$ref": "https://example.com/x"}):
        with pytest.raises(InvalidRequest, match="output_schema"):
            await service(wanting(schema))
    assert inner.asked == 0


# --- asking again ----------------------------------------------------------------------------------------------------------


async def test_a_bad_answer_is_asked_for_again_elsewhere(autojump_clock: trio.testing.MockClock) -> None:
    first = a_reply(
        BAD, model="small", cost_usd=0.25, attempts=2, queue_s=1.0, provider_s=2.0, usage=a_usage(input=10, output=5)
    )
    second = a_reply(
        GOOD,
        model="large",
        cost_usd=0.5,
        attempts=1,
        queue_s=0.5,
        provider_s=3.0,
        usage=a_usage(input=20, output=7, reasoning=3, cache_read=1, cache_write=2, estimated=True),
    )
    service, inner = validating(first, second)
    call = wanting()
    reply = await service(call)
    assert reply.model == "large"
    assert reply.validation == {**OK, "reasked": 1}
    assert (reply.cost_usd, reply.attempts, reply.queue_s, reply.provider_s) == (0.75, 3, 1.5, 5.0)
    assert reply.usage == a_usage(input=30, output=12, reasoning=3, cache_read=1, cache_write=2, estimated=True)
    assert [asked.avoid for asked in inner.requests] == [(), ("small",)]
    assert inner.requests[1].request is call.request
    assert inner.requests[1].journal is call.journal
    assert [what for _, _, what in call.journal.notes] == ["the answer of small is no good at $.tags[1]"]
    assert service.statistics() == ValidateStatistics(inside=0, checked=2, bad=1, reasked=1, repaired=0)


@pytest.mark.parametrize("fields", [{"cost_usd": None}, {"usage": None}])
async def test_what_is_unknown_of_one_is_unknown_of_both(
    autojump_clock: trio.testing.MockClock, fields: dict[str, Any]
) -> None:
    service, _ = validating(a_reply(BAD, **fields), a_reply(GOOD))
    reply = await service(wanting())
    assert [getattr(reply, name) for name in fields] == [None]


async def test_bad_to_the_end(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = validating(
        a_reply(BAD, model="small"), a_reply(BAD, model="large"), a_reply("no", model="small"), max_reasks=2
    )
    with pytest.raises(ValidationFailed) as caught:
        await service(wanting())
    error = caught.value
    assert error.message == (
        "the answer of small is not what was asked for at $: the answer holds no JSON value "
        "(Expecting value at line 1 column 1)"
    )
    assert error.stage == "validate"
    assert not error.retryable
    assert error.details == {
        "path": "$",
        "reason": "the answer holds no JSON value (Expecting value at line 1 column 1)",
        "model": "small",
        "reasked": 2,
        "finish_reason": "stop",
        "cost_usd": 0.003,
    }
    assert [asked.avoid for asked in inner.requests] == [(), ("small",), ("small", "large")]
    assert service.statistics() == ValidateStatistics(inside=0, checked=3, bad=3, reasked=2, repaired=0)


async def test_no_asking_again_when_told_so(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = validating(BAD, max_reasks=0)
    with pytest.raises(ValidationFailed, match=r"at \$\.tags\[1\]: type must be \"string\", got 5"):
        await service(wanting())
    assert inner.asked == 1


async def test_a_cut_answer_would_be_cut_again(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = validating(a_reply('{"tags": ["a", "b', finish_reason="length"))
    with pytest.raises(ValidationFailed, match="and it was cut at its limit of tokens") as caught:
        await service(wanting())
    assert caught.value.details["finish_reason"] == "length"
    assert inner.asked == 1


async def test_an_answer_that_is_whole_in_spite_of_the_limit_is_good(autojump_clock: trio.testing.MockClock) -> None:
    service, _ = validating(a_reply(GOOD, finish_reason="length"))
    assert (await service(wanting())).data == {"tags": ["a", "b"]}


async def test_no_asking_again_when_time_is_up(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Validate, JsonSchemas())
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, wanting(timeout_s=5))
        received = await inner.next()
        await trio.sleep(5)
        received.reply(text=BAD)
        assert isinstance(await asked.error(), ValidationFailed)
    assert inner.asked == 1


async def test_when_asking_again_fails_the_bad_answer_is_what_is_told(autojump_clock: trio.testing.MockClock) -> None:
    service, _ = validating(BAD, Overloaded("full"))
    with pytest.raises(ValidationFailed, match="tags") as caught:
        await service(wanting())
    assert caught.value.details["reask_error"] == "overloaded"
    assert caught.value.details["reasked"] == 1


async def test_then_the_call_is_forgotten_at_once(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = validating(BAD, Overloaded("full"))
    with forgotten_at_once({"messages": [], "output_schema": TAGS}) as prompts:
        with pytest.raises(ValidationFailed):
            await service(a_call(request=prompts.pop()))
        inner.requests.clear()


async def test_other_errors_pass_through(autojump_clock: trio.testing.MockClock) -> None:
    service, _ = validating(Overloaded("full"))
    with pytest.raises(Overloaded):
        await service(wanting())
    assert service.statistics().inside == 0


async def test_an_error_quotes_little_of_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    service, _ = validating('{"tags": "' + "private " * 500 + '"}', max_reasks=0)
    with pytest.raises(ValidationFailed) as caught:
        await service(wanting())
    assert len(caught.value.message) < 300
    assert len(str(caught.value.details)) < 500


# --- tools and streams -----------------------------------------------------------------------------------------------------


async def test_an_answer_that_calls_tools_is_no_answer_yet(autojump_clock: trio.testing.MockClock) -> None:
    reply = a_reply(text="", finish_reason="tool_calls", tool_calls=({"id": "1", "type": "function"},))
    service, _ = validating(reply)
    assert await service(wanting()) is reply


async def test_a_good_streamed_answer(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Validate, JsonSchemas())

    async def stream(call: Call) -> Reply:
        await call.sink.send(text=GOOD)  # type: ignore[union-attr]
        return a_reply(GOOD)

    inner.answer = stream
    reply = await service(wanting(sink=RecordedSink()))
    assert reply.data == {"tags": ["a", "b"]}
    assert reply.validation == OK


async def test_a_bad_streamed_answer_is_told_and_not_asked_for_again(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = harness(Validate, JsonSchemas())

    async def stream(call: Call) -> Reply:
        await call.sink.send(text=BAD)  # type: ignore[union-attr]
        return a_reply(BAD)

    inner.answer = stream
    reply = await service(wanting(sink=RecordedSink()))
    assert inner.asked == 1
    assert reply.text == BAD
    assert reply.data is None
    assert reply.validation == {
        "schema": True,
        "ok": False,
        "repaired": [],
        "reasked": 0,
        "path": "$.tags[1]",
        "reason": 'type must be "string", got 5',
    }


async def test_a_stream_that_never_began_may_be_asked_for_again(autojump_clock: trio.testing.MockClock) -> None:
    service, inner = validating("", GOOD)
    reply = await service(wanting(sink=RecordedSink()))
    assert inner.asked == 2
    assert reply.validation == {**OK, "reasked": 1}


async def test_cancelled_anywhere_it_is_idle(autojump_clock: trio.testing.MockClock) -> None:
    def scenario(nursery: trio.Nursery) -> Any:
        service, _ = validating(BAD, GOOD)

        async def run() -> None:
            await service(wanting())

        return service, run

    def idle(service: Validate) -> None:
        assert service.statistics().inside == 0

    await cancel_at_every_checkpoint(scenario, idle, at_least=2)
