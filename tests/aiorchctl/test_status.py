"""`aiorchctl status` and `models list`: what is wrong comes first, and nothing unknown looks fine."""

import copy
import json
import time

import pytest

MODEL = {
    "name": "small",
    "provider": "main",
    "dialect": "openai",
    "id": "gpt-4o-mini",
    "enabled": True,
    "input_usd_per_1m": 0.15,
    "output_usd_per_1m": None,
    "requests_per_minute": 500,
    "tokens_per_minute": None,
    "simulated": False,
    "key_problem": None,
    "live": {
        "name": "small",
        "permits": 10,
        "in_use": 2,
        "waiting": 1,
        "requests_left": 49.6,
        "tokens_left": None,
        "closed_s": 0.0,
    },
}
STATUS = {
    "health": "ok",
    "concerns": [],
    "version": "0.1.0",
    "protocol": 1,
    "pid": 4711,
    "started_at": 0.0,
    "uptime_s": 3725.0,
    "simulated": False,
    "generation": 3,
    "config": {
        "path": "/etc/aiorch/aiorch.toml",
        "rule": "/etc/aiorch/aiorch.toml",
        "verdict": {"at": 60.0, "trigger": "file", "result": "accepted", "generation": 3, "problems": []},
    },
    "socket": {"path": "/run/aiorch/aiorch.sock", "rule": "$AIORCH_SOCKET"},
    "state": {"path": "/var/lib/aiorch", "rule": "--state-dir"},
    "models": [MODEL],
    "stages": {
        "observe": {"inside": 2, "hits": 650, "answered": 150, "failed": 1, "cancelled": 0},
        "cache": {"strategy": "memory", "memory": {"entries": 5, "bytes": 2048, "max_entries": 10, "max_bytes": 4096}},
        "coalesce": {"flights": 1, "passengers": 2},
    },
    "generations": {"number": 3, "leases": 2, "retiring": 0},
    "door": {"connections": 4, "in_flight": 2},
    "store": {},
    "transport": {"in_use": 1, "waiting": 0, "dialling": 0, "idle": 3},
}

SHOWN = """\
aiorchd 0.1.0 is ok, generation 3, up 1 h 2 min (since 1970-01-01 00:00:00)

configuration    /etc/aiorch/aiorch.toml
last look at it  accepted at 1970-01-01 00:01:00; generation 3 is in force
socket           /run/aiorch/aiorch.sock (by $AIORCH_SOCKET)
state            /var/lib/aiorch (by --state-dir)
process          4711

Models
model  at                  running  waiting  requests left  tokens left  state
small  main (gpt-4o-mini)  2 of 10        1   50 (500/min)     no limit  ready

Cache
strategy  memory
memory    5 of 10 (50 %) answers, 2 KiB of 4 KiB (50 %)

Now
hosts           4 connections, 2 requests in flight
calls           2 under way; since the generation began 650 hits, 150 answered, 1 failed, 0 cancelled
shared flights  1 for 2 calls
providers       1 request under way, 0 waiting, 3 connections idle
"""


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def status(daemon):
    daemon.answers["status"] = copy.deepcopy(STATUS)
    return daemon.answers["status"]


def test_all_is_well(status, ctl):
    ran = ctl("status")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == SHOWN


def test_json_is_what_the_daemon_said(status, ctl):
    assert json.loads(ctl("status", "--json").out) == STATUS


def test_overrides_are_told(status, ctl):
    assert "overrides" not in ctl("status").out
    status["config"]["overrides"] = {"cache.ttl_s": 5, "models.small.enabled": False}
    assert "\noverrides        cache.ttl_s, models.small.enabled\n" in ctl("status").out


def test_what_is_wrong_comes_first(status, ctl):
    status |= {"health": "degraded", "concerns": ["cache.db cannot be written: disk full", "provider main: no key"]}
    lines = ctl("status").out.splitlines()
    assert lines[0].startswith("aiorchd 0.1.0 is degraded, ")
    assert lines[1] == "! cache.db cannot be written: disk full"
    assert lines[2] == "! provider main: no key"


def test_a_refused_file(status, ctl):
    problem = {"file": "/x", "key": "a.b", "line": 7, "column": None, "sentence": "is wrong.", "remedy": "Mend it."}
    status["config"]["verdict"] |= {"result": "refused", "problems": [problem]}
    out = ctl("status").out
    assert "last look at it  refused at 1970-01-01 00:01:00; generation 3 stays in force:\n" in out
    assert "                 /x:7: a.b: is wrong. Mend it.\n" in out


def test_simulated_answers_are_told(status, ctl):
    status["simulated"] = True
    assert ctl("status").out.splitlines()[1].startswith("! No model is configured: an embedded simulated one answers")


def test_stores_and_their_faults(status, ctl):
    files = {
        "cache": {"path": "/s/cache.db", "state": "ok", "fault": None, "since": None, "faults": 0, "bytes": 2048},
        "metrics": {
            "path": "/s/m.db",
            "state": "full",
            "fault": "no space left",
            "since": 60.0,
            "faults": 3,
            "bytes": 0,
        },
    }
    status["store"] = {"state_dir": "/s", "files": files, "writer": {"rounds": 5}}
    assert ctl("status").out.endswith(
        "Stores\n"
        "store     size  faults  state\n"
        "cache    2 KiB       0  ok\n"
        "metrics    0 B       3  full since 1970-01-01 00:01:00: no space left\n"
    )


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "ready"),
        ({"enabled": False, "live": None}, "switched off"),
        ({"key_problem": "$OPENAI_API_KEY is not set"}, "$OPENAI_API_KEY is not set"),
        ({"live": {**MODEL["live"], "closed_s": 12.0}}, "closed by its provider for 12.0 s"),
        ({"simulated": True}, "simulated"),
    ],
)
def test_the_state_of_a_model(status, ctl, change, state):
    status["models"] = [{**MODEL, **change}]
    row = next(line for line in ctl("status").out.splitlines() if line.startswith("small"))
    assert row.endswith(f"  {state}")


def test_models_with_prices_that_are_not_known(daemon, ctl):
    daemon.answers["models.list"] = [
        MODEL,
        {
            **MODEL,
            "name": "free",
            "id": "free",
            "output_usd_per_1m": 0.0,
            "price_source": "configuration",
            "live": None,
        },
        {**MODEL, "name": "listed", "id": "listed", "price_source": "genai-prices 0.2.3 (openai)", "live": None},
    ]
    assert ctl("models", "list").out == (
        "Models\n"
        "model   at                  in / 1M  out / 1M  price from     running  waiting  requests left  tokens left  state\n"
        "small   main (gpt-4o-mini)    $0.15   unknown  nowhere        2 of 10        1   50 (500/min)     no limit  ready\n"
        "free    main                  $0.15        $0  file                 –        –              –            –  ready\n"
        "listed  main                  $0.15   unknown  table: openai        –        –              –            –  ready\n"
    )
    assert json.loads(ctl("models", "list", "--json").out)[0] == MODEL


def test_an_older_daemon_that_says_little_is_shown_all_the_same(daemon, ctl):
    daemon.answers["status"] = {"health": "ok", "version": "0.0.1"}
    ran = ctl("status")
    assert ran.code == 0
    assert ran.out.startswith("aiorchd 0.0.1 is ok, generation unknown, up unknown (since unknown)\n")
