"""The uppermost layer: laid over everything, checked like everything, kept apart, taken away again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiorchd.config.load import Loaded, load, load_text
from aiorchd.config.overrides import MOST_OVERRIDES, NO_OVERRIDES, Overrides, to_wire, with_override, without_override
from aiorchd.config.problems import ConfigError

FILE = Path("/etc/aiorch/aiorch.toml")
TEXT = """\
[providers.main]
base_url = "https://a.example/v1"
[[models]]
name = "small"
provider = "main"
[[models]]
name = "gpt-4.1"
provider = "main"
[cache]
ttl_s = 60
[daemon]
log_levels = {store = "debug"}
"""
NAMES: dict[str, Any] = {"providers": ("main",), "models": ("small", "gpt-4.1")}


def overridden(*pairs: tuple[str, Any], text: str = TEXT, environ: dict[str, str] | None = None) -> Loaded:
    held: Overrides = NO_OVERRIDES
    for key, value in pairs:
        held = with_override(held, key, value, **NAMES)
    return load_text(text.encode(), FILE, environ or {}, overrides=held)


def refused(*pairs: tuple[str, Any], text: str = TEXT) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        overridden(*pairs, text=text)
    return [str(problem) for problem in caught.value.problems]


def test_it_wins_over_file_and_environment_and_is_a_layer_of_its_own() -> None:
    loaded = overridden(
        ("cache.ttl_s", 5),
        ("models.gpt-4.1.max_concurrency", 3),
        ("daemon.log_levels.reload", "debug"),
        environ={"AIORCH__CACHE__TTL_S": "7"},
    )
    assert loaded.config.cache.ttl_s == 5.0
    assert loaded.config.models[1].max_concurrency == 3
    assert loaded.config.daemon.log_levels == {"store": "debug", "reload": "debug"}
    assert loaded.layers[-1].name == "override"
    assert loaded.layers[-1].values == {
        "cache.ttl_s": 5,
        "models[1].max_concurrency": 3,
        "daemon.log_levels.reload": "debug",
    }
    assert to_wire(loaded.overrides) == {
        "cache.ttl_s": 5,
        'models."gpt-4.1".max_concurrency': 3,
        "daemon.log_levels.reload": "debug",
    }
    assert loaded.fingerprint != load_text(TEXT.encode(), FILE, {"AIORCH__CACHE__TTL_S": "7"}).fingerprint


def test_a_profile_can_be_overridden_and_stays_below_the_file() -> None:
    loaded = overridden(("profile", "basic"))
    assert (loaded.config.concurrency.max, loaded.config.cache.ttl_s) == (1, 60.0)


def test_a_section_takes_a_table_of_its_keys_at_once() -> None:
    config = overridden(("timeouts", {"total_s": 5000, "max_total_s": 9000})).config
    assert (config.timeouts.total_s, config.timeouts.max_total_s) == (5000.0, 9000.0)
    assert overridden(("models.small", {"enabled": False})).config.models[0].enabled is False


def test_an_array_that_some_clients_send_for_an_empty_table_is_one() -> None:
    assert overridden(("daemon.log_levels", [])).config.daemon.log_levels == {}


def test_all_problems_are_told_and_named_by_the_override() -> None:
    assert refused(("cache.ttl", 5)) == ['override: cache.ttl: [cache] has no key "ttl". Did you mean "ttl_s"?']
    assert refused(("cache.ttl_s", -5), ("retry.max_attempts", "x")) == [
        'override: retry.max_attempts: must be a whole number from 1 to 20 (attempts), not "x".',
        "override: cache.ttl_s: must be a number from 0 to 315360000 (seconds), not -5.",
    ]
    assert refused(("retry", {"jitter": 2, "max_attemps": 1})) == [
        'override: retry.max_attemps: [retry] has no key "max_attemps". Did you mean "max_attempts"?'
    ]
    assert refused(("cache", 5)) == [
        (
            "override: cache: is a table, not a key. Its keys: strategy, max_entries, max_bytes, ttl_s, stale_s, disk_max_bytes, "
            "disk_max_entries."
        )
    ]
    assert refused(("timeouts.total_s", 5000)) == [
        "override: timeouts.total_s: 5000 is above timeouts.max_total_s, 3600."
    ]
    assert refused(("cache.ttl_s", None)) == [
        "override: cache.ttl_s: must be a number from 0 to 315360000 (seconds), not nothing."
    ]


@pytest.mark.parametrize(
    "key",
    [
        "daemon.admin_users",
        "daemon.allow_groups",
        "providers.main.base_url",
        "providers.main.api_key_env",
        "providers.main.headers.X-A",
        "models.small.name",
    ],
)
def test_who_may_do_what_and_where_keys_go_is_not_overridden(key: str) -> None:
    [told] = refused((key, "x"))
    assert told == (
        f"override: {key}: decides who may do what or where a key goes, and is not overridden. Change it in the file."
    )


@pytest.mark.parametrize("value", ["\udcff", b"x", {"a": ["\ud800"]}, {1: 2}, [[[b"x"]]]])
def test_what_toml_could_not_hold_is_refused(value: Any) -> None:
    [told] = refused(("models.small.extra", value))
    assert "holds bytes" in told
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    [told] = refused(("models.small.extra", {"a": deep}))
    assert "nests too deep" in told


def test_a_secret_is_refused_and_not_repeated() -> None:
    [told] = refused(("models.small.extra", {"auth": "sk-abcdefgh12345678"}))
    assert "sk-" not in told


def test_an_override_of_a_model_that_went_is_passed_over_with_a_warning() -> None:
    held = with_override(NO_OVERRIDES, "models.small.enabled", False, **NAMES)
    text = TEXT.replace('name = "small"', 'name = "tiny"')
    loaded = load_text(text.encode(), FILE, {}, overrides=held)
    assert [str(warning) for warning in loaded.warnings] == [
        "override: models.small.enabled: is passed over: there is no such model any more."
    ]
    assert loaded.config.models[0].enabled is True
    assert to_wire(loaded.overrides) == {"models.small.enabled": False}, "it is held for when the model comes back"
    again = load_text(TEXT.encode(), FILE, {}, overrides=held)
    assert again.config.models[0].enabled is False


def test_a_model_keeps_its_override_when_the_order_changes() -> None:
    held = with_override(NO_OVERRIDES, "models[0].max_concurrency", 2, **NAMES)
    blocks = TEXT.split("[[models]]")
    text = blocks[0] + '[[models]]\nname = "first"\nprovider = "main"\n' + "[[models]]".join(["", *blocks[1:]])
    loaded = load_text(text.encode(), FILE, {}, overrides=held)
    assert {model.name: model.max_concurrency for model in loaded.config.models} == {
        "first": None,
        "small": 2,
        "gpt-4.1": None,
    }


def test_without_a_file_the_built_in_configuration_is_overridden() -> None:
    held = with_override(NO_OVERRIDES, "retry.jitter", 0, providers=(), models=())
    loaded = load(None, {}, overrides=held)
    assert loaded.config.retry.jitter == 0.0
    assert loaded.simulated


def test_a_later_one_takes_the_place_of_an_earlier_one_and_of_what_is_below_it() -> None:
    held = with_override(NO_OVERRIDES, "daemon.log_levels.reload", "debug", **NAMES)
    held = with_override(held, "cache.ttl_s", 1, **NAMES)
    held = with_override(held, "daemon.log_levels", {"door": "info"}, **NAMES)
    held = with_override(held, "cache.ttl_s", 2, **NAMES)
    assert to_wire(held) == {"daemon.log_levels": {"door": "info"}, "cache.ttl_s": 2}
    held = with_override(held, "daemon.log_levels.reload", "error", **NAMES)
    assert load(None, {}, overrides=held).config.daemon.log_levels == {"door": "info", "reload": "error"}


def test_taking_away_one_those_below_a_section_or_all() -> None:
    held = with_override(NO_OVERRIDES, "cache", {"ttl_s": 1, "max_entries": 2}, **NAMES)
    held = with_override(held, "models.small.enabled", False, **NAMES)
    assert to_wire(without_override(held, "cache.ttl_s", **NAMES)) == {
        "cache.max_entries": 2,
        "models.small.enabled": False,
    }
    assert to_wire(without_override(held, "cache", **NAMES)) == {"models.small.enabled": False}
    assert to_wire(without_override(held, "models.small", **NAMES)) == {"cache.ttl_s": 1, "cache.max_entries": 2}
    assert without_override(held, None, **NAMES) == {}
    gone = without_override(held, "models.small.enabled", providers=(), models=())
    assert "models.small.enabled" not in to_wire(gone), "also when the model has gone"
    with pytest.raises(ConfigError) as caught:
        without_override(held, "retry.jitter", **NAMES)
    assert str(caught.value) == (
        "override: retry.jitter: is not overridden. Overridden: cache.ttl_s, cache.max_entries, models.small.enabled."
    )


def test_there_is_a_limit() -> None:
    held = {("models", "small", "extra", str(number)): 1 for number in range(MOST_OVERRIDES)}
    with pytest.raises(ConfigError, match="the most is 1000"):
        with_override(held, "cache.ttl_s", 1, **NAMES)
