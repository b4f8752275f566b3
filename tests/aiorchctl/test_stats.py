"""`aiorchctl stats`: what a person wants first, money that is not known said as unknown."""

import copy
import json
import time

import pytest

LINE = {
    "calls": 800,
    "answered": 798,
    "provider_calls": 153,
    "saved_calls": {"exact": 562, "coalesced": 88},
    "hit_rates": {"all": 0.8125, "exact": 0.7025, "coalesced": 0.11},
    "spent_usd": 0.0432,
    "cost_unknown_calls": 0,
    "saved_usd": 0.187,
    "saving_unknown_calls": 0,
    "total_s": {"p50": 0.00002, "p95": 0.118, "p99": 0.131},
    "overhead_s": {"p50": 0.00002, "p95": 0.0011, "p99": 0.0021},
    "throttled": 0,
    "fallbacks": 0,
    "errors": {"rate_limited": 1, "cancelled": 1},
    "tokens": {"calls": 148, "input": 250000, "cache_read": 0, "cache_write": 0, "output": 1000, "reasoning": 0},
}
STATS = {"since": 0.0, "until": 7200.0, "by": None, **LINE, "groups": []}

SHOWN = """\
All calls on record until 1970-01-01 02:00:00
calls asked          800
provider calls made  153
calls saved          650 (81.2 % of all)
  exact              562 (70.2 %): the same question before
  coalesced          88 (11 %): an equal question under way

Money
spent   $0.043
saved   $0.19
tokens  250,000 in, 1,000 out

Time
                      p50     p95     p99
a whole call      0.02 ms  118 ms  131 ms
of it in aiorchd  0.02 ms  1.1 ms  2.1 ms

Trouble
refused by providers (429 and the like)  none
fallbacks to another model               none
errors                                   2 (0.2 %): 1 rate_limited, 1 cancelled
"""


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def stats(daemon):
    daemon.answers["stats"] = copy.deepcopy(STATS)
    return daemon.answers["stats"]


def test_what_a_person_wants_first(stats, ctl):
    assert ctl("stats").out == SHOWN


def test_json_is_exact(stats, ctl):
    assert json.loads(ctl("stats", "--json").out) == STATS


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ((), {}),
        (("--since", "1h"), {"since": 3600.0}),
        (("--since", "30m", "--by", "model"), {"since": 1800.0, "by": "model"}),
        (("--own", "--since", "2d"), {"since": 172800.0, "own": True}),
    ],
)
def test_options(stats, daemon, ctl, options, sent):
    assert ctl("stats", *options).code == 0
    assert daemon.arguments_of("stats") == sent


def test_a_span_of_time_is_told(stats, ctl):
    stats["since"] = 3600.0
    assert ctl("stats", "--since", "1h").out.startswith("1970-01-01 01:00:00 to 1970-01-01 02:00:00\n")


def test_no_calls(daemon, ctl):
    daemon.answers["stats"] = {**STATS, "calls": 0}
    assert ctl("stats").out == "No calls: all calls on record until 1970-01-01 02:00:00.\n"


def test_unknown_prices_are_never_zero(stats, ctl):
    stats |= {"spent_usd": None, "cost_unknown_calls": 150, "saved_usd": 0.1, "saving_unknown_calls": 1}
    out = ctl("stats").out
    assert "spent   unknown: 150 calls at prices that are not configured\n" in out
    assert (
        "saved   $0.1, and 1 call at unknown prices\n" in out or "saved   $0.10, and 1 call at unknown prices\n" in out
    )


def test_trouble(stats, ctl):
    stats |= {"throttled": 1234, "fallbacks": 5, "errors": {}, "hedges": 0, "fallbacks_by_kind": {"failure": 5}}
    assert ctl("stats").out.endswith(
        "refused by providers (429 and the like)  1,234\n"
        "fallbacks to another model               5\n"
        "errors                                   none\n"
    )


def test_fallbacks_by_what_for_and_second_tries(stats, ctl):
    kinds = {"failure": 2, "context_window": 2, "content_filter": 1}
    stats |= {"fallbacks": 5, "fallbacks_by_kind": kinds, "hedges": 4}
    out = ctl("stats").out
    assert "  5 (2 for a prompt that was too long, 1 for an answer that was withheld)\n" in out
    assert "second tries                             4\n" in out


def test_groups(stats, ctl):
    other = {**LINE, "calls": 2, "provider_calls": 2, "saved_calls": {}, "spent_usd": None, "cost_unknown_calls": 2}
    stats |= {
        "by": "model",
        "groups": [{"name": "small", **LINE}, {"name": "", **other, "saved_usd": 0.0, "errors": {}}],
    }
    assert ctl("stats", "--by", "model").out.endswith(
        "By model\n"
        "model   asked  made  failed         saved    spent  saved $      p50  429s  errors\n"
        "small     800   153       0  650 (81.2 %)   $0.043    $0.19  0.02 ms     0       2\n"
        "(none)      2     2       0       0 (0 %)  unknown       $0  0.02 ms     0       0\n"
    )


def test_groups_tell_how_near_answers_and_batches_did_where_there_were_any(stats, ctl):
    near = {"checked": 200, "wrong": 3, "error_rate": 0.015, "error_low": 0.0051, "error_high": 0.0432}
    stats |= {
        "by": "operation",
        "groups": [
            {
                "name": "tag",
                **LINE,
                "batched": {"questions": 410, "batches": 50.0, "mean_questions": 8.2, "left_out": 3},
            },
            {"name": "ask", **LINE, "semantic_checks": near},
            {"name": "", **LINE},
        ],
    }
    lines = ctl("stats", "--by", "operation").out.splitlines()[-4:]
    assert lines[0].endswith("  errors  near answers wrong          asked together")
    assert lines[1].endswith("       2  –                           410, 8.2 at once, 3 then alone")
    assert lines[2].endswith("       2  1.5% of 200 (0.5% to 4.3%)  –")
    assert lines[3].endswith("       2  –                           –")


def test_what_nobody_said_the_cost_of_is_told_and_estimated_beside_what_is_known(stats, ctl):
    unknown = {"cost_unknown_calls": 2, "cost_unknown_attempts": 3, "cost_estimate_usd": 0.5}
    stats |= {"spent_usd": 0.25, **unknown}
    assert "spent   $0.25, and 3 attempts of unknown cost, counted as ~$0.50 (estimate)\n" in ctl("stats").out
    stats |= {"spent_usd": None}
    assert "spent   3 attempts of unknown cost, counted as ~$0.50 (estimate)\n" in ctl("stats").out


def test_a_model_that_was_asked_and_never_answered_has_its_own_line(stats, ctl):
    tried = {**LINE, "calls": 0, "provider_calls": 3, "failed_attempts": {"provider_error": 2, "rate_limited": 1}}
    tried |= {
        "saved_calls": {},
        "spent_usd": None,
        "cost_unknown_attempts": 2,
        "cost_estimate_usd": 0.02,
        "saved_usd": 0.0,
    }
    stats |= {
        "by": "model",
        "failed_attempts": tried["failed_attempts"],
        "groups": [{"name": "sick", **tried, "errors": {}}],
    }
    out = ctl("stats", "--by", "model").out
    assert "provider calls that failed               3: 2 provider_error, 1 rate_limited\n" in out
    assert out.endswith(
        "model  asked  made  failed  saved   spent  saved $  p50  429s  errors\n"
        "sick       0     3       3      –  ~$0.02       $0    –     0       0\n"
    )


TOGETHER = {
    "operation": "tag", "model": "", "allowed": 4, "max_size": 10, "batches": 50, "items": 410, "questions": 412,
    "mean_items": 8.2, "left": {"it is full": 50}, "alone": {}, "checks": 40, "agreed": 38, "agreement": 0.95,
    "agreement_low": 0.835, "agreement_high": 0.986, "self_agreement": 1.0, "lost": 0.05, "asked_again": 2, "lowered": 1,
    "raised": 0, "failures": {"missing": 3}, "calls_saved": 320, "tokens_saved": 12000, "usd_saved": None,
}  # fmt: skip


def test_what_was_asked_together(stats, ctl):
    stats["batching"] = [TOGETHER, {**TOGETHER, "operation": "never", "batches": 0}]
    shown = ctl("stats").out
    assert "Asked together" in shown
    [row] = [line for line in shown.splitlines() if line.startswith("tag ")]
    for told in (
        "(usual)",
        "4 of 10",
        "50",
        "412",
        "320",
        "about 12,000",
        "95.0% of 40 (83.5% to 98.6%), 5.0% worse",
        "3 missing",
    ):
        assert told in row
    assert "never" not in shown


def test_nothing_was_compared_or_asked_together(stats, ctl):
    nothing = {"agreement": None, "agreement_low": None, "agreement_high": None, "lost": None, "tokens_saved": None}
    stats["batching"] = [{**TOGETHER, **nothing, "failures": {}, "usd_saved": -0.5}]
    shown = ctl("stats").out
    assert "nothing was compared yet" in shown
    assert "about -$0.5" in shown
    stats["batching"] = []
    assert "Asked together" not in ctl("stats").out
