"""The environment names of the guides: what they set, what wins, and that none of them keeps the daemon from starting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiorchd.config.compare import flatten
from aiorchd.config.document_names import DOCUMENT_NAMES, understand
from aiorchd.config.load import load, load_text

FILE = Path("/etc/aiorch/aiorch.toml")


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("OPTIMIZATION_LEVEL", "moderate", "profile", "moderate"),
        ("OPTIMIZATION_LEVEL", "AGGRESSIVE", "profile", "aggressive"),
        ("CACHE_STRATEGY", "disk", "cache.strategy", "disk"),
        ("CACHE_SIZE", "500", "cache.max_entries", 500),
        ("OPTIMIZATION_MAX_WORKERS", " 4 ", "concurrency.max", 4),
        ("OPTIMIZATION_PARALLEL", "false", "concurrency.max", 1),
        ("OPTIMIZATION_PARALLEL", "true", "concurrency.max", 10),
        ("TAG_SPACE_MAX_AI_CONCURRENCY", "5", "concurrency.max", 5),
        ("TAG_SPACE_CACHE_SIZE", "500", "cache.max_entries", 500),
        ("TAG_SPACE_CACHE_ENABLED", "false", "cache.strategy", "off"),
        ("TAG_SPACE_CACHE_ENABLED", "True", "cache.strategy", "hybrid"),
        ("CACHE_STRATEGY", "", "cache.strategy", "hybrid"),
    ],
)
def test_what_each_sets(variable: str, text: str, key: str, value: Any) -> None:
    loaded = load(None, {variable: text})
    assert flatten(loaded.config)[key] == value
    assert not loaded.warnings


def test_every_name_of_the_documents_is_known() -> None:
    assert set(DOCUMENT_NAMES) == {
        "OPTIMIZATION_LEVEL", "CACHE_STRATEGY", "OPTIMIZATION_MAX_WORKERS", "OPTIMIZATION_PARALLEL", "CACHE_SIZE",
        "DISK_CACHE_PATH", "REQUEST_THROTTLING", "MAX_REQUESTS_PER_SECOND", "BATCH_PROCESSING", "BATCH_SIZE",
        "MAX_BATCH_WAIT_TIME", "TAG_SPACE_AI_CONCURRENCY", "TAG_SPACE_MAX_AI_CONCURRENCY", "TAG_SPACE_BATCH_SIZE",
        "TAG_SPACE_CACHE_ENABLED", "TAG_SPACE_CACHE_SIZE",
    }  # fmt: skip


def test_the_example_of_the_performance_guide_starts_and_tells_what_has_no_effect() -> None:
    loaded = load(
        None,
        {
            "OPTIMIZATION_LEVEL": "moderate",
            "CACHE_STRATEGY": "hybrid",
            "OPTIMIZATION_MAX_WORKERS": "4",
            "OPTIMIZATION_PARALLEL": "true",
            "CACHE_SIZE": "1000",
            "DISK_CACHE_PATH": "./cache/performance_cache",
            "REQUEST_THROTTLING": "true",
            "MAX_REQUESTS_PER_SECOND": "100",
            "BATCH_PROCESSING": "true",
            "BATCH_SIZE": "10",
            "MAX_BATCH_WAIT_TIME": "1.0",
        },
    )
    assert (loaded.config.profile, loaded.config.concurrency.max) == ("moderate", 4)
    assert loaded.config.queue.calls_per_second == 100
    told = {warning.key: str(warning) for warning in loaded.warnings}
    assert set(told) == {
        "DISK_CACHE_PATH",
        "REQUEST_THROTTLING",
    }
    assert (loaded.config.batch.max_size, loaded.config.batch.max_wait_s) == (10, 1.0)
    assert load(None, {"BATCH_PROCESSING": "false"}).config.batch.max_size == 1
    assert load(None, {"TAG_SPACE_BATCH_SIZE": "5"}).config.batch.max_size == 5
    assert "--state-dir" in told["DISK_CACHE_PATH"]


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("CACHE_SIZE", "lots", "must be a whole number from 1"),
        ("CACHE_SIZE", "0", "must be a whole number from 1"),
        ("CACHE_SIZE", "1\nother = 2", "must be a whole number"),
        ("CACHE_STRATEGY", "redis", 'must be one of "hybrid"'),
        ("OPTIMIZATION_LEVEL", "turbo", "must be one of"),
        ("OPTIMIZATION_PARALLEL", "maybe", "must be true or false"),
        ("TAG_SPACE_CACHE_ENABLED", "2", "must be true or false"),
    ],
)
def test_what_another_program_may_mean_by_them_is_passed_over(variable: str, text: str, words: str) -> None:
    loaded = load(None, {variable: text})
    [warning] = loaded.warnings
    assert (warning.file, warning.key) == ("environment", variable)
    assert words in warning.sentence
    assert loaded.config == load(None, {}).config


def test_a_secret_in_such_a_variable_is_not_repeated() -> None:
    [warning] = load(None, {"CACHE_STRATEGY": "sk-abcdefgh12345678"}).warnings
    assert "sk-abc" not in str(warning)


def test_they_stand_over_the_file_and_below_our_own_names() -> None:
    text = b'[cache]\nstrategy = "memory"\nmax_entries = 7\n'
    assert load_text(text, FILE, {"CACHE_STRATEGY": "disk"}).config.cache.strategy == "disk"
    both = load_text(text, FILE, {"CACHE_STRATEGY": "disk", "AIORCH__CACHE__STRATEGY": "off"})
    assert both.config.cache.strategy == "off"
    assert both.config.cache.max_entries == 7
    assert not both.warnings


def test_of_two_for_one_key_the_more_particular_wins_and_says_so() -> None:
    found = understand({"CACHE_SIZE": "100", "TAG_SPACE_CACHE_SIZE": "200"})
    assert found.values == {("cache", "max_entries"): (200, "TAG_SPACE_CACHE_SIZE")}
    assert found.doubts == (
        ("TAG_SPACE_CACHE_SIZE", "wins over CACHE_SIZE, which sets cache.max_entries to something else.", ""),
    )
    assert not understand({"CACHE_SIZE": "100", "TAG_SPACE_CACHE_SIZE": "100"}).doubts


def test_they_are_part_of_the_fingerprint() -> None:
    assert load(None, {"CACHE_SIZE": "5"}).fingerprint != load(None, {}).fingerprint
