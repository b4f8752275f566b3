"""Levels and scenarios: what the guide says they set, below what the file says itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiorchd.config.compare import flatten, flatten_raw
from aiorchd.config.load import Loaded, load, load_text
from aiorchd.config.presets import LEVELS, PROFILES, preset_text, presets_of
from aiorchd.config.problems import ConfigError
from aiorchd.config.schema import Config

FILE = Path("/etc/aiorch/aiorch.toml")
ROOT = Path(__file__).resolve().parents[3]

# What the performance guide fixes, in keys that this release carries out.
FIXED: dict[str, dict[str, Any]] = {
    "basic": {"cache.strategy": "memory", "concurrency.max": 1},
    "moderate": {
        "cache.strategy": "hybrid",
        "cache.max_entries": 1000,
        "concurrency.max": 10,
        "batch.max_size": 10,
        "batch.max_wait_s": 1.0,
    },
    "aggressive": {
        "cache.strategy": "hybrid",
        "concurrency.max": 100,
        "pool.max_connections": 100,
        "batch.max_size": 20,
    },
    "large_repository_analysis": {
        "cache.strategy": "hybrid",
        "concurrency.max": 100,
        "pool.max_connections": 100,
        "batch.max_size": 20,
    },
    "real_time_validation": {
        "cache.strategy": "memory",
        "cache.max_entries": 1000,
        "concurrency.max": 10,
        "queue.calls_per_second": 100,
        "batch.max_size": 10,
        "batch.max_wait_s": 0.05,
    },
    "batch_processing": {"cache.strategy": "disk", "concurrency.max": 1, "batch.max_size": 10, "batch.max_wait_s": 1.0},
    "api_heavy_workload": {
        "batch.max_size": 10,
        "batch.max_wait_s": 1.0,
        "pool.max_connections": 100,
        "pool.max_keepalive": 50,
        "queue.calls_per_second": 100,
    },
}


def accepted(text: str, environ: dict[str, str] | None = None) -> Loaded:
    return load_text(text.encode(), FILE, environ or {})


def test_there_is_a_file_for_each_and_none_besides() -> None:
    folder = ROOT / "daemon" / "aiorchd" / "config" / "presets"
    assert set(PROFILES) == set(FIXED) == {path.stem for path in folder.iterdir()}
    assert LEVELS == ("basic", "moderate", "aggressive")


def test_only_those_are_read() -> None:
    with pytest.raises(KeyError):
        preset_text("../schema")


@pytest.mark.parametrize("name", PROFILES)
def test_each_sets_what_its_document_fixes_and_nothing_else(name: str) -> None:
    sets: dict[str, Any] = {}
    for preset in presets_of(name):
        sets |= flatten_raw(preset.tables)
    assert sets == FIXED[name]
    loaded = accepted(f'profile = "{name}"\n')
    assert not loaded.warnings
    expected = {**flatten(Config()), **FIXED[name], "profile": name}
    in_force = flatten(loaded.config)
    assert {key: value for key, value in in_force.items() if not key.startswith(("models", "providers"))} == expected


@pytest.mark.parametrize("name", PROFILES)
def test_each_is_a_file_that_explains_itself(name: str) -> None:
    text = preset_text(name)
    assert load_text(text.encode(), FILE, {}).warnings == ()
    assert f'`profile = "{name}"`' in " ".join(text.replace("#", "").split())
    assert max(map(len, text.splitlines())) <= 120


def test_the_file_wins_over_its_profile_and_the_environment_over_both() -> None:
    loaded = accepted('profile = "batch_processing"\n[concurrency]\nmax = 7\n', {"AIORCH__CACHE__STRATEGY": "memory"})
    assert (loaded.config.concurrency.max, loaded.config.cache.strategy) == (7, "memory")
    assert [(layer.name, layer.source, layer.values) for layer in loaded.layers[1:]] == [
        ("profile", "basic", {"cache.strategy": "memory", "concurrency.max": 1}),
        (
            "profile",
            "batch_processing",
            {"cache.strategy": "disk", "batch.max_size": 10, "batch.max_wait_s": 1.0},
        ),
        ("file", str(FILE), {"profile": "batch_processing", "concurrency.max": 7}),
        ("environment", "", {"cache.strategy": "memory"}),
    ]


def test_a_profile_of_the_environment_takes_the_place_of_the_files() -> None:
    loaded = accepted('profile = "aggressive"\n[cache]\nttl_s = 5\n', {"AIORCH__PROFILE": "basic"})
    assert (loaded.config.profile, loaded.config.concurrency.max, loaded.config.cache.ttl_s) == ("basic", 1, 5.0)
    assert load(None, {"OPTIMIZATION_LEVEL": "Aggressive"}).config.concurrency.max == 100


@pytest.mark.parametrize("value", ['"fast"', "3", '["basic"]', "true"])
def test_a_profile_that_there_is_not_is_told_where_it_stands(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        accepted(f"profile = {value}\n[cache]\nttl = 3\n")
    first, second = (str(problem) for problem in caught.value.problems)
    assert first.startswith(f"{FILE}:1: profile: must be one of")
    assert "cache.ttl" in second


def test_what_does_not_fit_a_profile_is_told_with_its_name() -> None:
    [warning] = accepted('profile = "api_heavy_workload"\n[pool]\nmax_connections = 10\n').warnings
    assert str(warning) == (
        "profile api_heavy_workload: pool.max_keepalive: 50 is above pool.max_connections and never reached."
    )


def test_a_table_called_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match="profile"):
        accepted('[profile]\nname = "basic"\n')
