"""`aiorchctl config set, use, get, diff, override, reset, schema` against a real daemon and its file, and without one."""

from __future__ import annotations

import json
import os

import pytest
from processes import daemon as daemon_process

CONFIG = """\
# Ours.

[providers.sim]
dialect = "simulated"

# The one.
[[models]]
name = "small"
provider = "sim"

[[models]]
name = "gpt-4.1"
provider = "sim"

[cache]
ttl_s = 600  # ten minutes
"""


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch, tmp_path):
    for name in [*os.environ]:
        if name.startswith("AIORCH"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("d")
    with daemon_process(folder, CONFIG, environment={"CACHE_SIZE": "77"}) as process:
        yield process


@pytest.fixture
def real(process, ctl):
    """The command line against a real daemon whose file is as it was in the beginning."""
    ctl("--socket", str(process.socket), "config", "reset")
    process.config.write_text(CONFIG)

    def run(*arguments):
        return ctl("--socket", str(process.socket), "config", *arguments)

    assert run("reload").code == 0
    return run


def in_force(run, key):
    return json.loads(run("get", key, "--json").out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("set", "cache.max_entries", "many"), "cache.max_entries: must be a whole number"),
        (("use", "agressive"), 'profile: must be one of "basic"'),
        (("set", "daemon.log_levels.calls", "loud"), "daemon.log_levels.calls: must be "),
    ],
)
def test_what_could_never_hold_is_not_written_though_the_environment_hides_it(tmp_path, ctl, arguments, words):
    hiding = {"AIORCH__CACHE__MAX_ENTRIES": "5", "AIORCH__PROFILE": "basic"}
    with daemon_process(tmp_path, CONFIG, environment=hiding) as hidden:
        ran = ctl("--socket", str(hidden.socket), "config", *arguments)
    assert ran.code == 78
    assert words in ran.err
    assert hidden.config.read_text() == CONFIG


def test_set_changes_the_file_and_what_is_in_force(real, process):
    ran = real("set", "cache.ttl_s", "60")
    assert (ran.code, ran.err) == (0, "")
    assert process.config.read_text() == CONFIG.replace("600", "60")
    first, second, third = ran.out.splitlines()[:3]
    assert first == f"written to     {process.config}"
    assert second == "               cache.ttl_s = 60"
    assert third.startswith("configuration  accepted at ")
    assert in_force(real, "cache.ttl_s") == 60.0
    told = json.loads(real("set", "cache.ttl_s", "60", "--json").out)
    assert (told["written"], told["value"], told["verdict"]["result"]) == (False, 60, "unchanged")
    assert real("set", "cache.ttl_s", "60").out.startswith("already so in")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("models.small.requests_per_minute", "500", 500),
        ("models.gpt-4.1.enabled", "no", False),
        ('models."gpt-4.1".extra.top_p', "0.5", 0.5),
        ("models[0].id", "7", "7"),
        ("routing.fallback", "small,gpt-4.1", ["small", "gpt-4.1"]),
        ("retry.backoff_s", "[0.1, 2]", [0.1, 2.0]),
        ("daemon.log_levels.reload", "debug", "debug"),
        ("daemon.log_calls", "on", True),
        ("cache.strategy", "memory", "memory"),
    ],
)
def test_set_reads_the_value_as_its_key_wants_it(real, key, text, value):
    assert real("set", key, text).code == 0
    assert in_force(real, key) == value


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("cache.ttl", "5"), 64, 'no key "ttl". Did you mean "ttl_s"?'),
        (("models.smal.enabled", "no"), 64, 'Did you mean "small"?'),
        (("cache.ttl_s",), 64, "say what to set it to, or --unset"),
        (("cache.ttl_s", "5", "--unset"), 64, "say what to set it to, or --unset"),
        (("cache.ttl_s", "soon"), 78, "cache.ttl_s: must be a number"),
        (("cache.ttl_s", "-1"), 78, "not written, because it would be wrong:"),
        (("cache.ttl_s", "-one"), 64, "no such option"),
        (("cache.ttl_s", "--", "-1"), 78, "not written, because it would be wrong:"),
        (("timeouts.total_s", "5000"), 78, "is above timeouts.max_total_s"),
        (("routing.fallback", "small,huge"), 78, 'no model "huge"'),
        (("providers.sim.api_key_env", "sk-abcdefgh12345678"), 78, "looks like the key itself"),
        (("bulk.max_items", "5"), 64, "is not part of this release"),
    ],
)
def test_what_would_be_wrong_is_not_written(real, process, arguments, code, words):
    ran = real("set", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err.lower() if words == "no such option" else words in ran.err
    assert "sk-abc" not in ran.err
    assert process.config.read_text() == CONFIG


def test_unset_gives_the_word_to_what_lies_below(real, process):
    ran = real("set", "cache.ttl_s", "--unset")
    assert ran.code == 0
    assert "cache.ttl_s taken out; it is 3600.0" in ran.out
    assert "ttl_s" not in process.config.read_text()
    assert in_force(real, "cache.ttl_s") == 3600.0
    assert real("set", "cache.ttl_s", "--unset").out.startswith("was not in")


def test_use_writes_the_profile_at_the_top(real, process):
    ran = real("use", "aggressive")
    assert ran.code == 0
    assert process.config.read_text() == CONFIG.replace("# Ours.\n\n", '# Ours.\n\nprofile = "aggressive"\n\n')
    assert (in_force(real, "concurrency.max"), in_force(real, "cache.ttl_s")) == (100, 600.0)
    assert real("use", "basic").code == 0
    assert in_force(real, "concurrency.max") == 1
    assert real("use", "none").code == 0
    assert in_force(real, "profile") is None
    ran = real("use", "agressive")
    assert ran.code == 78
    assert 'Did you mean "aggressive"?' in ran.err


def test_what_hides_a_key_of_the_file_is_said(real):
    assert "the daemon's environment says otherwise" in real("set", "cache.max_entries", "5").out
    assert in_force(real, "cache.max_entries") == 77
    assert real("override", "cache.ttl_s", "1").code == 0
    ran = real("set", "cache.ttl_s", "30")
    assert "an override says otherwise" in ran.out
    assert in_force(real, "cache.ttl_s") == 1.0


def test_a_file_that_leans_on_the_daemons_environment_can_be_edited(tmp_path, ctl):
    text = CONFIG.replace('dialect = "simulated"', "http2 = false")
    environment = {"AIORCH__PROVIDERS__SIM__DIALECT": "simulated"}
    with daemon_process(tmp_path, text, environment=environment) as process:
        ran = ctl("--socket", str(process.socket), "config", "set", "cache.ttl_s", "5")
        assert (ran.code, ran.err) == (0, "")
        assert "ttl_s = 5 " in process.config.read_text()
        assert "every" not in ctl("--socket", str(process.socket), "config", "diff").out


@pytest.mark.parametrize("command", ["override", "set"])
def test_a_negative_number_is_a_value_and_no_option(real, command):
    for value in ("-3", "-0.5", "-1e3", "-inf"):
        ran = real(command, "cache.ttl_s", value)
        assert (ran.code, "no such option" in ran.err.lower()) == (78, False), ran
        assert "cache.ttl_s" in ran.out + ran.err
    assert real(command, "cache.ttl_s", "-x").code == 64
    assert real(command, "cache.ttl_s", "--wrong").code == 64
    assert real(command, "-3", "5", "--json").code == (64 if command == "set" else 78)
    ran = real(command, "cache.ttl_s", "--", "-x")
    assert (ran.code, "-x" in ran.out + ran.err) == (78, True)


def test_override_and_reset(real):
    ran = real("override", "models.gpt-4.1.max_concurrency", "3")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1:] == [
        '               changed: models."gpt-4.1".max_concurrency',
        'overrides      models."gpt-4.1".max_concurrency = 3',
    ]
    assert in_force(real, "models.gpt-4.1.max_concurrency") == 3
    refused = real("override", "daemon.admin_users", "root")
    assert refused.code == 78
    assert "is not overridden. Change it in the file." in refused.out
    assert real("override", "cache.nothing", "[1").code == 78
    assert "overrides      none" in real("reset", "models.gpt-4.1.max_concurrency").out
    assert real("reset").out.startswith("configuration  nothing to change")
    assert real("reset", "cache.ttl_s").code == 78


def test_get_prints_the_value_alone(real, tmp_path):
    assert real("get", "cache.ttl_s").out == "600.0\n"
    assert real("get", "cache.strategy").out == "hybrid\n"
    assert real("get", "models.small.id").out == "\n"
    assert real("get", "retry.backoff_s").out == "[0.5, 1.0, 2.0]\n"
    assert real("get", "cache.nothing").code == 64
    other = tmp_path / "other.toml"
    other.write_text("[cache]\nttl_s = 9\n")
    assert real("get", "cache.ttl_s", "--file", str(other)).out == "9.0\n"
    assert real("get", "cache.nothing", "--file", str(other)).code == 64


def rows(ran):
    table = ran.out[ran.out.index("key ") :].splitlines()
    return {line.split()[0]: line.split() for line in table[1:]}


def test_diff_shows_who_says_what(real, process):
    real("use", "basic")
    real("override", "daemon.log_levels.reload", "debug")
    ran = real("diff")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == str(process.config)
    assert ran.out.splitlines()[1].split() == [
        "key", "built-in", "profile", "file", "environment", "override", "live",
    ]  # fmt: skip
    found = rows(ran)
    assert found["concurrency.max"] == ["concurrency.max", "10", "1", "(basic)", "1"]
    assert found["cache.ttl_s"] == ["cache.ttl_s", "3600.0", "600", "600.0"]
    assert found["cache.max_entries"] == ["cache.max_entries", "1000", "77", "77"]
    assert found["daemon.log_levels.reload"] == ["daemon.log_levels.reload", '"debug"', '"debug"']
    assert 'models."gpt-4.1".provider' in found
    assert "retry.jitter" not in found
    assert "retry.jitter" in rows(real("diff", "--all"))
    told = json.loads(real("diff", "--json").out)
    assert told["keys"]["concurrency.max"] == {"built-in": 10, "profile": 1, "profile_name": "basic", "live": 1}
    assert (told["problems"], told["unread"], told["without"]) == ([], False, None)


def test_diff_says_when_the_file_is_wrong(real, process):
    process.config.write_text(CONFIG + "[retry]\nmax_attempts = 0\n")
    ran = real("diff")
    assert ran.code == 0
    assert f"the file is wrong, and what was read of it before stays in force:\n{process.config}:" in ran.out


def test_diff_without_a_daemon_says_what_a_file_means(ctl, tmp_path):
    path = tmp_path / "new.toml"
    path.write_text('profile = "basic"\n[cache]\nttl_s = 5\n')
    ran = ctl("config", "diff", str(path))
    assert ran.code == 0
    assert "would be" in ran.out
    assert rows(ran)["concurrency.max"] == ["concurrency.max", "10", "1", "(basic)", "1"]
    ran = ctl("--socket", str(tmp_path / "none.sock"), "config", "diff")
    assert "no daemon answers: this is what the file means, not what is live" in ran.out
    assert "every key is at its default (no file is read)" in ran.out


def test_set_without_a_daemon_changes_the_file_it_would_read(ctl, tmp_path):
    path = tmp_path / "config" / "aiorch" / "aiorch.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG)
    nobody = ("--socket", str(tmp_path / "none.sock"))
    ran = ctl(*nobody, "config", "set", "cache.ttl_s", "5")
    assert ran.code == 0
    assert "no daemon answers: it holds from its next start" in ran.out
    assert path.read_text() == CONFIG.replace("600", "5")
    path.unlink()
    ran = ctl(*nobody, "config", "set", "cache.ttl_s", "5")
    assert ran.code == 78
    assert "there is no configuration file: make a file with `aiorchctl init`" in ran.err


def test_set_another_file_than_the_daemons(real, process, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(CONFIG)
    ran = real("set", "cache.ttl_s", "5", "--file", str(other))
    assert ran.code == 0
    assert "the daemon that answers reads another file" in ran.out
    assert process.config.read_text() == CONFIG
    ran = real("set", "cache.ttl_s", "5", "--file", str(tmp_path / "missing.toml"))
    assert ran.code == 78
    assert "No such file" in ran.err
    other.write_text("[cache\n")
    ran = real("set", "cache.ttl_s", "5", "--file", str(other))
    assert ran.code == 78
    assert "is not TOML" in ran.err


def test_set_where_no_file_is_read(tmp_path, ctl):
    with daemon_process(tmp_path) as process:
        ran = ctl("--socket", str(process.socket), "config", "set", "cache.ttl_s", "5")
        assert ran.code == 78
        assert "the daemon runs on the built-in configuration" in ran.err


def test_many_edits_at_once_lose_none(real, process, program):
    program.environment["AIORCH_SOCKET"] = str(process.socket)
    keys = ["cache.ttl_s", "retry.jitter", "queue.max_waiting", "pool.idle_s", "metrics.keep_days"]
    running = [program.start("-m", "aiorchctl", "config", "set", key, "1") for key in keys]
    for each in running:
        out, err = each.communicate(timeout=60)
        assert each.returncode == 0, (out, err)
    for key in keys:
        assert json.loads(real("get", key, "--file", str(process.config), "--json").out) == 1, key


def test_the_schema_for_editors(ctl, tmp_path):
    assert json.loads(ctl("config", "schema").out)["title"] == "aiorch.toml"
    assert ctl("config", "schema", "--manual").out.startswith("# aiorch: every key, at its default.")
    path = tmp_path / "s.json"
    assert ctl("config", "schema", "-o", str(path)).out == f"wrote {path}\n"
    assert json.loads(path.read_text())["title"] == "aiorch.toml"
    ran = ctl("config", "schema", "-o", str(tmp_path / "none" / "s.json"))
    assert (ran.code, "cannot be written" in ran.err) == (70, True)
