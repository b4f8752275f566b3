"""What `aiorchctl limits` shows a person."""

from __future__ import annotations

from aiorchctl.commands.limits import page
from aiorchctl.page import plain

TARGET = {
    "model": "small",
    "provider": "main",
    "way": "small",
    "permits": {
        "limit": 7, "in_use": 5, "algorithm": "aimd", "min": 1, "max": 10, "changed_by": "429", "changed_s_ago": 3.0,
    },
    "accounts": [
        {
            "owner": "model small",
            "closed_s": 4.0,
            "closed_why": "the provider said not before",
            "quotas": [
                {"kind": "requests", "window_s": 60.0, "limit": 600.0, "level": 12.4, "source": "reported", "outside_per_s": 2.5},
                {"kind": "tokens", "window_s": 86400.0, "limit": None, "level": None, "source": "found", "outside_per_s": 0.0},
            ],
        }
    ],
    "waiting": 1,
    "max_waiting": 1000,
    "who_waits": [
        {
            "call": "abc-1", "uid": 1000, "unit": "web.service", "priority": "bulk", "waits_s": 1.5,
            "waits_for": "requests a minute", "tokens": 20, "left_s": 100.0,
        }
    ],
}  # fmt: skip


def test_everything_is_there():
    told = plain(page({"targets": [TARGET]}))
    for words in (
        "5 of 7", "429, 3", "closed for 4", "the provider said not before", "requests a minute, model small", "600", "reported",
        "2.5/s", "tokens a day", "1000 (web.service)", "bulk", "abc-1",
    ):  # fmt: skip
        assert words in told


def test_nothing_known_is_said():
    idle = {
        **TARGET,
        "accounts": [{"owner": "model small", "closed_s": 0.0, "closed_why": None, "quotas": []}],
        "who_waits": [],
    }
    told = plain(page({"targets": [idle]}))
    assert "open" in told
    assert "No rate limit" in told
    assert "Who waits" not in told


def test_a_long_queue_is_cut():
    waiting = [{**TARGET["who_waits"][0], "call": f"abc-{number}"} for number in range(30)]
    told = plain(page({"targets": [{**TARGET, "who_waits": waiting}]}))
    assert "10 more" in told
