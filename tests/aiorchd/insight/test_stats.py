"""What was asked, saved and paid: every figure against a plain count over the same calls."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from harness import a_usage
from hypothesis import given, settings
from hypothesis import strategies as st
from store_values import NOON, StandingClock, StillWriter, a_hit, a_record

from aiorch.errors import StorageError
from aiorchd.calls.journal import AttemptRecord, CallRecord
from aiorchd.insight.stats import GROUPS, line_of, report
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault
from aiorchd.store.metrics_schema import METRICS
from aiorchd.store.records import RecordBounds, Records


def write(records: Records) -> None:
    batch = records.collect()
    assert batch is not None
    records.file.transact(lambda connection: records.write(connection, batch))
    records.written(batch)


def a_day(records: Records) -> None:
    """Ten calls: three asked a provider, one failed there, one was refused, four hits and a shared one."""
    records.record(a_record(1, operation="tag", provider_s=1.0, queue_s=0.5, total_s=1.6))
    records.record(a_record(2, operation="tag", cost_usd=None, attempts=2, throttled=1))
    records.record(
        a_record(
            3,
            model="large",
            cost_usd=1.0,
            fallbacks=2,
            context_fallbacks=1,
            hedges=3,
            attempts=3,
            uid=2,
            unit="web.service",
        )
    )
    records.record(
        a_record(
            4,
            cache="none",
            error="provider_error",
            cost_usd=None,
            attempts=4,
            input_tokens=None,
            output_tokens=None,
            saved_usd=None,
        )
    )
    records.record(a_record(5, cache="none", error="overloaded", attempts=0, cost_usd=None, model=None, provider=None))
    records.record(a_hit(6, cache="coalesced", total_s=1.0, story={"notes": []}))
    records.record_hits([a_hit(7, operation="tag"), a_hit(8), a_hit(9, saved_usd=None), a_hit(10, uid=2)])


def tried(model: str, **fields) -> AttemptRecord:
    given = {"number": 1, "provider": f"at {model}", "began_s": 0.0, "queue_s": 0.0, "provider_s": 1.0, "verdict": "ok"}
    return AttemptRecord(model=model, **{**given, **fields})


@pytest.mark.parametrize("written", [False, True])
async def test_what_attempts_took_is_counted_at_the_model_that_was_asked(records: Records, written: bool) -> None:
    refused = tried("sick", verdict="throttled", code="rate_limited", cost_usd=0.0)
    cut = tried("sick", verdict="retryable", code="provider_error", cost_estimate_usd=0.5)
    bad = tried("quick", cost_usd=0.25, usage=a_usage(input=10, output=5))
    good = tried("small", cost_usd=1.0, usage=a_usage(input=100, output=50), provider="main")
    records.record(
        a_record(1, attempts=4, throttled=1, cost_usd=None, cost_unknown_attempts=1, tried=(refused, cut, bad, good))
    )
    records.record(
        a_record(
            2,
            cost_usd=None,
            cache="none",
            error="provider_error",
            model="sick",
            provider="at sick",
            attempts=1,
            tried=(cut,),
        )
    )
    if written:
        write(records)
    told = await report(records, now=NOON, by="model")
    lines = told.groups
    assert (told.all.calls, told.all.provider_calls, told.all.throttled, told.all.tokens.input) == (2, 5, 1, 110)
    assert told.all.failed_attempts == {"provider_error": 2, "rate_limited": 1}
    assert (told.all.spent_usd, told.all.cost_unknown_attempts, told.all.cost_estimate_usd) == (1.25, 2, 1.0)
    assert told.all.cost_unknown_calls == 2
    sick, quick, small = lines["sick"], lines["quick"], lines["small"]
    assert (sick.calls, sick.provider_calls, sick.throttled, sick.errors) == (1, 3, 1, {"provider_error": 1})
    assert (sick.spent_usd, sick.cost_estimate_usd, sick.cost_unknown_attempts) == (None, 1.0, 2)
    assert sick.failed_attempts == {"provider_error": 2, "rate_limited": 1}
    assert (quick.calls, quick.provider_calls, quick.spent_usd, quick.tokens.input) == (0, 1, 0.25, 10)
    assert (small.calls, small.provider_calls, small.spent_usd, small.tokens.output) == (1, 1, 1.0, 50)
    assert (small.failed_attempts, small.cost_unknown_attempts, small.answered) == ({}, 0, 1)
    assert set((await report(records, now=NOON, by="provider")).groups) == {"main", "at sick", "at quick"}


@pytest.mark.parametrize("written", [False, True])
async def test_how_near_answers_and_batches_did_is_told_by_who_asked(records: Records, written: bool) -> None:
    for number, (uid, right) in enumerate([(1, True), (1, True), (1, False), (2, True), (2, None)]):
        records.record(a_record(number, uid=uid, semantic_right=right))
    for number in range(10, 14):  # one batch of four, of two users
        records.record(
            a_record(number, uid=1 + (number == 13), batch_questions=4, batch_left_out=number == 11, operation="tag")
        )
    for number in range(20, 22):
        records.record(a_record(number, uid=1, batch_questions=2, operation="tag"))
    if written:
        write(records)
    told = await report(records, now=NOON, by="caller")
    one, two = told.groups["1"], told.groups["2"]
    assert (told.all.semantic_checks.checked, told.all.semantic_checks.wrong) == (4, 1)
    assert (one.semantic_checks.checked, one.semantic_checks.wrong) == (3, 1)
    assert one.semantic_checks.error_rate == pytest.approx(1 / 3)
    # Wilson's interval of one in three.
    assert one.semantic_checks.error_low == pytest.approx(0.0615, abs=1e-3)
    assert one.semantic_checks.error_high == pytest.approx(0.7923, abs=1e-3)
    assert (two.semantic_checks.checked, two.semantic_checks.error_rate) == (1, 0.0)
    assert (told.all.batched.questions, told.all.batched.batches, told.all.batched.mean_questions) == (6, 2.0, 3.0)
    assert (one.batched.questions, one.batched.batches, one.batched.left_out) == (5, 1.75, 1)
    assert (two.batched.questions, two.batched.batches, two.batched.left_out) == (1, 0.25, 0)
    by_operation = (await report(records, now=NOON, by="operation")).groups
    assert by_operation["tag"].semantic_checks.error_rate is None
    assert by_operation[""].batched.mean_questions is None


@pytest.mark.parametrize("written", [False, True])
async def test_everything_a_person_wants_to_know_first(records: Records, written: bool) -> None:
    a_day(records)
    if written:
        write(records)
    told = await report(records, now=NOON + 1, since_s=3600)
    line = told.all
    assert (told.since, told.until, told.by, told.groups) == (NOON - 3600, NOON + 1, None, {})
    assert (line.calls, line.answered, line.provider_calls) == (10, 8, 10)
    assert line.saved_calls == {"exact": 4, "coalesced": 1}
    assert line.hit_rates == {"all": 0.5, "exact": 0.4, "coalesced": 0.1}
    assert line.spent_usd == 1.25
    assert line.cost_unknown_calls == 2
    assert line.saved_usd == 1.0
    assert line.saving_unknown_calls == 1
    assert (line.throttled, line.fallbacks, line.hedges) == (1, 2, 3)
    assert line.fallbacks_by_kind == {"failure": 1, "context_window": 1, "content_filter": 0}
    assert line.errors == {"overloaded": 1, "provider_error": 1}
    assert (line.tokens.calls, line.tokens.input, line.tokens.output) == (3, 300, 60)
    assert line.total.p99 == pytest.approx(1.6, rel=0.05)
    assert line.overhead.p99 == pytest.approx(0.1, rel=0.05)  # the shared one, with its second, is left out
    assert line.overhead.p50 == pytest.approx(0.001, rel=0.05)


async def test_groups_with_the_busiest_first(records: Records) -> None:
    a_day(records)
    by_model = (await report(records, now=NOON + 1, by="model")).groups
    assert {name: line.calls for name, line in by_model.items()} == {"small": 8, "": 1, "large": 1}
    assert next(iter(by_model)) == "small"
    by_operation = (await report(records, now=NOON + 1, by="operation")).groups
    assert {name: line.calls for name, line in by_operation.items()} == {"": 7, "tag": 3}
    by_caller = (await report(records, now=NOON + 1, by="caller")).groups
    assert {name: line.calls for name, line in by_caller.items()} == {"1000": 8, "2": 2}
    by_unit = (await report(records, now=NOON + 1, by="unit")).groups
    assert {name: line.provider_calls for name, line in by_unit.items()} == {"user": 7, "web.service": 3}


async def test_one_user_sees_only_its_own(records: Records) -> None:
    a_day(records)
    mine = await report(records, now=NOON + 1, uid=2)
    assert mine.all.calls == 2
    assert mine.all.spent_usd == 1.0
    assert (await report(records, now=NOON + 1, uid=77)).all.calls == 0


async def test_nothing_is_not_zero_where_it_is_not_known(records: Records) -> None:
    line = (await report(records, now=NOON)).all
    assert line.calls == line.provider_calls == 0
    assert line.hit_rates == {"all": None}
    assert (line.total.p50, line.overhead.p99, line.tokens.input) == (None, None, None)
    assert (line.spent_usd, line.saved_usd) == (0.0, 0.0)  # this much is known
    records.record(a_record(1, cost_usd=None))
    records.record_hits([a_hit(1, saved_usd=None)])
    line = (await report(records, now=NOON)).all
    assert (line.spent_usd, line.cost_unknown_calls) == (None, 1)
    assert (line.saved_usd, line.saving_unknown_calls) == (None, 1)
    records.record(a_record(2, cost_usd=0.0))  # a local model: its price is known, and nothing
    assert (await report(records, now=NOON)).all.spent_usd == 0.0


async def test_only_what_ended_since(records: Records, clock: StandingClock) -> None:
    for minutes_ago in (600, 61, 59, 1):
        clock.now = NOON - minutes_ago * 60
        records.record(a_record(minutes_ago))
        write(records)
    clock.now = NOON
    records.record(a_record(0))
    for since_s, calls in ((0, 1), (30, 2), (60, 2), (3600, 3), (2 * 3600, 4), (None, 5), (1e12, 5)):
        assert (await report(records, now=NOON, since_s=since_s)).all.calls == calls


async def test_the_wire_form_is_plain(records: Records) -> None:
    a_day(records)
    wire = (await report(records, now=NOON + 1, by="model")).to_wire()
    assert json.loads(json.dumps(wire)) == wire
    assert [group["name"] for group in wire["groups"]] == ["small", "", "large"]
    assert set(wire) - {"groups"} == {"since", "until", "by"} | (set(wire["groups"][0]) - {"name"})


async def test_a_file_that_cannot_be_read_is_an_error_and_no_empty_report(records: Records) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileFault(FaultKind.IO, "disk I/O error")

    records.file.read = fail  # type: ignore[method-assign,assignment]
    with pytest.raises(StorageError, match="disk I/O error"):
        await report(records, now=NOON)


@pytest.mark.parametrize("written", [False, True])
async def test_what_was_asked_in_the_call_of_another_is_a_call_saved_but_not_an_answer_from_before(
    records: Records, written: bool
) -> None:
    records.record(a_record(1, cost_usd=0.125))
    for number in (2, 3):
        records.record(a_record(number, attempts=0, cost_usd=0.125))
    records.record(a_record(4, attempts=0, error="deadline_exceeded", cost_usd=None))
    if written:
        write(records)
    line = (await report(records, now=NOON + 1)).all
    assert (line.calls, line.provider_calls, line.answered) == (4, 1, 3)
    assert line.saved_calls == {"batched": 2}
    assert (line.saved_tokens, line.saved_s, line.saved_usd) == (0, 0.0, 0.0)
    assert line.errors == {"deadline_exceeded": 1}


CALLS = st.builds(
    lambda hit, **fields: a_hit(1, **fields) if hit else a_record(1, attempts=1, **fields),
    hit=st.booleans(),
    model=st.sampled_from(["small", "large", None]),
    operation=st.sampled_from(["tag", None]),
    unit=st.sampled_from(["user", "web.service"]),
    uid=st.integers(0, 2),
    cost_usd=st.sampled_from([None, 0.0, 0.5]),
    saved_usd=st.sampled_from([None, 0.0, 0.25]),
    total_s=st.floats(1e-6, 1000.0),
    queue_s=st.just(0.0),
    provider_s=st.just(0.0),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(CALLS, max_size=60), st.sampled_from(["operation", "model", "caller", "unit"]), st.data())
def test_groups_add_up_to_everything_and_percentiles_are_true(
    calls: list[CallRecord], by: str, data: st.DataObject
) -> None:
    async def play() -> None:
        with TemporaryDirectory() as name:
            clock = StandingClock()
            file = DatabaseFile(Path(name), METRICS, wall_clock=clock)
            file.open()
            records = Records(file, wall_clock=clock, writer=StillWriter(), bounds=RecordBounds())
            for call in calls:
                records.record(call)
                if data.draw(st.booleans()):
                    clock.now += 40
                    write(records)
            told = await report(records, now=clock.now, by=by)  # type: ignore[arg-type]
            file.close()
        groups = told.groups.values()
        assert told.all.calls == len(calls) == sum(line.calls for line in groups)
        assert (
            told.all.provider_calls
            == sum(call.attempts for call in calls)
            == sum(line.provider_calls for line in groups)
        )
        assert sum(told.all.saved_calls.values()) == sum(call.attempts == 0 for call in calls)
        known = [call.cost_usd for call in calls if call.attempts and call.cost_usd is not None]
        unknown = [call for call in calls if call.attempts and call.cost_usd is None]
        assert told.all.cost_unknown_calls == len(unknown)
        assert told.all.spent_usd == (None if unknown and not known else pytest.approx(sum(known)))
        times = sorted(call.total_s for call in calls)
        for share, value in ((0.5, told.all.total.p50), (0.95, told.all.total.p95), (0.99, told.all.total.p99)):
            if times:
                assert value == pytest.approx(times[math.ceil(share * len(times)) - 1], rel=0.05)
            else:
                assert value is None

    trio.run(play)


def test_every_way_of_grouping_is_one_of_the_command_line() -> None:
    assert set(GROUPS) == {"operation", "model", "provider", "caller", "unit"}
    assert line_of({}).calls == 0
