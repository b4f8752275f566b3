"""`aiorchctl explain`: one call as a timeline."""

import json
import time

import pytest

from aiorch.errors import NotFound

MISS = {
    "id": "b7-1",
    "at": 3600.0,
    "uid": 1000,
    "pid": 42,
    "unit": "web.service",
    "kind": "chat",
    "operation": None,
    "task": "classification",
    "model": "large",
    "provider": "backup",
    "cache": "miss",
    "error": None,
    "simulated": False,
    "streamed": False,
    "attempts": 2,
    "throttled": 1,
    "fallbacks": 1,
    "usage": {"input": 1200, "cache_read": 0, "cache_write": 0, "output": 12, "reasoning": 0},
    "cost_usd": 0.0042,
    "saved_usd": 0.0,
    "timing": {"queue_s": 0.5, "provider_s": 1.25, "overhead_s": 0.01, "total_s": 1.76},
    "source": None,
    "tags": ["nightly", "pages"],
    "story": {
        "notes": [
            [0.0001, "cache", "not kept: nothing in memory, nothing on disk"],
            [0.26, "route", "fell back to large"],
        ],
        "attempts": [
            {
                "number": 1,
                "model": "small",
                "provider": "main",
                "began_s": 0.001,
                "queue_s": 0.0,
                "provider_s": 0.25,
                "verdict": "throttled",
                "code": "rate_limited",
                "message": "too many requests",
                "status": 429,
                "retry_after_s": 30.0,
                "cost_usd": 0.0,
            },
            {
                "number": 2,
                "model": "large",
                "provider": "backup",
                "began_s": 0.261,
                "queue_s": 0.5,
                "provider_s": 1.0,
                "verdict": "ok",
                "status": 200,
                "tokens": 1212,
                "cost_usd": 0.0042,
            },
        ],
    },
}

SHOWN = """\
Call b7-1
asked   1970-01-01 01:00:00 by user 1000, process 42, unit web.service
what    chat classification
how     asked a provider
model   large at backup
time    1.76 s: 500 ms waiting, 1.25 s at the provider, 10 ms in the daemon
tokens  1,200 in, 12 out
money   cost $0.0042
tags    nightly, pages

What happened
 after  who      what
0.1 ms  cache    not kept: nothing in memory, nothing on disk
  1 ms  attempt  attempt 1 began: small at main
251 ms  attempt  attempt 1 ended: rate_limited: too many requests
260 ms  route    fell back to large
261 ms  attempt  attempt 2 began: large at backup
1.76 s  attempt  attempt 2 ended: answered

Attempts
attempt  model   began  waited  provider  first token  status  tokens     cost  told to wait
      1  small    1 ms     0 s    250 ms            –     429       –       $0        30.0 s
      2  large  261 ms  500 ms    1.00 s            –     200   1,212  $0.0042             –
"""


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_call_that_fell_back(daemon, ctl):
    daemon.answers["explain"] = MISS
    assert ctl("explain", "b7-1").out == SHOWN
    assert daemon.arguments_of("explain") == {"request_id": "b7-1"}
    assert json.loads(ctl("explain", "b7-1", "--json").out) == MISS


HIT = {
    **MISS,
    "id": "b7-2",
    "cache": "exact",
    "story": None,
    "cost_usd": 0.0,
    "saved_usd": 0.0042,
    "timing": {"queue_s": 0.0, "provider_s": 0.0, "overhead_s": 0.00002, "total_s": 0.00002},
}


def test_a_hit_and_the_call_that_paid_for_it(daemon, ctl):
    daemon.answers["explain"] = {**HIT, "source": {**MISS, "kept": True}}
    out = ctl("explain", "b7-2").out
    assert out.startswith("Call b7-2\n")
    assert "how     the same question was answered before: taken from the cache\n" in out
    assert "money   cost $0, saved $0.0042\n" in out
    assert "\nIts answer is that of call b7-1\n" in out
    assert out.endswith(SHOWN.partition("\n")[2])


def test_a_hit_whose_source_is_gone_or_another_users(daemon, ctl):
    daemon.answers["explain"] = {**HIT, "source": {"id": "a-9", "kept": False}}
    assert ctl("explain", "b7-2").out.endswith("\nIts answer is that of call a-9, which is not on record any more.\n")
    other = {"id": "a-9", "kept": True, "at": 1.0, "model": "small", "provider": "main"}
    daemon.answers["explain"] = {**HIT, "source": other}
    assert ctl("explain", "b7-2").out.endswith("\nIts answer is that of call a-9 of another user, by small at main.\n")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("configuration", "the configuration"),
        ("registered", "the process that registered the model"),
        ("genai-prices 0.2.3 (openai)", "the bundled table: genai-prices 0.2.3 (openai)"),
    ],
)
def test_where_a_price_is_from(daemon, ctl, source, told):
    last = {**MISS["story"]["attempts"][-1], "price_source": source}
    daemon.answers["explain"] = {**MISS, "story": {**MISS["story"], "attempts": [last]}}
    assert f"price from  {told}\n" in ctl("explain", "b7-1").out


def test_two_tries_side_by_side_say_who_won_and_what_nobody_was_told(daemon, ctl):
    first = {"number": 1, "model": "small", "provider": "main", "began_s": 0.001, "queue_s": 0.0, "provider_s": 1.0}
    first |= {"verdict": "ignored", "code": "cancelled", "race": "lost", "cost_estimate_usd": 0.25}
    second = {"number": 2, "model": "large", "provider": "backup", "began_s": 0.5, "queue_s": 0.0, "provider_s": 0.501}
    second |= {"verdict": "ok", "hedge": True, "race": "won", "cost_usd": 0.0042, "tokens": 1212}
    unknown = {"cost_usd": None, "cost_known_usd": 0.0042, "cost_unknown_attempts": 1, "cost_estimate_usd": 0.25}
    daemon.answers["explain"] = {**MISS, **unknown, "story": {"attempts": [second, first]}}
    out = ctl("explain", "b7-1").out
    assert "money   known: $0.0042; beside it 1 attempt of unknown cost, counted as ~$0.25 (estimate)\n" in out
    assert "1.00 s  attempt  attempt 1 ended: given up, for the other try answered first\n" in out
    assert "1.00 s  attempt  attempt 2 ended: answered first\n" in out
    assert out.endswith(
        "attempt  model  side by side      began  waited  provider  first token  status  tokens     cost  told to wait\n"
        "      1  small  first try, lost    1 ms     0 s    1.00 s            –       –       –   ~$0.25             –\n"
        "      2  large  second try, won  500 ms     0 s    501 ms            –       –   1,212  $0.0042             –\n"
    )


def test_a_failure(daemon, ctl):
    story = {"error": {"message": "the provider refused the key", "stage": "dispatch"}}
    daemon.answers["explain"] = {**MISS, "cache": "none", "error": "provider_auth", "cost_usd": None, "story": story}
    out = ctl("explain", "b7-1").out
    assert "error   provider_auth: the provider refused the key (decided by dispatch)\n" in out
    assert "how     ended without an answer\n" in out
    assert "money   cost unknown" in out


def test_a_call_nobody_knows(daemon, ctl):
    daemon.answers["explain"] = NotFound("request_id: no call 'x' is known")
    ran = ctl("explain", "x")
    assert ran.code == 64
    assert ran.err.startswith("aiorchctl: not_found: ")
