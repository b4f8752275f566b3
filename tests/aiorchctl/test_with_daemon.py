"""Every command against the real daemon: what it says is what the pages show."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

CONFIG = """\
[providers.sim]
dialect = "simulated"
[[models]]
name = "small"
provider = "sim"
input_usd_per_1m = 0.15
output_usd_per_1m = 0.60
requests_per_minute = 600
[[models]]
name = "unpriced"
provider = "sim"
"""
PROMPT = "Give three tags for this page: red foxes eat blue fish"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A daemon with two simulated models; gives its socket and its configuration file."""
    folder = tmp_path_factory.mktemp("d")
    config = folder / "aiorch.toml"
    config.write_text(CONFIG)
    config.chmod(0o600)
    socket = folder / "s"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "aiorchd", "--config", str(config), "--socket", str(socket)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--state-dir", str(folder / "state")], stderr=log, env=environment)
    deadline = time.monotonic() + 30
    while not socket.exists():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield socket, config
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.fixture
def ask(real, ctl):
    """Run a command line against the real daemon; it must succeed."""

    def run(*arguments):
        ran = ctl("--socket", str(real[0]), *arguments)
        assert (ran.code, ran.err) == (0, "")
        return ran.out

    return run


def test_asking_and_its_story(ask):
    assert ask("complete", PROMPT) == "red, foxes, eat\n"
    reply = json.loads(ask("complete", PROMPT, "--json"))
    assert reply["cache"] == "exact"
    story = ask("explain", reply["id"])
    assert story.startswith(f"Call {reply['id']}\n")
    assert "the same question was answered before" in story
    assert "\nIts answer is that of call " in story
    assert "attempt 1 ended: answered" in story
    assert "Attempts\n" in story


def test_streaming(ask):
    lines = [json.loads(line) for line in ask("complete", "--stream", "--json", "Summarise: The cat sat.").splitlines()]
    *deltas, reply = lines
    assert "".join(delta["delta"] for delta in deltas) == reply["text"] != ""


def test_a_schema(ask, tmp_path):
    schema = tmp_path / "tags.json"
    schema.write_text(
        json.dumps({"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}}}})
    )
    reply = json.loads(ask("complete", "--json", "--schema", str(schema), PROMPT))
    assert isinstance(reply["data"]["tags"], list)


def test_embedding(ask):
    told = json.loads(ask("embed", "--json", "a red fox", "a blue whale"))
    assert len(told["vectors"]) == 2
    assert "a red fox" in ask("embed", "a red fox")


def test_stats(ask):
    ask("complete", "2 + 2", "--model", "unpriced")
    out = ask("stats", "--by", "model", "--since", "1h")
    for words in (
        "calls asked",
        "provider calls made",
        "calls saved",
        "of unknown cost",
        "p99",
        "By model",
        "unpriced",
    ):
        assert words in out
    assert "unknown" not in out.partition("Time\n")[2].partition("By model")[0]
    told = json.loads(ask("stats", "--json", "--own"))
    assert told["calls"] >= 1
    assert told["cost_unknown_calls"] >= 1


def test_cache(ask):
    out = ask("cache", "stats")
    assert out.startswith("strategy      hybrid\nmemory        ")
    assert "unknown" not in out
    ask("complete", PROMPT, "--tag", "mine", "--cache", "refresh")
    assert ask("cache", "forget", "--tag", "mine") == "forgot 1 answer\n"
    ask("complete", PROMPT)
    assert ask("cache", "clear", "--yes").startswith("forgot ")


def test_models(ask):
    lines = ask("models", "list").splitlines()
    assert lines[2].split()[:4] == ["small", "sim", "$0.15", "$0.60"]
    assert lines[3].split()[:4] == ["unpriced", "sim", "unknown", "unknown"]


def test_status(ask, real):
    out = ask("status")
    assert " is ok, generation " in out.splitlines()[0]
    assert "unknown" not in out
    for words in (
        f"{real[1]} (by --config)",
        "Models\n",
        "Cache\n",
        "Stores\n",
        "ledger",
        " in flight",
    ):
        assert words in out


def test_configuration(ask, ctl, real):
    socket, config = real
    assert ask("config", "show", "cache.ttl_s") == "cache.ttl_s = 3600.0\n"
    assert 'models[0].name = "small"\n' in ask("config", "show")
    assert 'models[1].name = "unpriced"\n' in ask("config", "show", "models")
    assert ask("config", "reload").startswith("configuration  unchanged at ")
    assert ctl("--socket", str(socket), "config", "show", "cache.tll").code == 64
    assert ask("config", "check", str(config)).startswith(
        f"{config} (by --config): is right\n2 models: small, unpriced\n"
    )


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("unknown_model", ("complete", "x", "--model", "none")),
        ("not_found", ("explain", "none")),
        ("invalid_request", ("complete", "")),
        ("not_found", ("complete", "never asked before", "--cache", "only")),
    ],
)
def test_errors(ctl, real, code, arguments):
    ran = ctl("--socket", str(real[0]), "--json", *arguments)
    assert (ran.code, ran.out) == (64, "")
    assert json.loads(ran.err)["code"] == code


def test_ping(ask):
    assert json.loads(ask("ping", "--json"))["answer"] == "pong"
