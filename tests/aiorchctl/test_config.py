"""`aiorchctl config`: the same checks as the daemon's, without one; what is in force; reading it now."""

import json

import pytest

GOOD = """\
[providers.main]
base_url = "https://api.example.com/v1"
[[models]]
name = "small"
provider = "main"
"""
BAD = """\
[cache]
ttl = 5
[retry]
max_attempts = 0
"""


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("AIORCH_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))


def written(path, text):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_check_a_good_file(ctl, tmp_path):
    path = written(tmp_path / "good.toml", GOOD)
    ran = ctl("config", "check", path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{path} (by --config): is right\n1 model: small\n"
    told = json.loads(ctl("config", "check", "--json", path).out)
    assert (told["ok"], told["file"], told["models"], told["simulated"]) == (True, path, ["small"], False)


def test_check_tells_everything_that_is_wrong_with_its_line(ctl, tmp_path):
    path = written(tmp_path / "bad.toml", BAD)
    ran = ctl("config", "check", path)
    assert (ran.code, ran.out) == (78, "")
    lines = ran.err.splitlines()
    assert lines[0].startswith(f"aiorchctl: {path}:2: cache.ttl: ")
    assert lines[1].startswith(f"{path}:4: retry.max_attempts: ")
    told = json.loads(ctl("config", "check", "--json", path).err)
    assert (told["code"], told["exit_code"]) == ("config", 78)
    assert [(problem["key"], problem["line"]) for problem in told["problems"]] == [
        ("cache.ttl", 2),
        ("retry.max_attempts", 4),
    ]


def test_check_a_file_that_is_not_there(ctl, tmp_path):
    ran = ctl("config", "check", str(tmp_path / "none.toml"))
    assert ran.code == 78
    assert "no such file" in ran.err


def test_check_without_a_file_takes_the_one_a_daemon_would(ctl, tmp_path):
    path = written(tmp_path / "config" / "aiorch" / "aiorch.toml", GOOD)
    assert ctl("config", "check").out.startswith(f"{path} (by $XDG_CONFIG_HOME): is right\n")


def test_check_a_file_without_models_says_that_answers_would_be_simulated(ctl, tmp_path):
    ran = ctl("config", "check", written(tmp_path / "empty.toml", "[cache]\nttl_s = 5\n"))
    assert ran.code == 0
    assert "an embedded simulated one would answer" in ran.out


def test_show_everything_one_dotted_key_a_line(daemon, ctl):
    daemon.answers["config.get"] = {
        "cache.ttl_s": 3600.0,
        "models[0].name": "small",
        "models[0].id": None,
        "x.y": {"a": [1]},
    }
    assert ctl("config", "show").out == (
        'cache.ttl_s = 3600.0\nmodels[0].name = "small"\nmodels[0].id = (not set)\nx.y = {"a" = [1]}\n'
    )
    assert daemon.arguments_of("config.get") == {}


@pytest.mark.parametrize(
    ("key", "result", "shown"),
    [
        ("cache.ttl_s", 3600.0, "cache.ttl_s = 3600.0\n"),
        ("cache", {"cache.ttl_s": 1.0, "cache.strategy": "off"}, 'cache.ttl_s = 1.0\ncache.strategy = "off"\n'),
        ("models", {"models[0].name": "a"}, 'models[0].name = "a"\n'),
        ("daemon.log_levels", {}, "daemon.log_levels = {}\n"),
        ("daemon.log_levels", {"reload": "debug"}, 'daemon.log_levels = {"reload" = "debug"}\n'),
        ("retry.backoff_s", [0.5, 1.0], "retry.backoff_s = [0.5, 1.0]\n"),
    ],
)
def test_show_one_key_or_those_below(daemon, ctl, key, result, shown):
    daemon.answers["config.get"] = result
    assert ctl("config", "show", key).out == shown
    assert daemon.arguments_of("config.get") == {"key": key}
    assert json.loads(ctl("config", "show", key, "--json").out) == result


VERDICT = {
    "at": 0.0,
    "trigger": "call",
    "result": "accepted",
    "generation": 4,
    "problems": [],
    "changed": ["cache.ttl_s"],
    "restart_needed": ["pool.idle_s"],
    "warnings": [],
}


@pytest.fixture
def utc(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_reload(daemon, ctl):
    daemon.answers["config.reload"] = VERDICT
    ran = ctl("config", "reload")
    assert (ran.code, ran.out) == (
        0,
        (
            "configuration        accepted at 1970-01-01 00:00:00; generation 4 is in force\n"
            "                     changed: cache.ttl_s\n"
            "waits for a restart  pool.idle_s\n"
        ),
    )
    daemon.answers["config.reload"] = {**VERDICT, "result": "unchanged", "changed": [], "restart_needed": []}
    assert ctl("config", "reload").out == (
        "configuration  unchanged at 1970-01-01 00:00:00; generation 4 is in force\n"
    )


@pytest.mark.usefixtures("utc")
def test_a_refused_file_is_exit_78_and_every_problem(daemon, ctl):
    problems = [
        {
            "file": "/a.toml",
            "key": "cache.ttl",
            "line": 2,
            "column": None,
            "sentence": "no such key.",
            "remedy": "Mend it.",
        },
        {"file": "/a.toml", "key": "", "line": 9, "column": 3, "sentence": "is not TOML.", "remedy": ""},
    ]
    daemon.answers["config.reload"] = {**VERDICT, "result": "refused", "problems": problems, "restart_needed": []}
    ran = ctl("config", "reload")
    assert (ran.code, ran.out) == (
        78,
        (
            "configuration  refused at 1970-01-01 00:00:00; generation 4 stays in force:\n"
            "               /a.toml:2: cache.ttl: no such key. Mend it.\n"
            "               /a.toml:9:3: is not TOML.\n"
        ),
    )
    assert ctl("config", "reload", "--json").code == 78
