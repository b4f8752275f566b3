"""AIORCH__SECTION__KEY over the file, by the type of each key, with problems named by the variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiorchd.config.environment import overlay
from aiorchd.config.load import load, load_text
from aiorchd.config.problems import ConfigError

FILE = Path("/etc/aiorch/aiorch.toml")


def refused(text: str, environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text.encode(), FILE, environ)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("variable", "text", "section", "key", "value"),
    [
        ("AIORCH__RETRY__MAX_ATTEMPTS", "2", "retry", "max_attempts", 2),
        ("AIORCH__RETRY__JITTER", " 0.5 ", "retry", "jitter", 0.5),
        ("AIORCH__RETRY__JITTER", "1", "retry", "jitter", 1.0),
        ("AIORCH__RETRY__BACKOFF_S", "0.1, 2", "retry", "backoff_s", (0.1, 2.0)),
        ("AIORCH__RETRY__BACKOFF_S", "[0.1, 2]", "retry", "backoff_s", (0.1, 2.0)),
        ("AIORCH__RETRY__BACKOFF_S", "3", "retry", "backoff_s", None),
        ("AIORCH__CACHE__STRATEGY", "memory", "cache", "strategy", "memory"),
        ("AIORCH__DAEMON__LOG_CALLS", "yes", "daemon", "log_calls", True),
        ("AIORCH__DAEMON__LOG_CALLS", "0", "daemon", "log_calls", False),
        ("AIORCH__DAEMON__LOG_CALLS", "TRUE", "daemon", "log_calls", True),
        ("AIORCH__DAEMON__ADMIN_USERS", "root,0", "daemon", "admin_users", ("root", 0)),
        ("AIORCH__DAEMON__ADMIN_USERS", "", "daemon", "admin_users", ()),
        ("AIORCH__DAEMON__LOG_LEVELS", '{reload = "debug"}', "daemon", "log_levels", {"reload": "debug"}),
        ("AIORCH__CACHE__MAX_BYTES", "1_048_576", "cache", "max_bytes", 1048576),
    ],
)
def test_values_are_read_by_the_type_of_their_key(variable: str, text: str, section: str, key: str, value: Any) -> None:
    if value is None:
        [told] = refused("", {variable: text})
        assert told.startswith(f"environment: {variable}: must be a list")
        return
    config = load(None, {variable: text}).config
    assert getattr(getattr(config, section), key) == value


def test_the_environment_wins_over_the_file_and_leaves_the_rest() -> None:
    loaded = load_text(b"[retry]\nmax_attempts = 3\njitter = 0.1\n", FILE, {"AIORCH__RETRY__MAX_ATTEMPTS": "5"})
    assert (loaded.config.retry.max_attempts, loaded.config.retry.jitter) == (5, 0.1)
    assert [(layer.name, layer.source) for layer in loaded.layers] == [
        ("built-in", ""),
        ("file", str(FILE)),
        ("environment", ""),
    ]
    assert loaded.layers[1].values == {"retry.max_attempts": 3, "retry.jitter": 0.1}
    assert loaded.layers[2].values == {"retry.max_attempts": 5}


def test_the_raw_tables_stay_as_they_are() -> None:
    raw = {"retry": {"max_attempts": 3}}
    overlay(raw, {"AIORCH__RETRY__MAX_ATTEMPTS": "5"})
    assert raw == {"retry": {"max_attempts": 3}}


def test_a_provider_of_the_file_is_found_though_the_environment_knows_no_case() -> None:
    text = b'[providers.My-Main]\nbase_url = "https://a.example/v1"\n'
    loaded = load_text(text, FILE, {"AIORCH__PROVIDERS__MY_MAIN__HTTP2": "true"})
    assert list(loaded.config.providers) == ["My-Main"]
    assert loaded.config.providers["My-Main"].http2 is True


def test_a_provider_can_be_made_in_the_environment_alone() -> None:
    loaded = load(None, {"AIORCH__PROVIDERS__LOCAL__BASE_URL": "http://127.0.0.1:11434/v1"})
    assert loaded.config.providers["local"].base_url == "http://127.0.0.1:11434/v1"
    assert loaded.layers[1].values == {"providers.local.base_url": "http://127.0.0.1:11434/v1"}


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("AIORCH__RETRY__MAX_ATTEMPTS", "many", 'must be a whole number from 1 to 20 (attempts), not "many".'),
        ("AIORCH__RETRY__MAX_ATTEMPTS", "0", "must be a whole number from 1 to 20 (attempts), not 0."),
        ("AIORCH__RETRY__BACKOFF_S", "1,x", 'must be a number from 0 to 3600, not "x".'),
        ("AIORCH__RETRY__JITER", "1", 'sets no key of [retry]. Did you mean "jitter"?'),
        ("AIORCH__RETRIES__JITTER", "1", 'with a section that exists. Did you mean "retry"?'),
        ("AIORCH__RETRY", "1", "is not of the form AIORCH__SECTION__KEY"),
        ("AIORCH__", "1", "is not of the form AIORCH__SECTION__KEY"),
        ("AIORCH__MODELS__SMALL__ENABLED", "1", "models are not set in the environment."),
        ("AIORCH__PROVIDERS__MAIN__HTTP", "1", 'sets no key of a provider. Did you mean "http2"?'),
        ("AIORCH__PROVIDERS____HTTP2", "1", "sets no key of a provider."),
        ("AIORCH__DAEMON__LOG_CALLS", "perhaps", 'must be true or false, not "perhaps".'),
        ("AIORCH__DAEMON__LOG_LEVELS", "[[[[", "must be a table"),
    ],
)
def test_problems_are_named_by_the_variable(variable: str, text: str, told: str) -> None:
    found = refused("", {variable: text})
    assert any(line.startswith(f"environment: {variable}: ") and told in line for line in found), found


def test_a_problem_of_the_file_that_the_environment_covers_is_a_warning() -> None:
    text = b"[retry]\nmax_attempts = 0\njitter = 0.1\nbackoff_s = [1, -1]\n"
    environ = {
        "AIORCH__RETRY__MAX_ATTEMPTS": "5",
        "AIORCH__RETRY__JITTER": "0.2",
        "AIORCH__RETRY__BACKOFF_S": "0.1,0.2",
    }
    loaded = load_text(text, FILE, environ)
    assert loaded.config.retry.max_attempts == 5
    found = [(warning.key, warning.line, warning.sentence) for warning in loaded.warnings]
    assert [(key, line) for key, line, _ in found] == [("retry.max_attempts", 2), ("retry.backoff_s[1]", 4)]
    assert found[0][2] == "must be a whole number from 1 to 20 (attempts), not 0."
    hidden = "Without environment AIORCH__RETRY__MAX_ATTEMPTS, which hides it, it is refused."
    assert loaded.warnings[0].remedy == hidden


def test_one_that_an_override_covers_is_a_warning_too() -> None:
    text = b'[cache]\nttl_s = "x"\n'
    loaded = load_text(text, FILE, {}, overrides={("cache", "ttl_s"): 5.0})
    [warning] = loaded.warnings
    assert (warning.key, warning.line) == ("cache.ttl_s", 2)
    assert warning.remedy.endswith("Without override cache.ttl_s, which hides it, it is refused.")
    with pytest.raises(ConfigError):
        load_text(text, FILE, {})


def test_a_section_that_is_no_table_in_the_file_is_told_by_its_line() -> None:
    assert refused("retry = 3", {"AIORCH__RETRY__MAX_ATTEMPTS": "5"}) == [
        f"{FILE}:1: retry: must be a table, not 3. Write [retry] on a line of its own."
    ]


def test_other_variables_are_none_of_ours() -> None:
    assert (
        load(None, {"AIORCH_CONFIG": "x", "AIORCH_SOCKET": "y", "PATH": "z"}).fingerprint == load(None, {}).fingerprint
    )
