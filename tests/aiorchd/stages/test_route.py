"""Route: who is asked, who is asked next, and what the caller hears when nobody could answer."""

from __future__ import annotations

import pytest
import trio
from forgetting import forgotten_at_once
from harness import InnerService, RecordedSink, a_call, a_reply, a_target, a_usage, ask, cancel_at_every_checkpoint

from aiorch.errors import (
    BudgetExceeded,
    CallError,
    ContentFiltered,
    ContextExceeded,
    IncompleteStream,
    InvalidRequest,
    NoModels,
    Overloaded,
    ProviderAuth,
    ProviderError,
    RateLimited,
    UnknownModel,
)
from aiorchd.calls.answer import own_fields
from aiorchd.calls.bill import Bill
from aiorchd.core.backoff import Backoff
from aiorchd.core.fallback_chains import FallbackChains, Fallbacks
from aiorchd.core.token_estimate import TokenEstimator
from aiorchd.stages.retry import Retry
from aiorchd.stages.route import Route


def route(*names, fallback=(), max_attempts=4, retries=False, targets=None, general=None, own=None, **options):
    """A route to targets of these names, and what stands below each. With ``retries`` there is a Retry in between."""
    targets = targets or [a_target(name) for name in names]
    inners = {name: InnerService() for name in names}
    stacks = inners
    if retries:
        stacks = {name: Retry(inner, Backoff((1.0,), uniform=lambda: 0.5)) for name, inner in inners.items()}
    service = Route(
        stacks,
        targets,
        estimator=options.pop("estimator", TokenEstimator()),
        max_attempts=max_attempts,
        chains=FallbackChains(
            names,
            general or Fallbacks(tuple(fallback)),
            own or {},
            {target.name: target.context_tokens for target in targets if target.context_tokens is not None},
        ),
        **options,
    )
    return service, inners


def answering(inner, reply=None):
    inner.answer = lambda attempt: reply or a_reply(text=attempt.target.name)


def failing(inner, error):
    inner.answer = lambda attempt: error.again()


# --- who is asked --------------------------------------------------------------------------------------------------------


async def test_the_first_enabled_serves_who_names_none(autojump_clock):
    service, inners = route("small", "large")
    answering(inners["small"])
    answering(inners["large"])
    assert (await service(a_call())).text == "small"
    assert (await service(a_call(model="large"))).text == "large"
    assert service.statistics().answered_by == {"small": 1, "large": 1}


async def test_what_an_attempt_carries(autojump_clock):
    service, inners = route("small", fallback=["small"], max_attempts=3)
    async with trio.open_nursery() as nursery:
        call = a_call(
            "word " * 100, request={"messages": [{"role": "user", "content": "word " * 100}], "max_tokens": 50}
        )
        asked = ask(nursery, service, call)
        received = await inners["small"].next()
        attempt = received.request
        assert attempt.call is call
        assert attempt.target.name == "small"
        assert attempt.number == 1
        assert attempt.estimated_tokens == pytest.approx(125 + 4 + 50, abs=3)
        assert (attempt.budget.limit, attempt.budget.held_back) == (3, 0)
        received.reply()
        await asked.reply()


async def test_an_unknown_model_is_told_what_there_is(autojump_clock):
    service, _ = route("gpt-4o", "gpt-4o-mini", "claude", disabled=["gpt-3"])
    with pytest.raises(
        UnknownModel, match=r"there is no model 'gpt-4o-mni', did you mean gpt-4o-mini or gpt-4o"
    ) as caught:
        await service(a_call(model="gpt-4o-mni"))
    assert "aiorchctl models list" in caught.value.message
    assert caught.value.details["models"] == ["gpt-4o", "gpt-4o-mini", "claude"]
    with pytest.raises(UnknownModel, match="there is no model 'zzz'. Models: gpt-4o, gpt-4o-mini, claude"):
        await service(a_call(model="zzz"))
    with pytest.raises(UnknownModel, match="'gpt-3' is switched off"):
        await service(a_call(model="gpt-3"))


async def test_a_name_of_a_megabyte_costs_nothing_and_is_not_sent_back(autojump_clock):
    service, _ = route(*(f"model {k}" for k in range(100)))
    with pytest.raises(UnknownModel) as caught:
        await service(a_call(model="m" * 1_000_000))
    assert len(caught.value.message) < 1000
    assert len(caught.value.details["models"]) == 10


async def test_nothing_to_ask(autojump_clock):
    service, _ = route(disabled=["small"])
    with pytest.raises(NoModels, match="no AI models available"):
        await service(a_call())


async def test_a_model_that_is_switched_off_is_answered_by_the_fallback(autojump_clock):
    service, inners = route("large", fallback=["small", "large"], disabled=["small"])
    answering(inners["large"])
    call = a_call(model="small")
    assert (await service(call)).text == "large"
    assert call.journal.fallbacks == 1
    assert "small is switched off" in call.journal.notes[0][2]


async def test_every_target_needs_a_stack():
    with pytest.raises(ValueError, match="no stack for"):
        Route({}, [a_target("small")], estimator=TokenEstimator(), max_attempts=1)


# --- who is asked next ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("slow down"),
        ProviderError("broken"),
        ProviderAuth("key refused"),
        UnknownModel("the provider knows no such model"),
        Overloaded("1000 wait"),
        BudgetExceeded("spent"),
        ContextExceeded("too long"),
        ContentFiltered("withheld"),
    ],
)
async def test_falls_back_along_the_chain(autojump_clock, error):
    service, inners = route("small", "large", "huge", fallback=["small", "large"])
    failing(inners["small"], error)
    answering(inners["large"])
    call = a_call()
    reply = await service(call)
    assert reply.text == "large"
    assert inners["huge"].asked == 0
    assert call.journal.fallbacks == 1
    kind = {"context_exceeded": " (context window fallback)", "content_filtered": " (content filter fallback)"}
    told = f"small: {error.code}; asking large instead{kind.get(error.code, '')}"
    assert call.journal.notes == [(0.0, "route", told)]
    assert service.statistics().fallbacks == 1


async def test_each_target_once_and_no_unknown_ones(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b", "gone", "c", "b"], disabled=["gone"])
    asked = []
    for name, inner in inners.items():

        def answer(attempt, name=name):
            asked.append(name)
            return ProviderError("broken")

        inner.answer = answer
    for model, chain in ((None, ["a", "b", "c"]), ("c", ["c", "b"]), ("b", ["b", "c"])):
        asked.clear()
        with pytest.raises(ProviderError):
            await service(a_call(model=model))
        assert asked == chain


async def test_a_callers_mistake_ends_at_once(autojump_clock):
    service, inners = route("small", "large", fallback=["large"])
    failing(inners["small"], InvalidRequest("no messages"))
    with pytest.raises(InvalidRequest):
        await service(a_call())
    assert inners["large"].asked == 0


async def test_a_prompt_that_is_surely_too_long_is_not_sent(autojump_clock):
    targets = [a_target("small", context_tokens=100), a_target("large", context_tokens=100_000)]
    service, inners = route("small", "large", targets=targets)
    with pytest.raises(ContextExceeded, match="small takes 100") as caught:
        await service(a_call("word " * 1000))
    assert caught.value.details["attempts"] == [
        {
            "model": "small",
            "provider": "main",
            "sent": False,
            "code": "context_exceeded",
            "message": caught.value.message,
        }
    ]
    assert inners["small"].asked == 0
    answering(inners["small"])
    await service(a_call("word " * 90))  # about 117 tokens: perhaps too long, the provider decides
    service, inners = route("small", "large", targets=targets, fallback=["large"])
    answering(inners["large"])
    assert (await service(a_call("word " * 1000))).text == "large"


async def test_once_content_is_out_there_is_no_way_back(autojump_clock):
    service, inners = route("small", "large", fallback=["large"])
    sink = RecordedSink()

    async def half(attempt):
        await sink.send(text="half an ")
        return ProviderError("connection cut", details={"status": 200})

    inners["small"].answer = half
    with pytest.raises(IncompleteStream, match="broke off: connection cut") as caught:
        await service(a_call(sink=sink))
    assert caught.value.details["cause"] == "provider_error"
    assert caught.value.details["status"] == 200
    assert caught.value.__cause__.code == "provider_error"
    assert inners["large"].asked == 0
    assert service.statistics().failed == 1


async def test_a_stream_that_says_itself_that_it_broke_off(autojump_clock):
    service, inners = route("small", "large", fallback=["large"])
    sink = RecordedSink(pieces=["half"])
    failing(inners["small"], IncompleteStream("silence"))
    with pytest.raises(IncompleteStream, match=r"^incomplete_stream: silence"):
        await service(a_call(sink=sink))


async def test_a_stream_falls_back_before_its_first_word(autojump_clock):
    service, inners = route("small", "large", fallback=["large"])
    failing(inners["small"], ProviderError("broken"))
    answering(inners["large"])
    assert (await service(a_call(sink=RecordedSink()))).text == "large"


# --- one budget for all ----------------------------------------------------------------------------------------------------


async def test_one_budget_for_the_whole_chain(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b", "c"], max_attempts=5, retries=True)
    for inner in inners.values():
        failing(inner, ProviderError("broken", details={"status": 500}))
    call = a_call(timeout_s=1000)
    with pytest.raises(ProviderError) as caught:
        await service(call)
    assert [inner.asked for inner in inners.values()] == [3, 1, 1]
    assert [record.number for record in call.journal.attempts] == [1, 2, 3, 4, 5]
    assert [attempt["model"] for attempt in caught.value.details["attempts"]] == ["a", "a", "a", "b", "c"]
    assert caught.value.details["attempts"][0] == {
        "model": "a",
        "provider": "main",
        "code": "provider_error",
        "message": "broken",
        "status": 500,
    }


async def test_a_budget_smaller_than_the_chain_ends_it(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b", "c"], max_attempts=2, retries=True)
    for inner in inners.values():
        failing(inner, ProviderError("broken"))
    with pytest.raises(ProviderError):
        await service(a_call())
    assert [inner.asked for inner in inners.values()] == [1, 1, 0]


async def test_our_own_refusals_use_up_nothing(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b", "c"], max_attempts=1, retries=True)
    failing(inners["a"], Overloaded("1000 wait"))
    failing(inners["b"], Overloaded("1000 wait"))
    answering(inners["c"])
    reply = await service(a_call())
    assert (reply.text, reply.attempts) == ("c", 1)


async def test_a_hint_past_the_deadline_goes_to_the_fallback_at_once(autojump_clock):
    service, inners = route("a", "b", fallback=["b"], retries=True)
    failing(inners["a"], RateLimited("slow down", retry_after_s=60))
    answering(inners["b"])
    assert (await service(a_call(timeout_s=30))).text == "b"
    assert trio.current_time() == 0.0


async def test_waiting_for_one_leaves_time_for_the_others(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b", "c"])
    start_by = {}

    def answer(attempt):
        start_by[attempt.target.name] = attempt.start_by
        return ProviderError("broken")

    for inner in inners.values():
        inner.answer = answer
    with pytest.raises(ProviderError):
        await service(a_call(timeout_s=40.0))
    assert start_by == {"a": 20.0, "b": 20.0, "c": 40.0}


async def test_a_long_hint_goes_to_the_fallback_while_there_is_time(autojump_clock):
    service, inners = route("a", "b", fallback=["b"], retries=True)
    failing(inners["a"], RateLimited("slow down", retry_after_s=25))
    answering(inners["b"])
    assert (await service(a_call(timeout_s=30))).text == "b"
    assert trio.current_time() == 0.0


# --- by what went wrong ----------------------------------------------------------------------------------------------------


async def test_a_model_has_fallbacks_of_its_own(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b"], own={"a": Fallbacks(("c",)), "c": Fallbacks(())})
    failing(inners["a"], ProviderError("down"))
    failing(inners["c"], ProviderError("down"))
    answering(inners["b"])
    with pytest.raises(ProviderError):
        await service(a_call(model="a"))
    assert (inners["a"].asked, inners["b"].asked, inners["c"].asked) == (1, 0, 1)
    with pytest.raises(ProviderError):
        await service(a_call(model="c"))
    assert inners["c"].asked == 2
    assert inners["b"].asked == 0


@pytest.mark.parametrize(
    ("error", "kind", "answers"),
    [
        (ContextExceeded("long"), "context_window", "long"),
        (ContentFiltered("no"), "content_filter", "frank"),
        (ProviderError("500"), "failure", "usual"),
    ],
)
async def test_each_kind_of_failure_has_its_own_fallbacks(autojump_clock, error, kind, answers):
    service, inners = route(
        "a", "usual", "long", "frank", general=Fallbacks(("usual",), ("long",), ("frank",)), max_attempts=4
    )
    failing(inners["a"], error)
    for name in ("usual", "long", "frank"):
        answering(inners[name])
    call = a_call()
    assert (await service(call)).text == answers
    kinds = service.statistics().fallbacks_by_kind
    assert (kinds[kind], sum(kinds.values()), call.journal.fallbacks) == (1, 1, 1)
    note = call.journal.notes[-1][2]
    assert note.startswith(f"a: {error.code}; asking {answers} instead")
    assert (f"({kind.replace('_', ' ')} fallback)" in note) == (kind != "failure")


async def test_the_models_own_typed_fallbacks_come_first_and_nobody_is_asked_twice(autojump_clock):
    service, inners = route(
        "a", "b", "c", general=Fallbacks(("b",), ("b",)), own={"a": Fallbacks(None, ("c", "a"), None)}
    )
    for name in "abc":
        failing(inners[name], ContextExceeded("long"))
    with pytest.raises(ContextExceeded):
        await service(a_call())
    assert [inners[name].asked for name in "abc"] == [1, 1, 1], "a's own, and then what holds for c"


async def test_an_empty_typed_list_ends_the_call(autojump_clock):
    service, inners = route("a", "b", general=Fallbacks(("b",), (), None))
    failing(inners["a"], ContextExceeded("long"))
    with pytest.raises(ContextExceeded):
        await service(a_call())
    assert inners["b"].asked == 0


async def test_without_a_typed_list_a_prompt_that_was_too_long_is_not_sent_where_it_is_too_long_as_well(autojump_clock):
    targets = [
        a_target("a", context_tokens=8000),
        a_target("less", context_tokens=4000),
        a_target("unknown"),
        a_target("more", context_tokens=16_000),
    ]
    service, inners = route("a", "less", "unknown", "more", targets=targets, fallback=["less", "unknown", "more"])
    failing(inners["a"], ContextExceeded("long"))
    failing(inners["unknown"], ProviderError("500"))
    answering(inners["more"])
    assert (await service(a_call())).text == "more"
    assert inners["less"].asked == 0
    assert inners["unknown"].asked == 1


# --- when breakers are open ------------------------------------------------------------------------------------------------


def shut(name, rate):
    details = {"reason": "breaker", "model": name, "state": "open", "failure_rate": rate}
    return Overloaded(f"{name} is left alone", retry_after_s=3.0, stage="breaker", details=details)


def shutting(inner, rate, reply=None):
    """Refuse like a breaker that is open, and let pass who is forced."""

    def answer(attempt):
        if not attempt.forced:
            return shut(attempt.target.name, rate)
        return reply or a_reply(f"{attempt.target.name} after all")

    inner.answer = answer


async def test_a_target_that_is_shut_is_passed_over(autojump_clock):
    service, inners = route("a", "b", fallback=["b"])
    shutting(inners["a"], 1.0)
    answering(inners["b"])
    assert (await service(a_call())).text == "b"
    assert service.statistics().forced == 0


async def test_when_all_are_shut_the_least_bad_is_asked(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b", "c"])
    for name, rate in (("a", 1.0), ("b", 0.6), ("c", 0.9)):
        shutting(inners[name], rate)
    call = a_call()
    assert (await service(call)).text == "b after all"
    assert service.statistics().forced == 1
    assert call.journal.notes[-1][2] == "nobody else is left: asking b although its breaker is open"


async def test_the_only_target_is_asked_although_it_is_shut(autojump_clock):
    service, inners = route("a")
    shutting(inners["a"], 1.0, ProviderError("still down"))
    with pytest.raises(ProviderError, match="still down"):
        await service(a_call())
    assert inners["a"].asked == 2, "once refused, once forced, and no more"


async def test_before_a_call_fails_who_was_passed_over_is_asked(autojump_clock):
    service, inners = route("a", "b", fallback=["b"])
    shutting(inners["a"], 0.5)
    failing(inners["b"], ProviderError("down"))
    assert (await service(a_call())).text == "a after all"


async def test_a_callers_mistake_is_not_tried_at_who_was_passed_over(autojump_clock):
    service, inners = route("a", "b", fallback=["b"])
    shutting(inners["a"], 0.5)
    failing(inners["b"], InvalidRequest("no"))
    with pytest.raises(InvalidRequest):
        await service(a_call())
    assert inners["a"].asked == 1


async def test_whose_answer_was_no_good_is_asked_last(autojump_clock):
    service, inners = route("a", "b", fallback=("b",))
    for inner in inners.values():
        answering(inner)
    assert (await service(a_call(model="a"))).text == "a"
    assert (await service(a_call(model="a", avoid=("a",)))).text == "b"
    alone, inners = route("a")
    answering(inners["a"])
    assert (await alone(a_call(model="a", avoid=("a",)))).text == "a"


async def test_a_call_that_is_asked_again_tells_what_this_asking_took(autojump_clock):
    service, inners = route("a", retries=True)
    answering(inners["a"])
    call = a_call()
    await service(call)
    call.journal.queue_s += 5.0
    call.journal.provider_s += 7.0
    again = await service(call)
    assert (again.attempts, again.queue_s, again.provider_s) == (1, 0.0, 0.0)


async def test_what_a_withheld_answer_cost_is_part_of_what_the_call_cost(autojump_clock):
    service, inners = route("a", "b", fallback=["b"], retries=True)

    def withhold(attempt):
        attempt.notes["cost_usd"] = 0.25
        raise ContentFiltered("withheld")

    inners["a"].answer = withhold
    answering(inners["b"], a_reply(cost_usd=0.5))
    assert (await service(a_call())).cost_usd == 0.75
    answering(inners["b"], a_reply(cost_usd=None))
    assert (await service(a_call())).cost_usd is None


async def test_what_nobody_said_the_cost_of_makes_the_whole_unknown_and_stands_beside_what_is_known(autojump_clock):
    service, inners = route("a", "b", fallback=["b"], retries=True)

    def cut_off(attempt):
        attempt.notes["cost_usd"], attempt.notes["cost_estimate_usd"] = None, 0.125
        raise ProviderError("cut off", retryable=False)

    inners["a"].answer = cut_off
    answering(inners["b"], a_reply(cost_usd=0.5))
    reply = await service(a_call())
    assert reply.bill == Bill(known_usd=0.5, unknown=1, estimate_usd=0.125)
    assert own_fields(reply)["cost_usd"] is None
    assert reply.cost_usd == 0.5  # what a hit saves: nobody knows of more


async def test_what_was_never_sent_or_turned_away_is_known_to_have_cost_nothing(autojump_clock):
    service, inners = route("a", "b", fallback=["b"], retries=True)

    def turned_away(attempt):
        attempt.notes["cost_usd"] = 0.0
        raise ProviderAuth("401")

    inners["a"].answer = turned_away
    answering(inners["b"], a_reply(cost_usd=0.5))
    assert own_fields(await service(a_call()))["cost_usd"] == 0.5


async def test_the_reply_tells_what_it_took(autojump_clock):
    service, inners = route("a", "b", fallback=["b"], max_attempts=3, retries=True)

    async def slow_failure(attempt):
        attempt.call.journal.provider_s += 2.0
        return ProviderError("broken")

    inners["a"].answer = slow_failure
    answering(inners["b"])
    reply = await service(a_call())
    assert (reply.attempts, reply.provider_s) == (3, 4.0)
    assert reply.queue_s == pytest.approx(1.0)  # asleep before the second attempt


# --- what the caller hears -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "raised"),
    [
        (ProviderError("one"), ProviderError("two"), "two"),
        (RateLimited("may pass"), ProviderAuth("stays"), "may pass"),
        (ProviderAuth("stays"), RateLimited("may pass"), "may pass"),
        (ProviderError("the provider's word"), Overloaded("our own refusal"), "the provider's word"),
        (Overloaded("our own refusal"), ContextExceeded("the provider's word"), "the provider's word"),
        (Overloaded("first"), Overloaded("second"), "second"),
        (RateLimited("may pass"), InvalidRequest("only for the second"), "may pass"),
    ],
)
async def test_the_most_telling_error_is_raised(autojump_clock, first, second, raised):
    service, inners = route("a", "b", fallback=["b"])
    failing(inners["a"], first)
    failing(inners["b"], second)
    with pytest.raises(CallError) as caught:
        await service(a_call())
    assert caught.value.message == raised
    assert [attempt["code"] for attempt in caught.value.details["attempts"]] == [first.code, second.code]


async def test_what_was_refused_before_it_was_sent_is_told_as_such(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b", "c"], retries=True)
    asked = []

    def fails_and_is_refused_then(attempt):
        asked.append(attempt)
        return ProviderError("broken", details={"status": 500}) if len(asked) == 1 else Overloaded("sick")

    def refused_there(attempt):
        attempt.notes["status"] = 404
        return UnknownModel("it has no such model", details={"status": 404})

    inners["a"].answer = fails_and_is_refused_then
    inners["b"].answer = refused_there
    inners["c"].answer = lambda _: InvalidRequest("extra may not set 'model'")
    call = a_call()
    with pytest.raises(CallError) as caught:
        await service(call)
    told = [(each["model"], each["code"], each.get("sent")) for each in caught.value.details["attempts"]]
    assert told == [
        ("a", "provider_error", None),
        ("a", "overloaded", False),
        ("b", "unknown_model", None),
        ("c", "invalid_request", False),
    ]
    assert [(record.model, record.sent) for record in call.journal.attempts] == [("a", None), ("b", None), ("c", False)]


async def test_the_soonest_hint_of_all_is_given(autojump_clock):
    service, inners = route("a", "b", "c", fallback=["b", "c"])
    failing(inners["a"], RateLimited("one", retry_after_s=20))
    failing(inners["b"], RateLimited("two", retry_after_s=9))
    failing(inners["c"], ProviderError("three"))
    with pytest.raises(ProviderError) as caught:
        await service(a_call())
    assert caught.value.retry_after_s == 9


# --- learning ----------------------------------------------------------------------------------------------------------------


async def test_learns_how_long_answers_are(autojump_clock):
    estimator = TokenEstimator()
    service, inners = route("small", estimator=estimator)
    answering(inners["small"], a_reply(usage=a_usage(10, 30, reasoning=12)))
    await service(a_call())
    assert estimator.mean_outputs() == {"small": 42.0}
    answering(inners["small"], a_reply(usage=a_usage(10, 3000, estimated=True)))
    await service(a_call())
    answering(inners["small"], a_reply(usage=None))
    await service(a_call())
    answering(inners["small"], a_reply(usage=a_usage(10, 0), vectors=(b"1234",)))
    await service(a_call(kind="embed", request={"input": ["word " * 100]}))
    assert estimator.mean_outputs() == {"small": 42.0}
    assert inners["small"].requests[-1].estimated_tokens == pytest.approx(126, abs=2)


async def test_a_failed_call_is_forgotten_at_once(autojump_clock):
    service, inners = route("a", "b", fallback=["b"], retries=True, max_attempts=3)
    for inner in inners.values():
        failing(inner, ProviderError("broken"))
    with forgotten_at_once() as prompts:
        with pytest.raises(ProviderError):
            await service(a_call(request=prompts.pop()))
        for inner in inners.values():
            inner.requests.clear()


async def test_so_is_one_that_was_too_long_for_a_target(autojump_clock):
    targets = [a_target("small", context_tokens=100), a_target("large")]
    service, inners = route("small", "large", targets=targets, fallback=["large"])
    answering(inners["large"])
    with forgotten_at_once({"messages": [{"role": "user", "content": "word " * 1000}]}) as prompts:
        assert (await service(a_call(request=prompts.pop()))).text == "large"
        inners["large"].requests.clear()


async def test_idle_after_cancelling_at_any_checkpoint(autojump_clock):
    def scenario(nursery):
        service, inners = route("a", "b", fallback=["b"], retries=True, max_attempts=3)

        async def slow_failure(attempt):
            await trio.sleep(1)
            return ProviderError("broken")

        async def slowly(attempt):
            await trio.sleep(1)
            return a_reply()

        inners["a"].answer = slow_failure
        inners["b"].answer = slowly
        return service, lambda: service(a_call())

    def idle(service):
        assert service.statistics().inside == 0

    assert await cancel_at_every_checkpoint(scenario, idle) >= 6


async def test_who_is_asked_for_want_of_others_has_nobody_after_it(autojump_clock):
    service, inners = route("a", "b", "c", general=Fallbacks(("b", "c"), ()))
    shutting(inners["a"], 0.5)
    failing(inners["b"], ContextExceeded("too long", details={"status": 400}))
    answering(inners["c"])
    call = a_call()
    assert (await service(call)).text == "a after all"
    assert [attempt.alternatives for attempt in inners["a"].requests][1] == ()
    assert inners["a"].requests[1].start_by == call.deadline
    assert inners["c"].asked == 0
