"""`aiorchctl cache`: nothing is forgotten by accident."""

import json

from aiorch.errors import StorageError

CACHE = {
    "busy": 0,
    "strategy": "hybrid",
    "disk_hits": 3,
    "kept": 1200,
    "not_kept": 1,
    "memory": {
        "entries": 250,
        "bytes": 1048576,
        "max_entries": 1000,
        "max_bytes": 67108864,
        "hits": 900,
        "misses": 100,
        "evictions": 7,
        "expired": 0,
        "refused": 0,
        "oldest_age_s": 90.0,
        "median_age_s": 12.0,
    },
    "disk": {
        "entries": 1200,
        "bytes": 5242880,
        "max_entries": 1000000,
        "max_bytes": 1073741824,
        "asked": 100,
        "found": 3,
        "poisoned": 1,
        "dropped": 0,
        "queued": 2,
    },
}

SHOWN = """\
strategy      hybrid
memory        250 of 1,000 (25 %) answers, 1 MiB of 64 MiB (1.6 %)
              asked 1,000 times, found 900 (90 %)
              the oldest 1 min 30 s old, half of them younger than 12.0 s
              7 gave way to newer ones
disk          1,200 of 1,000,000 (0.1 %) answers, 5 MiB of 1 GiB (0.5 %)
              asked 100 times, found 3 (3 %)
              2 about to be written
              1 damaged and dropped
answers kept  1,200 since this generation began; 1 answer was not fit to be kept
"""


def test_stats(daemon, ctl):
    daemon.answers["cache.stats"] = CACHE
    daemon.answers["stats"] = {"calls": 0}
    assert ctl("cache", "stats").out == SHOWN
    told = json.loads(ctl("cache", "stats", "--json").out)
    assert told.pop("savings")["calls"] == 0
    assert told == CACHE


def test_stats_say_what_was_saved(daemon, ctl):
    daemon.answers["cache.stats"] = CACHE
    daemon.answers["stats"] = {
        "calls": 200,
        "saved_calls": {"exact": 140, "stale": 10},
        "hit_rates": {"all": 0.75},
        "saved_usd": 0.5,
        "saving_unknown_calls": 0,
        "saved_tokens": 12345,
        "saved_s": 75.0,
        "spent_usd": 3.0,
    }
    out = ctl("cache", "stats").out
    assert "150 (75 %) of all" in out or "150 (75 % of all)" in out
    assert "140 (70 %)" in out
    assert "$0.50" in out
    assert "12,345 tokens" in out
    assert "providers' time" in out
    assert "spent" not in out


def test_stats_without_records(daemon, ctl):
    daemon.answers["cache.stats"] = CACHE
    daemon.answers["stats"] = StorageError("the disk is full")
    assert ctl("cache", "stats").out == SHOWN


def test_stats_of_a_cache_that_is_off(daemon, ctl):
    daemon.answers["stats"] = {"calls": 0}
    daemon.answers["cache.stats"] = {"strategy": "off", "memory": None, "disk": None, "kept": 0, "not_kept": 0}
    assert ctl("cache", "stats").out.startswith("strategy      off: answers are not kept\n")


def test_clear_needs_a_yes_where_nobody_can_be_asked(daemon, ctl):
    ran = ctl("cache", "clear")
    assert ran.code == 64
    assert "say --yes" in ran.err
    assert daemon.asked == []


def test_clear(daemon, ctl):
    daemon.answers["cache.clear"] = {"removed": 1234}
    assert ctl("cache", "clear", "--yes").out == "forgot 1,234 answers\n"
    assert json.loads(ctl("cache", "clear", "--yes", "--json").out) == {"removed": 1234}


def test_clear_asks_on_a_terminal(daemon, ctl, monkeypatch):
    import sys

    daemon.answers["cache.clear"] = {"removed": 1}
    answers = iter(["n", "y"])
    monkeypatch.setattr("aiorchctl.commands.cache._somebody_there", lambda: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: next(answers))
    ran = ctl("cache", "clear")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith("aiorchctl: nothing was forgotten\n")
    assert daemon.asked == []
    assert ctl("cache", "clear").out.endswith("forgot 1 answer\n")
    assert sys.stdin is not None


def test_forget(daemon, ctl):
    daemon.answers["cache.forget"] = lambda arguments: {"removed": 1 if "request_id" in arguments else 0}
    assert ctl("cache", "forget", "--request-id", "c-1").out == "forgot 1 answer\n"
    assert daemon.arguments_of("cache.forget") == {"request_id": "c-1"}
    assert ctl("cache", "forget", "--tag", "nightly").out == "forgot 0 answers\n"
    assert daemon.arguments_of("cache.forget") == {"tag": "nightly"}
