"""Keys: which key is used, who is set aside, another one at once, and what is told when none is left."""

from __future__ import annotations

import pytest
import trio
from harness import InnerService, a_call, a_reply, an_attempt, ask, cancel_at_every_checkpoint

from aiorch.errors import ProviderAuth, ProviderError, RateLimited
from aiorchd.calls.call import AttemptBudget
from aiorchd.core.backoff import Backoff
from aiorchd.core.circuit_breaker import BreakerPolicy, CircuitBreaker, Outcome
from aiorchd.core.key_ring import ASIDE_S, KeyRing
from aiorchd.stages.keys import Keys, KeyWay
from aiorchd.stages.retry import Retry


class Log:
    def __init__(self):
        self.told = []

    def warning(self, event, /, **fields):
        self.told.append((event, fields["key"]))

    def info(self, event, /, **fields):
        self.told.append((event, fields["key"]))


class Wait:
    """A turnstile that tells a wait."""

    def __init__(self):
        self.seconds = 0.0

    def wait_s(self, now, tokens):
        return self.seconds


class Scene:
    def __init__(self, *names, problems=()):
        self.inners = {name: InnerService() for name in names}
        self.waits = {name: Wait() for name in names}
        self.breakers = {name: CircuitBreaker(BreakerPolicy(min_calls=1)) for name in names}
        self.ring = KeyRing()
        self.ring.reconfigure(dict.fromkeys(names, b""))
        self.log = Log()
        self.keys = Keys(
            "main",
            [
                KeyWay(
                    name,
                    f"environment variable {name}",
                    "it is not set" if name in problems else "",
                    self.inners[name],
                    self.waits[name],
                    self.breakers[name],
                )
                for name in names
            ],
            self.ring,
            self.log,
        )
        self.service = Retry(self.keys, Backoff((1.0,), uniform=lambda: 0.5))
        for name in names:
            self.answers(name)

    def answers(self, name, what=None):
        self.inners[name].answer = lambda attempt: what.again() if what is not None else a_reply(name)

    async def ask(self, **fields):
        limit = fields.pop("limit", 4)
        call = fields.pop("call", None) or a_call(**fields)
        return (await self.service(an_attempt(call, budget=AttemptBudget(limit)))).text


async def test_equals_take_turns(autojump_clock):
    it = Scene("A", "B", "C")
    assert [await it.ask() for _ in range(6)] == ["A", "B", "C", "A", "B", "C"]


async def test_who_can_start_soonest_is_used(autojump_clock):
    it = Scene("A", "B")
    it.waits["A"].seconds = 0.5
    assert [await it.ask() for _ in range(3)] == ["B", "B", "B"]
    it.waits["B"].seconds = 2.0
    assert await it.ask() == "A"


async def test_who_is_sick_is_used_last(autojump_clock):
    it = Scene("A", "B")
    it.breakers["A"].settle(it.breakers["A"].admit(0.0), 0.0, Outcome.FAILED)
    assert [await it.ask() for _ in range(3)] == ["B", "B", "B"]


async def test_a_session_keeps_to_one_key_while_that_costs_no_time(autojump_clock):
    it = Scene("A", "B", "C")
    [mine] = {await it.ask(session="s1") for _ in range(5)}
    assert {await it.ask(session=f"s{number}") for number in range(30)} == {"A", "B", "C"}
    it.waits[mine].seconds = 1.0
    assert await it.ask(session="s1") != mine


async def test_when_a_key_is_set_aside_its_sessions_each_keep_to_one_other_and_those_of_others_stay(autojump_clock):
    it = Scene("A", "B", "C")
    names = [f"s{number}" for number in range(30)]
    before = {name: await it.ask(session=name) for name in names}
    it.answers("A", ProviderAuth("main refused the key (401)", details={"status": 401}))
    await it.ask(session=next(name for name in names if before[name] == "A"))
    after = {}
    for name in names:
        [after[name]] = {await it.ask(session=name) for _ in range(3)}
    assert [after[name] for name in names if before[name] != "A"] == [key for key in before.values() if key != "A"]
    assert {after[name] for name in names if before[name] == "A"} == {"B", "C"}


async def test_a_refused_key_is_set_aside_and_another_one_is_asked_at_once(autojump_clock):
    it = Scene("A", "B")
    it.answers("A", ProviderAuth("main refused the key (401)", details={"status": 401}))
    call = a_call()
    assert await it.ask(call=call, limit=1) == "B", "it costs no attempt"
    assert trio.current_time() == 0.0
    assert [(record.key, record.code) for record in call.journal.attempts] == [("A", "provider_auth"), ("B", None)]
    assert call.journal.notes[0][2] == "main: the environment variable A was refused; trying another"
    assert [await it.ask() for _ in range(4)] == ["B"] * 4
    assert it.inners["A"].asked == 1
    assert it.log.told == [("key refused", "environment variable A")]
    it.answers("A")
    await trio.sleep(ASIDE_S)
    assert {await it.ask() for _ in range(2)} == {"A", "B"}
    assert it.log.told[1:] == [("key taken again", "environment variable A")]


async def test_a_key_that_may_not_use_this_model_may_use_others(autojump_clock):
    it = Scene("A", "B")
    it.answers("A", ProviderAuth("403", details={"status": 403}))
    assert await it.ask() == "B"
    [state, _] = it.keys.statistics().keys
    assert (state.trouble, state.models) == ("forbidden", ("small",))


async def test_a_key_without_credit_is_set_aside_and_the_call_goes_on(autojump_clock):
    it = Scene("A", "B")
    it.answers("A", RateLimited("insufficient_quota", retryable=False, details={"status": 429, "no_credit": True}))
    assert [await it.ask(limit=1) for _ in range(3)] == ["B"] * 3
    assert it.log.told == [("key has no credit", "environment variable A")]


async def test_a_throttled_key_gives_way_to_one_that_can_start_now(autojump_clock):
    it = Scene("A", "B")
    it.answers("A", RateLimited("slow down", retry_after_s=30.0))
    assert await it.ask() == "B"
    assert trio.current_time() == 0.0
    it.waits["B"].seconds = 5.0  # now there is nobody to go to, so it is waited for
    it.inners["A"].answer = lambda attempt: (
        a_reply("A") if trio.current_time() else RateLimited("x", retry_after_s=30.0)
    )
    assert await it.ask() == "A"
    assert trio.current_time() == 30.0


async def test_other_failures_stay_with_the_retries(autojump_clock):
    it = Scene("A", "B")
    it.answers("A", ProviderError("500"))
    assert await it.ask() == "B"
    assert trio.current_time() == 1.0, "after the usual wait, and then the other key's turn has come"
    assert it.keys.statistics().rotated == 0


async def test_when_none_is_left_it_is_said_what_to_do_and_nothing_is_sent(autojump_clock):
    it = Scene("A", "B", "C", problems=("C",))
    for name in "AB":
        it.answers(name, ProviderAuth("refused", details={"status": 401}))
    with pytest.raises(ProviderAuth):
        await it.ask()
    call = a_call()
    with pytest.raises(ProviderAuth) as caught:
        await it.ask(call=call)
    error = caught.value
    assert error.message == (
        "main: none of its 3 keys can be used: the environment variable A was refused; the environment variable B was "
        "refused; it is not set. Put a valid key at one of these places and restart the daemon (a systemd credential: "
        "reload it)"
    )
    assert (error.stage, error.details["sent"]) == ("keys", False)
    assert call.journal.attempts == []
    assert [it.inners[name].asked for name in "ABC"] == [1, 1, 0]


async def test_the_only_key_is_asked_as_ever_and_its_trouble_told(autojump_clock):
    it = Scene("A")
    it.answers("A", ProviderAuth("refused", details={"status": 401}))
    for _ in range(3):
        call = a_call()
        with pytest.raises(ProviderAuth):
            await it.ask(call=call)
        assert call.journal.attempts[0].key is None
    assert it.inners["A"].asked == 3
    assert it.keys.statistics().keys[0].trouble == "refused"
    assert len(it.log.told) == 1
    it.answers("A")
    assert await it.ask() == "A"
    assert it.keys.statistics().keys[0].trouble is None


async def test_a_key_that_is_not_there_is_not_asked_for_nor_told_as_refused(autojump_clock):
    it = Scene("A")
    it.answers("A", ProviderAuth("main has no key", details={"sent": False}))
    with pytest.raises(ProviderAuth):
        await it.ask()
    assert it.log.told == []


async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock):
    def scenario(nursery):
        it = Scene("A", "B")
        it.answers("A", ProviderAuth("refused", details={"status": 401}))

        async def run():
            assert await it.ask() == "B"
            it.inners["B"].answer = None
            asked = ask(nursery, it.service, an_attempt(a_call(), budget=AttemptBudget(4)))
            (await it.inners["B"].next()).reply()
            await asked.wait()

        return it, run

    def idle(it):
        waiting = it.inners["B"].in_flight  # asked in the nursery, which outlives the scenario
        assert it.keys.statistics().inside == waiting <= 1

    assert await cancel_at_every_checkpoint(scenario, idle) >= 4
