"""A file becomes a configuration, or a list of everything that is wrong with it; nothing else ever comes out."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aiorchd
from aiorchd.config.load import EMBEDDED, Loaded, load, load_text
from aiorchd.config.problems import MOST_PROBLEMS, ConfigError, Problem
from aiorchd.config.schema import Config, sections
from aiorchd.config.schema.daemon import LOG_AREAS

FILE = Path("/etc/aiorch/aiorch.toml")

GOOD = """\
[providers.main]
dialect = "openai"
base_url = "https://api.example.com/v1"
api_key_env = "OPENAI_API_KEY"

[[models]]
name = "small"
provider = "main"
id = "gpt-4o-mini"
input_usd_per_1m = 0.15
output_usd_per_1m = 0.60
requests_per_minute = 500

[[models]]
name = "large"
provider = "main"

[routing]
fallback = ["small", "large"]
"""


def accepted(text: str) -> Loaded:
    return load_text(text.encode(), FILE, {})


def refused(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text.encode() if isinstance(text, str) else text, FILE, {})
    assert caught.value.exit_code == os.EX_CONFIG == 78
    assert caught.value.fingerprint
    prefix = str(FILE)
    assert all(problem.file == prefix for problem in caught.value.problems)
    return [str(problem).removeprefix(prefix) for problem in caught.value.problems]


def warnings(text: str) -> list[str]:
    return [str(problem).removeprefix(str(FILE)) for problem in accepted(text).warnings]


# --- accepted ----------------------------------------------------------------------------------------------------


def test_a_good_file() -> None:
    loaded = accepted(GOOD)
    assert [model.name for model in loaded.config.models] == ["small", "large"]
    assert loaded.config.models[0].provider_model == "gpt-4o-mini"
    assert loaded.config.routing.fallback == ("small", "large")
    assert loaded.config.retry == Config().retry
    assert (loaded.path, loaded.simulated, loaded.empty, loaded.warnings) == (FILE, False, False, ())


def test_a_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "aiorch.toml"
    path.write_text(GOOD)
    path.chmod(0o600)
    assert load(path, {}).config == accepted(GOOD).config


def test_what_is_wrong_with_the_file_itself_is_a_problem_too(tmp_path: Path) -> None:
    path = tmp_path / "aiorch.toml"
    path.write_text(GOOD)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="others than its owner may write it"):
        load(path, {})
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "none", {})
    path.chmod(0o600)
    if os.geteuid() != 0:
        with pytest.raises(ConfigError, match="it belongs to"):
            load(path, {}, owners=frozenset({54321}))


def test_without_a_file_a_simulated_model_answers() -> None:
    loaded = load(None, {})
    assert (loaded.path, loaded.simulated, loaded.empty) == (None, True, False)
    [model] = loaded.config.models
    assert (model.name, model.provider) == (EMBEDDED, EMBEDDED)
    assert loaded.config.providers[EMBEDDED].dialect == "simulated"


def test_a_file_that_names_no_models_is_served_by_the_simulated_one_too() -> None:
    loaded = accepted("[retry]\nmax_attempts = 1\n")
    assert (loaded.simulated, loaded.empty) == (True, False)
    assert loaded.config.retry.max_attempts == 1
    assert [model.name for model in loaded.config.models] == [EMBEDDED]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"])
def test_a_file_that_sets_nothing_is_told_apart(text: str) -> None:
    assert accepted(text).empty


def test_fingerprints_tell_contents_apart() -> None:
    assert accepted(GOOD).fingerprint == accepted(GOOD).fingerprint
    assert accepted(GOOD).fingerprint != accepted(GOOD + "\n").fingerprint
    assert load(None, {"AIORCH__RETRY__JITTER": "0.5"}).fingerprint != load(None, {}).fingerprint
    with pytest.raises(ConfigError) as caught:
        load_text(b"x = ", FILE, {})
    assert caught.value.fingerprint == load_refused_again(b"x = ")


def load_refused_again(content: bytes) -> str:
    try:
        load_text(content, FILE, {})
    except ConfigError as error:
        return error.fingerprint
    raise AssertionError("accepted")


# --- refused -----------------------------------------------------------------------------------------------------


def test_everything_is_told_at_once_in_the_order_of_the_file() -> None:
    told = refused(
        """\
profile = "modrate"
[retry]
max_atempts = 3
backoff_s = [0.5, "x", -1]
[cache]
strategy = "ram"
[providers.main]
dialect = "hsot"
[[models]]
name = "small"
provider = "mian"
requests_per_minute = 0
[[models]]
provider = "main"
[routing]
fallback = ["small", "small"]
[timeouts]
total_s = 4000
"""
    )
    assert told == [
        (
            ':1: profile: must be one of "basic", "moderate", "aggressive", "large_repository_analysis", '
            '"real_time_validation", "batch_processing", "api_heavy_workload", not "modrate". Did you mean "moderate"?'
        ),
        ':3: retry.max_atempts: there is no key "max_atempts" here. Did you mean "max_attempts"?',
        ':4: retry.backoff_s[1]: must be a number from 0 to 3600, not "x".',
        ":4: retry.backoff_s[2]: must be a number from 0 to 3600, not -1.",
        ':6: cache.strategy: must be one of "hybrid", "memory", "disk", "off", not "ram".',
        (
            ':7: providers.main: "base_url" is missing: the dialect openai needs it. '
            'For instance base_url = "https://api.openai.com/v1"'
        ),
        (
            ':8: providers.main.dialect: must be one of "openai", "anthropic", "gemini", "simulated", "host", not "hsot". '
            'Did you mean "host"?'
        ),
        ':11: models[0].provider: there is no provider "mian". Did you mean "main"?',
        ":12: models[0].requests_per_minute: must be a whole number from 1 to 100000000 (requests per minute), not 0.",
        ':13: models[1]: has no "name". Write for instance name = "small"',
        ':16: routing.fallback[1]: "small" stands in the chain twice.',
        ":18: timeouts.total_s: 4000 is above timeouts.max_total_s, 3600.",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = ", ":1: is not TOML: Invalid value."),
        ("x = =", ":1:5: is not TOML: Invalid value."),
        ("a = 1\nb = [1,\n", ":3: is not TOML: "),
        ("[retry]\njitter = 0.1\njitter = 0.2\n", ":3:13: is not TOML: Cannot overwrite a value."),
        ("a = 1\n\x00\n", ":2:1: is not TOML: "),
        ("a = 2020-13-45", ":1"),
        ("a = " + "9" * 5000, ": is not TOML: "),
        ("a = " + "[" * 5000 + "]" * 5000, ": tables or lists are nested too deep."),
        ("\n" + ".".join("a" * 500_000) + " = 1", ":2: tables or lists are nested too deep."),
        ("x = {" + " . ".join(['"a.b"'] * 5000) + " = 1}", ":1: tables or lists are nested too deep."),
        ("[[" + ".".join("a" * 5000) + "]]", ":1: tables or lists are nested too deep."),
    ],
)
def test_what_is_not_toml_is_told_with_its_place(text: str, told: str) -> None:
    [line] = refused(text)
    assert line.startswith(told)


def test_what_is_not_utf8_is_told_with_its_place() -> None:
    assert refused(b'[retry]\njitter = "\xe4"\n') == [":2:11: byte 0xe4 is not UTF-8. Save the file as UTF-8."]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_attempts = 3", 'max_attempts: there is no key "max_attempts" here. Did you mean "retry.max_attempts"?'),
        ("[caches]\nttl_s = 3", 'caches: there is no section "caches" here. Did you mean "cache"?'),
        ("[retry]\nttl_s = 3", 'retry.ttl_s: there is no key "ttl_s" here. Did you mean "cache.ttl_s"?'),
        ("[retry]\nzzz = 3", "Known: max_attempts, backoff_s, jitter, budget_share, budget_retries."),
        ("[Retry]\nmax_attempts = 3", 'Did you mean "retry"?'),
        ("[retry]\nmax-attempts = 3", 'Did you mean "max_attempts"?'),
        ("retry = 5", "retry: must be a table, not 5. Write [retry] on a line of its own."),
        ("models = 5", "models: must be a list of tables, not 5. Write [[models]], in double brackets."),
        ("[models]\nname = 'a'", "models: must be a list of tables, not a table. Write [[models]]"),
        ("models = [3]", "models[0]: must be a table, not 3."),
        ("providers = 5", "providers: must be tables [providers.NAME], not 5."),
        ("[providers]\nbase_url = 'x'", "providers.base_url: stands in [providers] itself, without a provider's name."),
        ("[providers]\nmain = 'x'", 'providers.main: must be a table, not "x".'),
        ('[providers."a b"]\ndialect = "simulated"', "a provider's name is made of"),
        ('[providers.""]\ndialect = "simulated"', "a provider's name is made of"),
        ("[retry]\nmax_attempts = 0", "must be a whole number from 1 to 20 (attempts), not 0."),
        ("[retry]\nmax_attempts = true", "must be a whole number from 1 to 20 (attempts), not true."),
        ("[retry]\nmax_attempts = 2.0", "must be a whole number from 1 to 20 (attempts), not 2.0."),
        ("[retry]\nmax_attempts = '3'", 'must be a whole number from 1 to 20 (attempts), not "3".'),
        ("[retry]\njitter = nan", "must be a number from 0 to 1 (share, 0 to 1), not nan."),
        (
            "[providers.m]\nbase_url='http://h'\n[[models]]\nname='a'\nprovider='m'\nfallback=['a']",
            'fallback[0]: "a" names itself: it is asked before its fallbacks anyway.',
        ),
        (
            "[providers.m]\nbase_url='http://h'\n[[models]]\nname='small'\nprovider='m'\ncontent_filter_fallback=['smal']",
            'content_filter_fallback[0]: there is no model "smal".',
        ),
        ("[routing]\ncontext_window_fallback = ['b']", 'context_window_fallback[0]: there is no model "b".'),
        ("[breaker]\nopen_s = 13", "breaker.open_s: 13 is above breaker.max_open_s, 12."),
        ("[breaker]\nfailure_rate = 0", "must be a number from 0.01 to 1 (share, 0 to 1), not 0."),
        ("[timeouts]\ntotal_s = inf", "must be a number from 0.001 to 86400 (seconds), not inf."),
        ("[timeouts]\ntotal_s = -1", "must be a number from 0.001 to 86400 (seconds), not -1."),
        ("[timeouts]\ntotal_s = 2020-01-01", "must be a number from 0.001 to 86400 (seconds), not 2020-01-01."),
        (
            "[retry]\nbackoff_s = []",
            "must be a list of 1 to 20 items, each a number from 0 to 3600 (seconds), not an empty list.",
        ),
        ("[retry]\nbackoff_s = 1", "must be a list of 1 to 20 items"),
        ("[daemon]\nallow_users = [-1]", "allow_users[0]: must be a whole number from 0 to 4294967294 or a string"),
        ("[daemon]\nallow_users = ['no-such-user-here']", 'this host knows no user "no-such-user-here".'),
        ("[daemon]\nadmin_groups = ['no-such-group-here']", 'this host knows no group "no-such-group-here".'),
        ("[daemon]\nadmin_users = [65534]", "65534 is whoever has no number of their own here"),
        (
            '[daemon]\nlog_levels = {reload = "loud"}',
            'log_levels.reload: must be one of "debug", "info", "warning", "error"',
        ),
        ("[operations.tag]\nbatch_size = 0", "operations.tag.batch_size: must be a whole number from 1 to 100"),
        (
            "[routing]\nstrategy = 'learned'",
            "routing.strategy: is not part of this release: it will serve learned routing.",
        ),
        ("[batch]\nmax_size = 0", "batch.max_size: must be a whole number from 1 to 100"),
        ("[bulk]\nenabled = true", "bulk: is not part of this release"),
        ("[providers.m]\nbase_url='http://h'\napi_keys_env = ['A', 'A']", "api_keys_env[1]: is named twice."),
        ("[providers.m]\nbase_url='http://h'\napi_keys_env = ['']", "api_keys_env[0]: must be a string"),
        (
            "[providers.m]\nbase_url='http://h'\napi_keys_env = ['a b']",
            "api_keys_env[0]: is not the name of an environment",
        ),
        (
            "[providers.m]\nbase_url='http://h'\napi_keys_credential = ['a']\napi_key_env = 'A'",
            "api_keys_credential: stands beside api_key_env",
        ),
        (
            "[providers.m]\ndialect = 'opneai'",
            'must be one of "openai", "anthropic", "gemini", "simulated", "host", not "opneai".',
        ),
        ("[providers.m]\ndialect = 'host'\nbase_url = 'http://h'", "the host dialect has no address"),
        ("[providers.m]\ndialect = 'simulated'\nbase_url = 'http://h'", "the simulated dialect has no address"),
        (
            "[providers.m]\ndialect = 'anthropic'\nstructured_output = 'json_object'",
            'It has "json_schema", "tool", "none".',
        ),
        ("[providers.m]\ndialect = 'gemini'\nstructured_output = 'tool'", 'the dialect gemini has no "tool"'),
        ("[providers.m]\nbase_url = 'https://h'\nstructured_output = 'tool'", 'the dialect openai has no "tool"'),
        ("[providers.m]\ndialect = 'gemini'\nembedding_encoding = 'float'", "is a setting of the dialect openai"),
        ("[providers.m]\ndialect = 'anthropic'\nmax_tokens_field = 'max_tokens'", "is a setting of the dialect openai"),
        ("[providers.m]\nbase_url = 'https://h'\napi_version = '1\\n2'", "is not a version"),
        ("[providers.m]\nbase_url = 'https://h/v1/messages'", "names a single method of the provider"),
    ],
)
def test_each_mistake_has_its_sentence(text: str, told: str) -> None:
    assert any(told in line for line in refused(text)), refused(text)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("api.example.com/v1", "must begin with https:// or http://."),
        ("ftp://api.example.com", "must begin with https:// or http://."),
        ("https://", "names no host"),
        ("https:///v1", "names no host"),
        ("https://h:0/v1", "names no host or no usable port"),
        ("https://h:99999/v1", "is not an address"),
        ("https://[::1/v1", "is not an address"),
        ("https://user:hunter2@h/v1", "holds a user or password"),
        ("https://hunter2@h/v1", "holds a user or password"),
        ("https://h/v1?api-version=hunter2", "must end before ? and #."),
        ("https://h/v1#x", "must end before ? and #."),
        (" https://h/v1", "holds blanks or control characters"),
        ("https://h/v1\\nX: hunter2", "holds blanks or control characters"),
        ("https://h/v1/chat/completions", "names a single method"),
    ],
)
def test_addresses_are_checked_and_never_repeated(url: str, told: str) -> None:
    [line] = refused(f'[providers.m]\nbase_url = "{url}"')
    assert line.startswith(":2: providers.m.base_url: ")
    assert told in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "url", ["https://h", "http://127.0.0.1:11434/v1/", "https://[::1]:8/v1", "https://r.openai.azure.com/openai/v1"]
)
def test_usual_addresses_are_accepted(url: str) -> None:
    assert not warnings(f'[providers.m]\nbase_url = "{url}"\n[[models]]\nname = "a"\nprovider = "m"')


def test_one_place_for_the_key() -> None:
    [line] = refused('[providers.m]\nbase_url = "https://h"\napi_key_env = "A"\napi_key_credential = "b"')
    assert line.startswith(":4: providers.m.api_key_credential: stands beside api_key_env")


@pytest.mark.parametrize(
    "text",
    [
        'api_key = "CANARY"',
        'api_key_env = "CANARY"',
        'api_key_credential = "CANARY"',
        'api_keys_env = ["OK", "CANARY"]',
        'api_keys_credential = ["CANARY", "CANARY"]',
        'api_key_env = "Bearer CANARY"',
        'headers = {Authorization = "Bearer CANARY"}',
        'headers = {"api-key" = "CANARY"}',
        'headers = {"x-custom" = "CANARY"}',
        '"CANARY" = 1',
        'http2 = "CANARY"',
        'base_url = "https://u:CANARY@h/"',
        'token = "CANARY"',
    ],
)
@pytest.mark.parametrize("canary", ["sk-canary0123456789", "plaincanary0123456789"])
def test_no_secret_is_ever_repeated(text: str, canary: str) -> None:
    table = "[providers.m]\ndialect = 'simulated'\n"
    plain_is_fine = canary.startswith("plain") and not ("api_key = " in text or "headers" in text or "token" in text)
    try:
        load_text((table + text.replace("CANARY", canary)).encode(), FILE, {})
    except ConfigError as error:
        if not plain_is_fine:
            assert canary not in str(error)
    else:
        assert plain_is_fine or "x-custom" in text


def test_headers_are_checked() -> None:
    table = '[providers.m]\nbase_url = "https://h"\nheaders = {NAME = "VALUE"}\n'
    for name, value, told in (
        ("Content-Length", "3", "a header that the transport sets itself"),
        ('"bad name"', "3", "is not the name of a header"),
        ("X-A", "ü", "characters that no header may hold"),
        ("X-A", "a\\r\\nB: c", "characters that no header may hold"),
        ("Cookie", "a=b", "a header that carries a secret"),
    ):
        [line] = refused(table.replace("NAME", name).replace("VALUE", value))
        assert told in line
    assert not refused_or_none(table.replace("NAME", "OpenAI-Organization").replace("VALUE", "org-1"))


def refused_or_none(text: str) -> list[str]:
    try:
        accepted(text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('provider = "nowhere"', 'there is no provider "nowhere". Known: main.'),
        ('name = "a b"', '"a b" holds blanks or control characters.'),
        ('name = ""', "must be a string of 1 to 200 characters"),
        ("tokens_per_minute = -5", "must be a whole number from 1 to"),
        ("max_concurrency = 0", "must be a whole number from 1 to 100000 (attempts), not 0."),
        ("context_tokens = 0", "must be a whole number from 1 to"),
        ("input_usd_per_1m = -1", "must be a number from 0 to 1000000 (US dollars), not -1."),
        ("extra = {model = 'x'}", "extra.model: is a field that the daemon sets itself."),
        ("extra = {stream = true}", "extra.stream: is a field that the daemon sets itself."),
        ("extra = {a = {b = [nan]}}", "extra.a: cannot be sent as JSON"),
        ("extra = {a = 2020-01-01}", "extra.a: cannot be sent as JSON"),
        ("extra = {a = {b = ['sk-abcdefgh12345']}}", "extra.a: holds what looks like a secret."),
        ("extra = {a = 99999999999999999999}", "extra.a: cannot be sent as JSON"),
    ],
)
def test_models_are_checked(line: str, told: str) -> None:
    key = line.split(" = ")[0]
    kept = [each for each in ('name = "a"', 'provider = "main"') if not each.startswith(key)]
    text = '[providers.main]\ndialect = "simulated"\n[[models]]\n' + "\n".join([*kept, line])
    assert any(told in each for each in refused(text)), refused(text)


def test_a_name_used_twice_says_where_it_was_first() -> None:
    text = GOOD.replace('name = "large"', 'name = "small"').replace(', "large"]', "]")
    assert refused(text) == [':15: models[1].name: "small" is already the name of models[0].']


def test_a_model_without_any_provider_says_what_to_write() -> None:
    [line] = refused('[[models]]\nname = "a"\nprovider = "main"')
    assert line == ':3: models[0].provider: there is no provider "main". Write [providers.main].'


def test_a_fallback_that_does_not_exist_is_told_but_not_when_a_model_could_not_be_read() -> None:
    assert refused(GOOD.replace('["small", "large"]', '["smal"]')) == [
        ':19: routing.fallback[0]: there is no model "smal". Did you mean "small"?'
    ]
    assert refused(GOOD.replace('name = "large"', "name = 3")) == [
        ":15: models[1].name: must be a string of 1 to 200 characters, not 3."
    ]


def test_a_file_full_of_mistakes_is_told_in_bounds_and_in_time() -> None:
    text = "".join(f"nonsense_number_{number} = {number}\n" for number in range(20_000))
    began = time.perf_counter()
    told = refused(text)
    assert time.perf_counter() - began < 5
    assert len(told) == MOST_PROBLEMS + 1
    assert told[-1] == f": and {20_000 - MOST_PROBLEMS} more problems."


def test_odd_names_are_shown_on_one_line_and_short() -> None:
    [line] = refused('"a\\nb\\u001b[31m' + "x" * 500 + '" = 1')
    assert line.isprintable()
    assert len(line) < 400


# --- warnings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + '[providers.one]\nbase_url = "http://localhost/v1"\naccount = "ours"\nrequests_per_minute = 5\n[providers.two]\nbase_url = "http://localhost/v1"\naccount = "ours"\nrequests_per_minute = 7\n', "providers.two.requests_per_minute: 7 contradicts the 5 of providers.one, which draws on the same account: the lower one holds. Say it once."),
        (GOOD.replace("0.15", "1.5e-07"), ":10: models[0].input_usd_per_1m: 1.5e-07 US dollars for a million tokens is less than any model costs. If it is the price of one token, write 0.15."),
        (GOOD.replace("0.60", "1500"), ":11: models[0].output_usd_per_1m: 1500 US dollars for a million tokens is more than any model costs."),
        (GOOD.replace("input_usd_per_1m = 0.15\n", ""), ":10: models[0].output_usd_per_1m: there is no input_usd_per_1m beside it"),
        (GOOD.replace("0.60", "0.01"), ":11: models[0].output_usd_per_1m: 0.01 is less than a tenth of the input price, 0.15"),
        (GOOD.replace("0.60", "60"), ":11: models[0].output_usd_per_1m: 60 is more than a hundred times the input price, 0.15"),
        (GOOD.replace("0.60", "0.60\ncache_read_usd_per_1m = 0.2"), ":12: models[0].cache_read_usd_per_1m: 0.2 is more than the input price"),
        (GOOD.replace("https://api", "http://api"), ":3: providers.main.base_url: the key goes over the network in the clear."),
        (GOOD + "[timeouts]\nconnect_s = 300\n", ":21: timeouts.connect_s: 300 is above timeouts.attempt_s, 120"),
        (GOOD + "[queue]\nmax_inside = 10\n", ":20: queue.max_inside_per_caller: 1000 is above queue.max_inside"),
        (GOOD + "[concurrency]\nmin = 5\nmax = 2\n", ":21: concurrency.min: 5 is above concurrency.max, 2, which holds."),
        (GOOD + "[pool]\nmax_connections = 10\n", ":20: pool.max_keepalive: 50 is above pool.max_connections"),
        (GOOD + "[cache]\nttl_s = 0\n", ":21: cache.ttl_s: with 0 nothing is ever found again."),
        (GOOD.replace('provider = "main"\n\n[rout', 'provider = "main"\nenabled = false\n\n[rout'),
         ':20: routing.fallback[1]: the model "large" is not enabled and will be passed over.'),
        ('[providers.m]\nbase_url = "https://h"', ":1: providers: there are providers but no models"),
        ('[providers.m]\ndialect = "simulated"\n[[models]]\nname = "a"\nprovider = "m"\nenabled = false', ":3: models: no model is enabled"),
        ('[providers.m]\ndialect = "simulated"\napi_key_env = "A"\n[[models]]\nname = "a"\nprovider = "m"', "the simulated dialect needs no key"),
    ],
)  # fmt: skip
def test_what_is_allowed_and_probably_not_meant_is_told(text: str, told: str) -> None:
    found = warnings(text)
    assert len(found) == 1, found
    assert told in found[0]


@pytest.mark.parametrize("price", ["0", "0.001", "0.02", "75.0", "1000"])
def test_real_prices_are_not_doubted(price: str) -> None:
    assert not warnings(GOOD.replace("0.15", price).replace("0.60", price))


def test_a_key_sent_to_this_very_host_is_not_doubted() -> None:
    for host in ("localhost:1", "127.0.0.1:1", "[::1]:1", "ai.localhost"):
        assert not warnings(GOOD.replace("https://api.example.com", f"http://{host}"))


def test_a_problem_as_plain_data() -> None:
    problem = Problem("/f", "retry.jitter", 3, "is wrong.", "Mend it.", 7)
    assert str(problem) == "/f:3:7: retry.jitter: is wrong. Mend it."
    assert problem.to_wire() == {
        "file": "/f",
        "key": "retry.jitter",
        "line": 3,
        "column": 7,
        "sentence": "is wrong.",
        "remedy": "Mend it.",
    }


# --- whatever it is --------------------------------------------------------------------------------------------------


def judge(content: bytes, environ: dict[str, str] | None = None) -> None:
    """The one promise: a configuration, or an error with at least one problem that has a file and a sentence."""
    try:
        loaded = load_text(content, FILE, environ or {})
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.file
            assert problem.sentence.endswith((".", ")"))
            assert str(problem).isprintable(), str(problem)
            assert problem.line is None or problem.line >= 1
    else:
        assert loaded.config.models or loaded.config.providers
        assert loaded.layers


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes(content: bytes) -> None:
    judge(content)


@given(st.text(alphabet="[]{}=.,#\"'\\\n \tabr_0159-:T", max_size=60))
@settings(max_examples=300, deadline=None)
@example("[retry]\n" * 2)
@example('""=""')
@example("[[models]]\n[models.x]\n[[models]]")
def test_any_text_that_looks_like_toml(text: str) -> None:
    judge(text.encode())


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_good_file_with_something_broken(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 20)))
    piece = data.draw(st.text(alphabet="[]{}=.,#\"'\\\n ax1-\x00é", max_size=6))
    judge((GOOD[:start] + piece + GOOD[end:]).encode())


def keys() -> st.SearchStrategy[dict[str, Any]]:
    value = st.recursive(
        st.one_of(
            st.integers(-(2**70), 2**70),
            st.floats(),
            st.booleans(),
            st.text(max_size=10),
            st.datetimes(),
            st.dates(),
            st.sampled_from(["openai", "main", "https://h/v1", "hybrid"]),
        ),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=6,
    )
    known = [name for kind in sections().values() for name in kind.__struct_fields__]
    table = st.dictionaries(
        st.one_of(
            st.sampled_from([*known, "name", "provider", "base_url", "dialect", "extra", "headers"]),
            st.text(max_size=5),
        ),
        value,
        max_size=5,
    )
    many = st.one_of(
        st.lists(table, max_size=3), st.dictionaries(st.sampled_from(["main", "b c", ""]), table, max_size=2), value
    )
    return st.dictionaries(
        st.sampled_from([*sections(), "models", "providers", "operations", "x"]), st.one_of(table, many), max_size=6
    )


@given(keys())
@settings(max_examples=300, deadline=None)
def test_any_values_at_any_keys(document: dict[str, Any]) -> None:
    try:
        text = tomli_w.dumps(document)
    except (ValueError, TypeError):
        return
    judge(text.encode("utf-8", "replace"))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                f"AIORCH__{section}__{key}".upper()
                for section, kind in sections().items()
                for key in kind.__struct_fields__
            ]
            + ["AIORCH__PROVIDERS__MAIN__HEADERS", "AIORCH__X", "AIORCH__MODELS__A"]
        ),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
        max_size=4,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_environment(environ: dict[str, str]) -> None:
    judge(GOOD.encode(), environ)


@pytest.mark.parametrize(
    ("dialect", "address"),
    [("anthropic", "https://api.anthropic.com/v1"), ("gemini", "https://generativelanguage.googleapis.com/v1beta")],
)
def test_dialects_that_have_a_place_of_their_own(dialect: str, address: str) -> None:
    text = f'[providers.m]\ndialect = "{dialect}"\n[[models]]\nname = "a"\nprovider = "m"\n'
    assert load_text(text.encode(), Path("/f"), {}).config.providers["m"].address == address
    text = text.replace("[[models]]", 'base_url = "https://proxy.example/x"\n[[models]]')
    assert load_text(text.encode(), Path("/f"), {}).config.providers["m"].address == "https://proxy.example/x"


def test_a_level_for_what_never_logs_is_a_warning() -> None:
    assert warnings('[daemon]\nlog_levels = {reload = "debug", dor = "info", libraries = "info", x = "info"}\n') == [
        ':2: daemon.log_levels.dor: nothing logs as "dor", so this has no effect. Did you mean "door"?',
        f':2: daemon.log_levels.x: nothing logs as "x", so this has no effect. Known: {", ".join(LOG_AREAS)}.',
    ]


def test_every_area_that_logs_is_known() -> None:
    daemon = Path(aiorchd.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in daemon.rglob("*.py"))
    areas = set(re.findall(r'\bLog\("(\w+)"\)', source)) | set(re.findall(r'getLogger\("aiorchd\.([a-z]+)"\)', source))
    assert sorted(areas | {"libraries"}) == list(LOG_AREAS)
