"""Observe: every call leaves exactly one record, however it ends."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
import trio
from forgetting import forgotten_at_once
from harness import RecordedSink, a_call, a_caller, a_reply, a_usage, ask, cancel_at_every_checkpoint, harness

from aiorch.errors import Overloaded, ProviderError, ValidationFailed
from aiorchd.calls.call import Call
from aiorchd.calls.journal import AttemptRecord, CallRecord, Hit
from aiorchd.calls.reply import Reply
from aiorchd.stages.observe import Observe, ObserveStatistics, record_end


class Records:
    def __init__(self) -> None:
        self.rows: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.rows.append(record)

    def record_hit(self, hit: Hit) -> None:
        self.rows.append(hit.record())


def observed() -> tuple[Observe, Any, Records]:
    records = Records()
    service, inner = harness(Observe, records)
    return service, inner, records


def an_attempt_record(**fields: Any) -> AttemptRecord:
    return AttemptRecord(
        **{
            "number": 1,
            "model": "small",
            "provider": "main",
            "began_s": 0.5,
            "queue_s": 0.25,
            "provider_s": 1.0,
            "verdict": "ok",
            **fields,
        }
    )


async def test_an_answered_call(autojump_clock: trio.testing.MockClock) -> None:
    service, inner, records = observed()
    async with trio.open_nursery() as nursery:
        call = a_call(
            id="c1", caller=a_caller(7, pid=9, unit="web.service"), model="small", task="tagging", tags=("a", "b")
        )
        asked = ask(nursery, service, call)
        received = await inner.next()
        assert service.statistics().inside == 1
        assert not records.rows
        await trio.sleep(2)
        call.journal.note(trio.current_time(), "route", "takes small")
        call.journal.attempts.append(tried := an_attempt_record(tokens=15))
        call.journal.throttled, call.journal.fallbacks = 3, 1
        usage = a_usage(input=1, output=2, cache_read=3, cache_write=4, reasoning=5)
        received.reply(usage=usage, cost_usd=0.5, attempts=2, queue_s=0.25, provider_s=1.5, model="large")
        await asked.reply()
    assert records.rows == [
        CallRecord(
            id="c1",
            at=1_700_000_000.0,
            uid=7,
            pid=9,
            unit="web.service",
            kind="chat",
            task="tagging",
            model="large",
            provider="main",
            cache="miss",
            attempts=2,
            throttled=3,
            fallbacks=1,
            input_tokens=1,
            cache_read_tokens=3,
            cache_write_tokens=4,
            output_tokens=2,
            reasoning_tokens=5,
            cost_usd=0.5,
            cost_known_usd=0.5,
            cost_estimate_usd=0.0,
            saved_usd=0.0,
            queue_s=0.25,
            provider_s=1.5,
            total_s=2.0,
            tags=("a", "b"),
            story={
                "notes": [[2.0, "route", "takes small"]],
                "attempts": [
                    {
                        "number": 1,
                        "model": "small",
                        "provider": "main",
                        "began_s": 0.5,
                        "queue_s": 0.25,
                        "provider_s": 1.0,
                        "verdict": "ok",
                        "tokens": 15,
                    }
                ],
            },
            tried=(tried,),
        )
    ]
    assert service.statistics() == ObserveStatistics(inside=0, hits=0, answered=1, failed=0, cancelled=0)


@pytest.mark.parametrize("cache", ["exact", "coalesced"])
async def test_a_shared_answer_cost_nothing_and_saved_its_price(
    autojump_clock: trio.testing.MockClock, cache: Any
) -> None:
    service, inner, records = observed()
    inner.answer = lambda _: a_reply(cache=cache, cost_usd=0.5, attempts=3, source_id="c0")
    await service(a_call(sink=RecordedSink()))
    (row,) = records.rows
    assert (row.cache, row.cost_usd, row.saved_usd, row.attempts, row.source_id) == (cache, 0.0, 0.5, 0, "c0")
    assert row.streamed
    assert row.story is None
    assert row.input_tokens == 10


async def test_unknown_stays_unknown(autojump_clock: trio.testing.MockClock) -> None:
    service, inner, records = observed()
    inner.answer = lambda call: Reply(cache="exact" if call.model else "miss")
    await service(a_call())
    await service(a_call(model="small"))
    miss, hit = records.rows
    assert (miss.cost_usd, miss.saved_usd, miss.input_tokens, miss.model, miss.provider) == (
        None,
        0.0,
        None,
        None,
        None,
    )
    assert (hit.cost_usd, hit.saved_usd, hit.model) == (0.0, None, "small")


async def test_a_refusal_is_recorded_too(autojump_clock: trio.testing.MockClock) -> None:
    service, inner, records = observed()
    inner.answer = lambda _: Overloaded("full" * 1000, stage="admit")
    with pytest.raises(Overloaded):
        await service(a_call(model="small"))
    (row,) = records.rows
    assert (row.error, row.cache, row.model, row.provider, row.attempts) == ("overloaded", "none", "small", None, 0)
    assert (row.cost_usd, row.saved_usd) == (0.0, 0.0)
    assert row.story is not None
    assert row.story["error"]["stage"] == "admit"
    assert len(row.story["error"]["message"]) == 500
    assert service.statistics() == ObserveStatistics(inside=0, hits=0, answered=0, failed=1, cancelled=0)


@pytest.mark.parametrize(
    ("costs", "spent", "known", "unknown", "estimate"),
    [
        ([0.25, None, 0.5], None, 0.75, 1, 2.0),
        ([0.25, 0.0], 0.25, 0.25, 0, 0.0),
        ([None], None, 0.0, 1, 2.0),
        ([], 0.0, 0.0, 0, 0.0),
    ],
)
async def test_what_a_failed_call_spent_is_told(
    autojump_clock: trio.testing.MockClock,
    costs: list[float | None],
    spent: float | None,
    known: float,
    unknown: int,
    estimate: float,
) -> None:
    service, inner, records = observed()
    call = a_call()

    def fail(_: Call) -> ProviderError:
        for number, cost in enumerate(costs):
            call.journal.attempts.append(
                an_attempt_record(
                    number=number + 1,
                    model="large",
                    cost_usd=cost,
                    cost_estimate_usd=2.0 if cost is None else None,
                    code="provider_error",
                )
            )
        call.journal.queue_s, call.journal.provider_s = 1.0, 2.0
        return ProviderError("broken")

    inner.answer = fail
    with pytest.raises(ProviderError):
        await service(call)
    (row,) = records.rows
    assert row.cost_usd == spent
    assert (row.cost_known_usd, row.cost_unknown_attempts, row.cost_estimate_usd) == (known, unknown, estimate)
    assert row.attempts == len(costs)
    assert (row.queue_s, row.provider_s) == (1.0, 2.0)
    if costs:
        assert (row.model, row.provider) == ("large", "main")
    msgpack.packb(row.story)  # plain data


async def test_a_cancelled_call_is_recorded_as_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    service, inner, records = observed()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, service, a_call())
        await inner.next()
        await trio.sleep(1)
        asked.cancel()
        assert await asked.wait() is None
    (row,) = records.rows
    assert (row.error, row.cache, row.total_s, row.story) == ("cancelled", "none", 1.0, None)
    assert service.statistics() == ObserveStatistics(inside=0, hits=0, answered=0, failed=0, cancelled=1)


async def test_a_defect_is_recorded_and_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    service, inner, records = observed()
    inner.answer = lambda _: ZeroDivisionError("private")
    with pytest.raises(ZeroDivisionError):
        await service(a_call())
    (row,) = records.rows
    assert row.error == "internal"
    assert row.story is None
    assert service.statistics().failed == 1


async def test_a_hit_from_memory(autojump_clock: trio.testing.MockClock) -> None:
    service, _, records = observed()
    caller = a_caller(7, pid=9, unit="web.service")
    service.observe_hit(Hit("h1", 1_700_000_001.0, caller, a_reply(cost_usd=0.5), "c0", 0.001, "t", ("a",)))
    service.observe_hit(Hit("h2", 1_700_000_001.0, caller, Reply(vectors=(b"",)), "c0", 0.001))
    first, second = records.rows
    assert first == CallRecord(
        id="h1",
        at=1_700_000_001.0,
        uid=7,
        pid=9,
        unit="web.service",
        kind="chat",
        task="t",
        model="small",
        provider="main",
        cache="exact",
        input_tokens=10,
        cache_read_tokens=0,
        cache_write_tokens=0,
        output_tokens=5,
        reasoning_tokens=0,
        cost_usd=0.0,
        saved_usd=0.5,
        total_s=0.001,
        source_id="c0",
        tags=("a",),
    )
    assert (second.kind, second.saved_usd, second.input_tokens) == ("embed", None, None)
    assert service.statistics().hits == 2


async def test_cancelled_anywhere_it_is_idle_and_told_once(autojump_clock: trio.testing.MockClock) -> None:
    def scenario(nursery: trio.Nursery) -> Any:
        service, inner, records = observed()

        async def answer(_: Call) -> Reply:
            await trio.sleep(1)
            return a_reply()

        inner.answer = answer

        async def run() -> None:
            await service(a_call())

        return (service, records), run

    def idle(subject: tuple[Observe, Records]) -> None:
        service, records = subject
        assert service.statistics().inside == 0
        assert len(records.rows) == 1

    await cancel_at_every_checkpoint(scenario, idle, at_least=2)


async def test_what_goes_on_without_its_caller_is_not_told_as_ended() -> None:
    service, inner, records = observed()
    call = a_call()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service, call)
        await inner.next()
        call.journal.goes_on = True
        nursery.cancel_scope.cancel()
    assert records.rows == []
    assert (service.statistics().inside, service.statistics().cancelled) == (0, 1)
    record_end(records, call, a_reply(cost_usd=0.5), None)
    assert [(row.id, row.error, row.cost_usd) for row in records.rows] == [(call.id, None, 0.5)]


async def test_records_quote_neither_prompt_nor_answer(autojump_clock: trio.testing.MockClock) -> None:
    service, inner, records = observed()
    prompt = "Is Marguerite of 12 Rue Cler, Paris, pregnant?"
    inner.answer = lambda _: ProviderError(f"main failed (500): input_value='{prompt}', type=string")
    with pytest.raises(ProviderError, match="Marguerite"):  # who asked may read it
        await service(a_call(prompt))
    inner.answer = lambda _: ValidationFailed(
        "the answer of small is not what was asked for at $.name: 'Marguerite' is too long",
        stage="validate",
        details={"path": "$.name", "reason": "'Marguerite' is too long", "model": "small"},
    )
    with pytest.raises(ValidationFailed):
        await service(a_call("Who?"))
    first, second = (row.story["error"]["message"] for row in records.rows if row.story is not None)
    assert first == "main failed (500): input_value='[...]', type=string"
    assert second == "the answer of small is not what was asked for at $.name"


async def test_a_failed_call_is_forgotten_at_once(autojump_clock: trio.testing.MockClock) -> None:
    service, inner, records = observed()
    inner.answer = lambda _: ProviderError("broken")
    with forgotten_at_once() as prompts:
        with pytest.raises(ProviderError):
            await service(a_call(request=prompts.pop()))
        assert records.rows[0].error == "provider_error"
        inner.requests.clear()
