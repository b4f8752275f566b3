"""Models that processes of the host answer for: sessions, pipeline and provider together, the processes played by hand."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest
import trio
import trio.testing
from harness import RecordedSink, a_call, a_target, an_attempt, cancel_at_every_checkpoint
from hosting import CONFIG, house
from msgspec.structs import replace

from aiorch.errors import ProviderError
from aiorch.protocol import Connection, Limits, Request, Response
from aiorchd.calls.host_model import HostModel, HostOffer
from aiorchd.config.schema import Concurrency, Timeouts
from aiorchd.doors.callbacks import Callbacks
from aiorchd.doors.outbox import Outbox
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.providers.host import HostProvider
from aiorchd.runtime.host_models import HostModels


async def test_a_registered_model_is_asked_like_any_other() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        told = await host.call(
            "models.register", name="mine", input_usd_per_1m=1.0, output_usd_per_1m=10.0, context_tokens=1000
        )
        assert told == {"registered": ["mine"]}
        asked = await caller.ask("complete", prompt="hi", model="mine", max_tokens=5, timeout_s=7)
        question = await host.next_request()
        assert question.method == "host.complete"
        fields = question.params[0]
        assert fields["model"] == "mine"
        assert fields["messages"] == [{"role": "user", "content": "hi"}]
        assert fields["max_tokens"] == 5
        assert fields["deadline_s"] == pytest.approx(7, abs=0.1)
        assert "msgid" not in fields
        await host.answer(question, {"text": "ho", "usage": {"input": 1000, "output": 100}})
        reply = (await caller.response(asked)).result
        assert (reply["text"], reply["model"], reply["provider"], reply["finish_reason"]) == (
            "ho",
            "mine",
            "host",
            "stop",
        )
        assert reply["cost_usd"] == pytest.approx(0.002)
        assert fields["request_id"] == reply["id"]
        assert (reply["attempts"], reply["cache"]) == (1, "miss")
        [record] = it.records
        assert (record.model, record.provider, record.attempts) == ("mine", "host", 1)


async def test_what_it_said_is_kept_within_its_own_user() -> None:
    async with house() as it, it.peer(1) as host, it.peer(1) as friend, it.peer(2) as stranger, it.peer(2) as other:
        await host.call("models.register", name="mine")
        await other.call("models.register", name="mine")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.serve, lambda _: "first")
            nursery.start_soon(other.serve, lambda _: "second")
            assert (await friend.call("complete", prompt="q", model="mine"))["text"] == "first"
            again = await friend.call("complete", prompt="q", model="mine")
            assert (again["text"], again["cache"]) == ("first", "exact")
            theirs = await stranger.call("complete", prompt="q", model="mine")
            assert (theirs["text"], theirs["cache"]) == ("second", "miss")
            nursery.cancel_scope.cancel()


async def test_nobody_else_sees_it() -> None:
    async with house() as it, it.peer(1) as host, it.peer(2) as stranger:
        await host.call("models.register", name="mine")
        assert await host.call("models.list") == [{"name": "mine", "connections": 1}]
        assert await stranger.call("models.list") == []
        error = await stranger.error("complete", prompt="q", model="mine")
        assert error.startswith("unknown_model: there is no model 'mine'")
        assert "mine" not in repr(it.pipeline.statistics())


async def test_it_never_stands_in_for_a_configured_one() -> None:
    async with house() as it, it.peer() as host:
        error = await host.error("models.register", names=["mine", "small"])
        assert error.startswith("invalid_request: name: the model 'small' is configured")
        assert it.host_models.statistics().models == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "name: give name"),
        ({"name": "a", "names": ["b"]}, "name: give name, or names"),
        ({"name": ""}, "name: must be text without"),
        ({"name": "a b"}, "name: must be text without"),
        ({"name": "a\x07"}, "name: must be text without"),
        ({"name": 5}, "name: must be text"),
        ({"names": []}, "names: must be a list"),
        ({"names": ["a", None]}, "names[1]: must be text"),
        ({"name": "a", "input_usd_per_1m": -1}, "input_usd_per_1m: must be between 0"),
        ({"name": "a", "output_usd_per_1m": float("nan")}, "output_usd_per_1m: must be a finite number"),
        ({"name": "a", "max_concurrency": 0}, "max_concurrency: must be between 1"),
        ({"name": "a", "max_concurrency": 1.5}, "max_concurrency: must be a whole number"),
        ({"name": "a", "requests_per_minute": "many"}, "requests_per_minute: must be a finite number"),
        ({"name": "a", "fallback": ["nope"]}, "fallback: no model 'nope' is configured"),
        ({"name": "a", "fallback": "small"}, "fallback: must be a list"),
        ({"name": "a", "host": "call_me"}, "host: must be true, or an array"),
        ({"name": "a", "price": 1}, "price: no such argument"),
        (
            {"name": "ours", "input_usd_per_1m": 1},
            "input_usd_per_1m: the model 'ours' is configured with the dialect host",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(arguments: dict[str, Any], said: str) -> None:
    async with house() as it, it.peer() as host:
        assert (await host.error("models.register", **arguments)).startswith(f"invalid_request: {said}")
        assert it.host_models.statistics().models == 0


async def test_a_thousand_names_are_too_many() -> None:
    async with house() as it, it.peer() as host:
        error = await host.error("models.register", names=[f"m{i}" for i in range(1000)])
        assert error.startswith("too_large: names: one connection registers at most 100 models")
        await host.call("models.register", names=[f"m{i}" for i in range(100)])
        assert (await host.error("models.register", name="m100")).startswith("too_large")
        await host.call("models.register", name="m7", input_usd_per_1m=1.0)  # one it has
        assert it.host_models.statistics().models == 100


async def test_it_goes_with_the_last_connection_and_turns_are_taken() -> None:
    async with house() as it, it.peer() as caller, it.peer() as one:
        await one.call("models.register", name="mine")
        async with it.peer() as two:
            await two.call("models.register", name="mine")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.serve, lambda _: "one")
                nursery.start_soon(two.serve, lambda _: "two")
                said = [(await caller.call("complete", prompt=f"{i}", model="mine"))["text"] for i in range(4)]
                assert sorted(said) == ["one", "one", "two", "two"]
                nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.serve, lambda _: "one")
            assert (await caller.call("complete", prompt="5", model="mine"))["text"] == "one"
            nursery.cancel_scope.cancel()
        assert await one.call("models.remove", name="mine") == {"removed": ["mine"]}
        assert (await caller.error("complete", prompt="6", model="mine")).startswith("unknown_model")
        assert (await one.error("models.remove", name="mine")).startswith("not_found")
        assert it.pipeline._lasting.own == {}


async def test_a_busy_connection_is_spared() -> None:
    async with house() as it, it.peer() as caller, it.peer() as one, it.peer() as two:
        for host in (one, two):
            await host.call("models.register", name="mine")
        for number in range(2):
            await caller.ask("complete", prompt=f"{number}", model="mine")
        slow, quick = await one.next_request(), await two.next_request()
        await two.answer(quick, "quick")
        for number in range(2, 5):
            asked = await caller.ask("complete", prompt=f"{number}", model="mine")
            await two.answer(await two.next_request(), "quick")
            assert (await caller.response(asked)).result["text"] == "quick"
        await one.answer(slow, "slow")


async def test_a_caller_who_leaves_cancels_the_work() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="hi", model="mine")
        question = await host.next_request()
        before = trio.current_time()
        await caller.cancel(asked)
        told = await host.notified("cancel")
        assert told.params == [{"msgid": question.msgid}]
        assert trio.current_time() - before < 0.1
        assert (await caller.response(asked)).error[1].startswith("cancelled")
        await host.answer(question, "too late")  # ignored
        assert await host.call("ping") == "pong"


async def test_a_caller_whose_connection_goes_cancels_the_work() -> None:
    async with house() as it, it.peer() as host:
        await host.call("models.register", name="mine")
        async with it.peer() as caller:
            await caller.ask("complete", prompt="hi", model="mine")
            question = await host.next_request()
        assert (await host.notified("cancel")).params == [{"msgid": question.msgid}]


async def test_a_lost_connection_is_tried_again_elsewhere() -> None:
    async with house() as it, it.peer() as caller, it.peer() as second:
        async with it.peer() as first:
            await first.call("models.register", name="mine")
            asked = await caller.ask("complete", prompt="hi", model="mine")
            await first.next_request()
            await second.call("models.register", name="mine")
        await second.answer(await second.next_request(), "rescued")
        reply = (await caller.response(asked)).result
        assert (reply["text"], reply["attempts"]) == ("rescued", 2)


async def test_a_lost_connection_without_another_ends_the_call() -> None:
    async with house() as it, it.peer() as caller:
        async with it.peer() as host:
            await host.call("models.register", name="mine")
            asked = await caller.ask("complete", prompt="hi", model="mine")
            await host.next_request()
        error = (await caller.response(asked)).error[1]
        assert error.startswith("host_error: the connection of the process that answered for mine was lost")


async def test_a_slow_host_is_given_up() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="hi", model="mine", timeout_s=3)
        question = await host.next_request()
        assert (await caller.response(asked)).error[1].startswith("deadline_exceeded: no answer within 3 s")
        assert (await host.notified("cancel")).params == [{"msgid": question.msgid}]


async def test_no_attempt_takes_longer_than_attempts_may() -> None:
    config = replace(CONFIG, timeouts=Timeouts(attempt_s=2.0))
    async with house(config) as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine", fallback=["small"])
        asked = await caller.ask("complete", prompt="hi", model="mine")
        assert (await host.next_request()).params[0]["deadline_s"] == pytest.approx(2.0)
        assert (await caller.response(asked)).result["text"] == "configured small"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "the answer must be a map"),
        (5, "the answer must be a map"),
        (["x"], "the answer must be a map"),
        ({}, "the answer is empty"),
        ("", "the answer is empty"),
        ({"text": ""}, "the answer is empty"),
        ({"text": 5}, "text must be text"),
        ({"answer": "x"}, "the answer has a field 'answer'"),
        ({"text": "x", "usage": 5}, "usage must be a map"),
        ({"text": "x", "usage": {"input": -1}}, "usage.input must be a whole number"),
        ({"text": "x", "usage": {"input": 1.5}}, "usage.input must be a whole number"),
        ({"text": "x", "usage": {"output": 10**15}}, "usage.output must be a whole number"),
        ({"text": "x", "usage": {"prompt_tokens": 1}}, "usage has a field 'prompt_tokens'"),
        ({"text": "x", "finish_reason": 1}, "finish_reason must be a short text"),
        ({"text": "x", "tool_calls": [1]}, "tool_calls must be a list of maps"),
        ({"data": b"bytes"}, "the answer holds bytes"),
        ({"data": float("nan")}, "data holds a number"),
        ({"data": msgpack.unpackb(b"\x91" * 80 + b"\xc0")}, "the answer is nested deeper"),
    ],
)
async def test_nonsense_is_not_believed(answer: Any, said: str) -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="a secret prompt", model="mine")
        await host.answer(await host.next_request(), answer)
        error = (await caller.response(asked)).error[1]
        assert error.startswith(f"host_error: mine: {said}")
        assert "secret" not in error


async def test_a_hundred_megabytes_cost_their_sender_the_connection() -> None:
    async with house() as it, it.peer() as caller, it.peer() as host:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="hi", model="mine")
        question = await host.next_request()
        with pytest.raises(trio.BrokenResourceError):
            await host.stream.send_all(
                b"\x94\x01" + msgpack.packb(question.msgid) + b"\xc0\x81\xa4text\xdb" + (100 << 20).to_bytes(4, "big")
            )
            for _ in range(100):
                await host.stream.send_all(b"x" * (1 << 20))
        assert (await caller.response(asked)).error[1].startswith("host_error: the connection of the process")
        assert it.host_models.statistics().models == 0


async def test_errors_of_a_host_keep_their_codes_as_far_as_they_may() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        for number, (error, said) in enumerate(
            [
                ({"code": "content_filtered", "message": "no"}, "content_filtered: mine: no"),
                ([0, "host_error: ValueError: bad"], "host_error: mine: ValueError: bad"),
                ({"code": "forbidden", "message": "you are not root"}, "host_error: mine: you are not root"),
                ({"code": "made_up", "message": "?"}, "host_error: mine: ?"),
                ("gibberish", "host_error: mine: gibberish"),
            ]
        ):
            asked = await caller.ask("complete", prompt=f"{number}", model="mine")
            await host.fail(await host.next_request(), error)
            assert (await caller.response(asked)).error[1] == said


async def test_a_host_that_says_not_now_is_asked_again() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="hi", model="mine")
        await host.fail(
            await host.next_request(),
            {"code": "rate_limited", "message": "slow", "retryable": True, "retry_after_s": 2.0},
        )
        before = trio.current_time()
        await host.answer(await host.next_request(), "at last")
        assert trio.current_time() - before >= 2.0
        assert (await caller.response(asked)).result["attempts"] == 2


async def test_it_falls_back_as_the_configuration_says_unless_it_says_otherwise() -> None:
    async with house(fallback=("large",)) as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="1", model="mine")
        await host.fail(await host.next_request(), [0, "host_error: broken"])
        reply = (await caller.response(asked)).result
        assert (reply["text"], reply["attempts"]) == ("configured large", 2)
        await host.call("models.register", name="private", fallback=[])
        asked = await caller.ask("complete", prompt="2", model="private")
        await host.fail(await host.next_request(), [0, "host_error: broken"])
        assert (await caller.response(asked)).error[1] == "host_error: private: broken"


async def test_its_limits_hold() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine", max_concurrency=2)
        asked = [await caller.ask("complete", prompt=f"{i}", model="mine") for i in range(3)]
        first, second = await host.next_request(), await host.next_request()
        await trio.testing.wait_all_tasks_blocked()
        assert host.session.callbacks.asked == 2
        await host.answer(first, "1")
        await host.answer(await host.next_request(), "3")
        await host.answer(second, "2")
        for one in asked:
            assert (await caller.response(one)).error is None


async def test_one_connection_has_so_many_questions_open_and_no_more() -> None:
    limits = SessionLimits(Limits(), max_host_calls=2)
    config = replace(CONFIG, concurrency=Concurrency(max=10))
    async with house(config) as it, it.peer(limits=limits) as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = [await caller.ask("complete", prompt=f"{i}", model="mine") for i in range(3)]
        questions = [await host.next_request(), await host.next_request()]
        refused = await caller._find(lambda event: getattr(event, "error", None) is not None)
        assert refused.error[1].startswith("overloaded: the process that answers for it has 2 questions open")
        for question in questions:
            await host.answer(question, "ok")
        for one in asked:
            if one != refused.msgid:
                assert (await caller.response(one)).error is None


async def test_a_streamed_answer_is_one_piece() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="hi", model="mine", stream=True, call_id="s")
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        await host.answer(await host.next_request(), {"text": "the whole", "tool_calls": [call]})
        assert (await caller.notified("delta")).params == [{"call_id": "s", "index": 0, "text": "the whole"}]
        assert (await caller.notified("delta")).params[0]["tool_calls"] == [{"index": 0, **call}]
        assert (await caller.response(asked)).result["text"] == "the whole"


async def test_data_is_an_answer_too() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="hi", model="mine", output_schema={"type": "object"})
        question = await host.next_request()
        assert question.params[0]["output_schema"] == {"type": "object"}
        await host.answer(question, {"data": {"a": "ä"}})
        reply = (await caller.response(asked)).result
        assert (reply["data"], reply["text"], reply["validation"]["ok"]) == ({"a": "ä"}, '{"a": "ä"}', True)


async def test_unknown_usage_is_unknown_money_unless_it_is_free() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="dear", input_usd_per_1m=1.0, output_usd_per_1m=1.0)
        await host.call("models.register", name="free", input_usd_per_1m=0, output_usd_per_1m=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.serve, lambda _: "ok")
            assert (await caller.call("complete", prompt="1", model="dear"))["cost_usd"] is None
            assert (await caller.call("complete", prompt="1", model="free"))["cost_usd"] == 0.0
            nursery.cancel_scope.cancel()


async def test_another_version_answers_anew() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.serve, lambda _: "ok")
            for version, expected in (("1", "miss"), ("1", "exact"), ("2", "miss")):
                asking = await host.ask("models.register", name="mine", version=version)
                with trio.move_on_after(1):
                    while not any(getattr(event, "msgid", None) == asking for event in host.events):
                        await trio.sleep(0.01)
                assert (await caller.call("complete", prompt="q", model="mine"))["cache"] == expected
            nursery.cancel_scope.cancel()


# --- a configured name


async def test_a_configured_name_is_served_by_who_registers_for_it() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller, it.peer(2) as stranger:
        error = await caller.error("complete", prompt="0", model="ours")
        assert error.startswith("no_models: no process of your user answers for the model ours: register a function")
        await host.call("models.register", name="ours")
        asked = await caller.ask("complete", prompt="1", model="ours")
        question = await host.next_request()
        assert question.params[0]["model"] == "ours-1"
        await host.answer(question, {"text": "ok", "usage": {"input": 1_000_000}})
        reply = (await caller.response(asked)).result
        assert (reply["provider"], reply["cost_usd"]) == ("ours", 2.0)
        assert (await stranger.error("complete", prompt="1", model="ours")).startswith("no_models")
        assert await host.call("models.list") == []  # it is in everybody's list already


async def test_nobody_there_falls_back_and_does_not_make_it_sick() -> None:
    async with house(fallback=("large",)) as it, it.peer() as caller:
        for number in range(30):
            assert (await caller.call("complete", prompt=f"{number}", model="ours"))["text"] == "configured large"
        async with it.peer() as host:
            await host.call("models.register", name="ours")
            asked = await caller.ask("complete", prompt="now", model="ours")
            await host.answer(await host.next_request(), "here")
            assert (await caller.response(asked)).result["text"] == "here"


# --- with the call


async def test_who_asks_may_answer() -> None:
    async with house() as it, it.peer() as caller:
        asked = await caller.ask("complete", prompt="hi", model="anything", host=True, call_id="c1")
        question = await caller.next_request()
        assert question.params[0]["msgid"] == asked
        assert question.params[0]["call_id"] == "c1"
        assert question.params[0]["model"] == "anything"
        await caller.answer(question, "my own")
        reply = (await caller.response(asked)).result
        assert (reply["text"], reply["model"], reply["provider"]) == ("my own", "anything", "host")
        again = await caller.call("complete", prompt="hi", model="anything", host=True)
        assert (again["text"], again["cache"]) == ("my own", "exact")


async def test_a_configured_name_keeps_its_price_and_its_answers_apart() -> None:
    async with house(fallback=("large",)) as it, it.peer() as caller:
        assert (await caller.call("complete", prompt="q"))["text"] == "configured small"
        asked = await caller.ask("complete", prompt="q", host=True)  # no name: the first of the configuration
        await caller.answer(await caller.next_request(), {"text": "my own", "usage": {"input": 1_000_000}})
        reply = (await caller.response(asked)).result
        assert (reply["text"], reply["model"], reply["cost_usd"], reply["cache"]) == ("my own", "small", 1.0, "miss")
        assert (await caller.call("complete", prompt="q"))["text"] == "configured small"
        asked = await caller.ask("complete", prompt="r", host=True)
        await caller.fail(await caller.next_request(), [0, "host_error: no"])
        assert (await caller.response(asked)).error[1] == "host_error: small: no"  # what failed stays at home


async def test_questions_go_to_who_asked_them() -> None:
    async with house() as it, it.peer() as one, it.peer() as two:
        first = await one.ask("complete", prompt="1", model="m", host=True)
        second = await two.ask("complete", prompt="2", model="m", host=True)
        await one.answer(await one.next_request(), "by one")
        await two.answer(await two.next_request(), "by two")
        assert (await one.response(first)).result["text"] == "by one"
        assert (await two.response(second)).result["text"] == "by two"


async def test_who_shares_a_call_goes_on_when_the_first_has_gone() -> None:
    async with house() as it, it.peer() as second:
        async with it.peer() as first:
            await first.ask("complete", prompt="q", model="m", host=True)
            await first.next_request()
            asked = await second.ask("complete", prompt="q", model="m", host=True)
            await trio.testing.wait_all_tasks_blocked()
        await second.answer(await second.next_request(), "by two")
        assert (await second.response(asked)).result["text"] == "by two"


async def test_an_editor_is_asked_by_a_method_of_its_own() -> None:
    async with house() as it, it.peer() as editor:
        asked = await editor.ask("complete", prompt="q", model="m", host=["nvim_exec_lua", "return Answer(...)"])
        question = await editor.next_request()
        assert question.method == "nvim_exec_lua"
        code, arguments = question.params
        assert code == "return Answer(...)"
        assert arguments[0]["model"] == "m"
        await editor.answer(question, {"text": "from Lua"})
        assert (await editor.response(asked)).result["text"] == "from Lua"


async def test_a_connection_that_answers_is_read_from_however_much_it_asks() -> None:
    limits = SessionLimits(Limits(), max_in_flight=2)
    config = replace(CONFIG, concurrency=Concurrency(max=2))
    async with house(config) as it, it.peer(limits=limits) as peer:
        asked = [await peer.ask("complete", prompt=f"{i}", model="m", host=True) for i in range(6)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.serve, lambda question: question["messages"][0]["content"])
            for number, one in enumerate(asked):
                while not any(getattr(event, "msgid", None) == one for event in peer.events):
                    await trio.sleep(0.01)
                assert (await peer.response(one)).result["text"] == f"{number}"
            nursery.cancel_scope.cancel()


async def test_what_waits_on_such_a_connection_can_be_cancelled_and_is_bounded() -> None:
    limits = SessionLimits(Limits(), max_in_flight=1)
    async with house() as it, it.peer(limits=limits) as peer:
        running = await peer.ask("complete", prompt="0", model="m", host=True)
        question = await peer.next_request()
        waiting = await peer.ask("complete", prompt="1", model="m", host=True)
        await peer.cancel(waiting)
        assert (await peer.response(waiting)).error[1].startswith("cancelled")
        calls = [await peer.ask("complete", prompt=f"2 {i}", model="m", host=True) for i in range(17)]
        assert (await peer.response(calls[16])).error[1].startswith("overloaded")
        assert await peer.call("ping") == "pong"  # has a place of its own
        await peer.answer(question, "done")
        assert (await peer.response(running)).result["text"] == "done"
        for call in calls[:16]:
            await peer.answer(await peer.next_request(), "done")
            assert (await peer.response(call)).result["text"] == "done"


async def test_a_goodbye_waits_for_what_the_host_was_asked() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="hi", model="mine")
        question = await host.next_request()
        for peer in (host, caller):
            peer.session.say_going_away(5.0)
        await trio.testing.wait_all_tasks_blocked()
        await host.answer(question, "in time")
        assert (await caller.response(asked)).result["text"] == "in time"


async def test_a_host_stays_until_the_last_call_has_come_to_it() -> None:
    """A call may wait for its turn while the daemon is told to stop, and come to its model only then."""
    async with house() as it, it.peer() as host, it.peer() as caller, it.peer() as other:
        await host.call("models.register", name="mine", max_concurrency=1)
        first = await caller.ask("complete", prompt="first", model="mine")
        question = await host.next_request()
        second = await other.ask("complete", prompt="second", model="mine")
        await trio.testing.wait_all_tasks_blocked()
        it.say_going_away()
        await host.answer(question, "done")
        assert (await caller.response(first)).result["text"] == "done"
        assert await caller.closed()
        await host.answer(await host.next_request(), "done, too")
        assert (await other.response(second)).result["text"] == "done, too"
        assert await other.closed()
        assert await host.closed()


async def test_a_host_goes_at_once_when_nothing_is_worked_on_and_with_the_last_caller() -> None:
    async with house() as it, it.peer() as host, it.peer() as idle:
        await host.call("models.register", name="mine")
        it.say_going_away()
        assert await host.closed()
        assert await idle.closed()
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine", max_concurrency=1)
        for number in range(2):
            await caller.ask("complete", prompt=f"{number}", model="mine")
        await host.next_request()
        it.say_going_away()
        await caller.stream.aclose()
        assert await host.closed()


# --- a daemon that has just been started


async def test_a_call_waits_for_who_had_registered_with_the_daemon_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        it.host_models.return_s = 5.0
        it.host_models.expect([(1000, "mine"), (1000, "ours")], trio.current_time())
        asked = [await caller.ask("complete", prompt="q", model=name) for name in ("mine", "ours")]
        await trio.sleep(4)
        await host.call("models.register", names=["mine", "ours"])
        for question in (await host.next_request(), await host.next_request()):
            await host.answer(question, question.params[0]["model"])
        assert [(await caller.response(number)).result["text"] for number in asked] == ["mine", "ours-1"]
        again = await caller.call("complete", prompt="q", model="mine")
        assert (again["text"], again["cache"]) == ("mine", "exact"), "it is kept as any answer of that model"
        assert "waited 4 s for a process that answered for mine" in repr(it.records)


async def test_it_waits_no_longer_than_that_and_for_nobody_else(autojump_clock: trio.testing.MockClock) -> None:
    async with house() as it, it.peer() as caller, it.peer(uid=7) as stranger:
        it.host_models.return_s = 5.0
        it.host_models.expect([(1000, "mine"), (1000, "ours"), (1000, "small")], began := trio.current_time())
        for peer, name in ((caller, "other"), (stranger, "mine")):
            assert (await peer.error("complete", prompt="q", model=name)).startswith("unknown_model")
        assert (await stranger.error("complete", prompt="q", model="ours")).startswith("no_models")
        assert (await caller.call("complete", prompt="q", model="small"))["text"] == "configured small"
        assert trio.current_time() == began
        assert (await caller.error("complete", prompt="q", model="mine")).startswith("unknown_model")
        assert trio.current_time() == began + 5
        assert (await caller.error("complete", prompt="q", model="mine")).startswith("unknown_model")
        assert (await caller.error("complete", prompt="q", model="ours")).startswith("no_models")
        assert trio.current_time() == began + 5
        it.host_models.return_s = 7.0
        assert (await caller.error("complete", prompt="q", model="ours")).startswith("no_models")
        assert trio.current_time() == began + 7, "it is looked at anew for each call"


async def test_who_waits_for_one_can_leave_and_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with house() as it, it.peer() as caller:
        it.host_models.return_s = 500.0
        it.host_models.expect([(1000, "mine")], trio.current_time())
        asked = await caller.ask("complete", prompt="q", model="mine")
        await trio.testing.wait_all_tasks_blocked()
        await caller.cancel(asked)
        assert (await caller.response(asked)).error[1].startswith("cancelled")
        began = trio.current_time()
        error = await caller.error("complete", prompt="q", model="mine", timeout_s=3.0)
        assert error.startswith("deadline_exceeded")
        assert trio.current_time() == began + 3


async def test_one_that_comes_with_the_call_does_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    async with house() as it, it.peer() as host:
        it.host_models.return_s = 500.0
        it.host_models.expect([(1000, "mine")], began := trio.current_time())
        asked = await host.ask("complete", prompt="q", model="mine", host=True)
        await host.answer(await host.next_request(), "mine")
        assert (await host.response(asked)).result["text"] == "mine"
        assert trio.current_time() == began


async def test_every_change_in_who_answers_is_told() -> None:
    told: list[list[tuple[int, str]]] = []
    async with house() as it:
        it.host_models.on_changed = lambda: told.append(it.host_models.places())
        async with it.peer() as host:
            await host.call("models.register", names=["a", "b"])
            await host.call("models.remove", name="a")
            assert told == [[(1000, "a"), (1000, "b")], [(1000, "b")]]
        assert told[-1] == []


async def test_what_is_registered_anew_holds_at_once_also_for_who_waits() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine", max_concurrency=1, input_usd_per_1m=1.0, output_usd_per_1m=1.0)
        asked = [await caller.ask("complete", prompt=f"{i}", model="mine") for i in range(2)]
        first = await host.next_request()
        await trio.testing.wait_all_tasks_blocked()
        assert host.session.callbacks.asked == 1
        await host.call("models.register", name="mine", max_concurrency=3, input_usd_per_1m=5.0, output_usd_per_1m=5.0)
        asked.append(await caller.ask("complete", prompt="2", model="mine"))
        second, third = await host.next_request(), await host.next_request()
        for question in (first, second, third):
            await host.answer(question, {"text": "x", "usage": {"input": 1_000_000}})
        costs = [(await caller.response(one)).result["cost_usd"] for one in asked]
        assert costs[2] == 5.0


async def test_limits_are_shown_to_their_owner() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        asked = await caller.ask("complete", prompt="q", model="mine")
        question = await host.next_request()
        for uid, names in ((1000, ["mine"]), (None, ["mine"]), (2000, [])):
            assert [row["model"] for row in it.pipeline.limits(uid) if row["provider"] == "host"] == names
        await host.answer(question, "x")
        assert (await caller.response(asked)).error is None


async def test_vectors_are_none_of_its_business() -> None:
    async with house() as it, it.peer() as host:
        await host.call("models.register", name="mine", fallback=[])
        error = await host.error("embed", input=["a"], model="mine")
        assert error == "unknown_model: mine is answered for by a process of the host, which makes no vectors"


@pytest.mark.parametrize("streamed", [False, True])
async def test_cancelled_at_any_checkpoint_nothing_is_held(streamed: bool) -> None:
    """One attempt, from the provider over a real connection to the process and back."""

    def scenario(nursery: trio.Nursery) -> tuple[tuple[HostModels, Callbacks], Callable[[], Awaitable[Any]]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        for end in (ours, theirs):
            end.setblocking(False)
        wire, outbox = Connection(), Outbox(ours, max_pending_bytes=10, stall_s=5.0)
        callbacks, directory = Callbacks(wire, outbox, at_most=1), HostModels()
        directory.register(1000, [HostModel(name="mine")], HostOffer(callbacks), at_most=1)

        async def host() -> None:
            peer = Connection()
            try:
                while True:
                    await trio.lowlevel.wait_readable(theirs)
                    for event in peer.receive_data(theirs.recv(65536)):
                        if isinstance(event, Request):
                            await trio.sleep(1)
                            theirs.send(Connection.pack_result(event.msgid, {"text": "ok"}))
            finally:
                theirs.close()

        async def session() -> None:
            try:
                while True:
                    await trio.lowlevel.wait_readable(ours)
                    for event in wire.receive_data(ours.recv(65536)):
                        if isinstance(event, Response):
                            callbacks.take(event)
            finally:
                ours.close()

        nursery.start_soon(host)
        nursery.start_soon(session)
        nursery.start_soon(outbox.drain)
        call = a_call(sink=RecordedSink() if streamed else None)
        attempt = an_attempt(call, a_target("mine"))
        provider = HostProvider("host", directory, attempt_s=60.0)
        return (directory, callbacks), lambda: provider.chat(attempt)

    def idle(subject: tuple[HostModels, Callbacks]) -> None:
        directory, callbacks = subject
        assert callbacks.asked == 0
        assert directory.statistics().offered == 0

    assert await cancel_at_every_checkpoint(scenario, idle, at_least=3) >= 3


async def test_a_caller_who_leaves_at_any_moment_leaves_nothing_behind() -> None:
    for moment in range(1, 12):
        async with house() as it, it.peer() as host, it.peer() as caller:
            await host.call("models.register", name="mine")
            asked = await caller.ask("complete", prompt="hi", model="mine")
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            if moment % 2:
                await caller.cancel(asked)
            else:
                caller.session.cut()
            await trio.testing.wait_all_tasks_blocked()
            it.assert_idle()
            assert host.session.callbacks.asked == 0


async def test_a_configured_model_that_fails_never_goes_to_a_registered_one() -> None:
    async with house() as it, it.peer() as host, it.peer() as caller:
        await host.call("models.register", name="mine")
        it.provider.failing = ProviderError("down", retryable=False)
        assert (await caller.error("complete", prompt="q", model="small")).startswith("provider_error")
        assert host.session.callbacks.asked == 0
