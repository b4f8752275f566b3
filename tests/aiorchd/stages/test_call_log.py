"""One line for each call, with who, what, where from and how much, and nothing of what was said."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from kept_log import KeptLog

from aiorchd.calls.caller import Caller
from aiorchd.calls.journal import CallRecord, Hit
from aiorchd.calls.reply import Reply
from aiorchd.runtime.logs import Log, Logging, logging_to
from aiorchd.stages.call_log import CallLog


class Records:
    def __init__(self) -> None:
        self.rows: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.rows.append(record)

    def record_hit(self, hit: Hit) -> None:
        self.rows.append(hit.record())


def a_record(**fields: object) -> CallRecord:
    known = {"id": "c1", "at": 1.0, "uid": 1000, "pid": 42, "unit": "web.service", "kind": "chat", "model": "small"}
    return CallRecord(**{**known, "provider": "main", "cache": "miss", "cost_usd": 0.25, "total_s": 1.5, **fields})  # type: ignore[arg-type]


@pytest.fixture
def journal() -> Iterator[tuple[io.StringIO, Logging]]:
    stream = io.StringIO()
    with logging_to(stream, style="journal") as owner:
        yield stream, owner


def test_lines(journal: tuple[io.StringIO, Logging]) -> None:
    records = Records()
    calls = CallLog(records, Log("calls"))
    answered = a_record(
        task="tagging", attempts=2, throttled=1, fallbacks=1, input_tokens=120, output_tokens=8, queue_s=0.5,
        provider_s=0.75, streamed=True, tags=("secret label",), story={"notes": []},
    )  # fmt: skip
    failed = a_record(id="c2", error="rate_limited", cache="none", attempts=4, cost_usd=None, unit="")
    reply = Reply(model="small", provider="main", simulated=True)
    hit = Hit("c3", 1.0, Caller(uid=1000, gid=1000, pid=42, unit="web.service"), reply, "c1", 0.00002)
    calls.record(answered)
    calls.record(failed)
    calls.record_hit(hit)
    assert records.rows == [answered, failed, hit.record()]
    assert journal[0].getvalue().splitlines() == [
        (
            "<6>calls: answered id=c1 uid=1000 pid=42 unit=web.service kind=chat task=tagging model=small provider=main "
            "cache=miss streamed=true attempts=2 throttled=1 fallbacks=1 input=120 output=8 cost_usd=0.25 queue_s=0.5 "
            "provider_s=0.75 total_s=1.5"
        ),
        (
            "<6>calls: failed id=c2 uid=1000 pid=42 kind=chat model=small provider=main error=rate_limited attempts=4 "
            "cost_usd=unknown total_s=1.5"
        ),
        (
            "<6>calls: answered id=c3 uid=1000 pid=42 unit=web.service kind=chat model=small provider=main cache=exact "
            "source=c1 simulated=true cost_usd=0 total_s=2e-05"
        ),
    ]


def test_the_area_has_a_level_of_its_own(journal: tuple[io.StringIO, Logging]) -> None:
    stream, owner = journal
    calls = CallLog(Records(), Log("calls"))
    owner.set_levels("info", {"calls": "warning"})
    calls.record(a_record())
    assert stream.getvalue() == ""
    owner.set_levels("warning", {"calls": "info"})
    calls.record(a_record())
    assert stream.getvalue().startswith("<6>calls: answered id=c1 ")


def test_the_story_of_a_call_at_debug(journal: tuple[io.StringIO, Logging]) -> None:
    stream, owner = journal
    told = a_record(
        story={
            "notes": [[0.25, "retry", "again in 0.5 s"]],
            "attempts": [{"number": 1, "model": "small", "verdict": "failed", "code": "provider_error"}],
        }
    )
    calls = CallLog(Records(), Log("calls"), lines=False)
    calls.record(told)
    assert stream.getvalue() == ""
    owner.set_levels("info", {"calls": "debug"})
    calls.record(told)
    assert stream.getvalue().splitlines() == [
        "<7>calls: retry: again in 0.5 s id=c1 after_s=0.25",
        "<7>calls: attempt id=c1 number=1 model=small verdict=failed code=provider_error",
    ]


def test_a_long_task_is_cut_and_cannot_forge_a_line(journal: tuple[io.StringIO, Logging]) -> None:
    CallLog(Records(), Log("calls")).record(a_record(task="x\n<0>kernel: panic " * 20))
    [line] = journal[0].getvalue().splitlines()
    assert len(line) < 300


def test_content_is_nowhere_in_the_fields() -> None:
    log = KeptLog()
    CallLog(Records(), log).record(a_record(tags=("t",), story={"error": {"message": "m"}}))
    [(_, fields)] = log.lines
    assert {"tags", "story"}.isdisjoint(fields)
