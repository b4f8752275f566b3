"""`aiorchctl init`: a file that the daemon takes, by options and by questions, never with a key in it, tried if wanted."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import time
import tomllib
from pathlib import Path

import pytest
from processes import daemon as daemon_process

from aiorchctl.commands.init import target_of
from aiorchctl.first_file import KNOWN, FirstFile, FirstModel
from aiorchd.config.load import load, load_text
from aiorchsim.process import start_simulator


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch, tmp_path):
    for name in [*os.environ]:
        if name.startswith("AIORCH") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("AIORCH_SOCKET", str(tmp_path / "none.sock"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made" / "aiorch.toml"


@pytest.fixture
def init(ctl, path):
    def run(*arguments):
        return ctl("init", "--file", str(path), *arguments)

    return run


def tables(path):
    return tomllib.loads(path.read_text())


@pytest.mark.parametrize("kind", [kind for kind in KNOWN if kind not in ("azure", "other")])
def test_each_provider_makes_a_file_that_the_daemon_takes(init, path, kind):
    ran = init("--provider", kind, "--model", "small=some-model", "--price", "small", "0.15", "0.6")
    assert (ran.code, ran.err) == (0, "")
    loaded = load(path, {})
    assert not loaded.warnings
    [model] = loaded.config.models
    assert (model.name, model.provider, model.id) == ("small", kind, "some-model")
    assert (model.input_usd_per_1m, model.output_usd_per_1m) == (0.15, 0.6)
    provider = loaded.config.providers[kind]
    assert provider.base_url == (KNOWN[kind].base_url or None)
    assert provider.dialect == KNOWN[kind].dialect
    assert provider.address is not None
    assert provider.api_key_env == (KNOWN[kind].key_env or None)
    assert stat.S_IMODE(path.stat().st_mode) in (0o600, 0o644)
    assert "budget" not in path.read_text()


def test_azure_and_others_by_their_address(init, path):
    assert init("--provider", "azure", "--base-url", "https://r.openai.azure.com/openai/v1", "--model", "d").code == 0
    assert tables(path)["providers"]["azure"]["api_key_env"] == "AZURE_OPENAI_API_KEY"
    ran = init("--replace", "--provider", "other", "--base-url", "http://127.0.0.1:8000/v1", "--no-key", "--model", "m")
    assert ran.code == 0
    assert tables(path) == {
        "providers": {"main": {"base_url": "http://127.0.0.1:8000/v1"}},
        "models": [{"name": "m", "provider": "main"}],
    }


def test_an_unknown_price_stays_unknown_and_is_told(init, path):
    ran = init("--provider", "openai", "--model", "a", "--model", "b", "--price", "b", "1", "unknown")
    assert "price unknown  a\n" in ran.out
    assert "aiorchctl config set models.a.input_usd_per_1m PRICE" in ran.out
    assert tables(path)["models"] == [
        {"name": "a", "provider": "openai"},
        {"name": "b", "provider": "openai", "input_usd_per_1m": 1.0},
    ]


def test_a_credential_and_a_profile(init, path):
    ran = init(
        "--provider", "groq", "--key-credential", "groq", "--model", "m", "--price", "m", "0", "0", "--profile", "basic"
    )
    assert ran.code == 0
    assert tables(path)["providers"] == {"groq": {"base_url": KNOWN["groq"].base_url, "api_key_credential": "groq"}}
    assert tables(path)["profile"] == "basic"
    assert "LoadCredential=groq:" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 64, "nobody can be asked here; name --provider, --model"),
        (("--provider", "openai"), 64, "name --model"),
        (("--provider", "azure", "--model", "m"), 64, "name --base-url"),
        (
            ("--provider", "other", "--model", "m", "--base-url", "http://a/v1"),
            64,
            "--key-env, --key-credential or --no-key",
        ),
        (("--provider", "nobody", "--model", "m"), 64, "openai"),
        (("--provider", "openai", "--model", "=m"), 64, "write NAME=ID"),
        (("--provider", "openai", "--model", "m", "--price", "m", "cheap", "1"), 64, "is not a number of US dollars"),
        (("--provider", "openai", "--model", "m", "--price", "x", "1", "1"), 64, "no such model among m"),
        (("--provider", "openai", "--model", "m", "--no-key", "--key-env", "A"), 64, "name one of"),
        (("--provider", "openai", "--model", "m", "--key-env", "sk-abcdefgh12345678"), 78, "looks like the key itself"),
        (("--provider", "openai", "--model", "m", "--base-url", "ftp://x"), 78, "must begin with https://"),
        (("--provider", "openai", "--model", "m", "--model", "m"), 78, "is already the name of"),
        (("--provider", "openai", "--model", "m", "--profile", "fast"), 78, "profile: must be one of"),
    ],
)
def test_what_cannot_be_a_file_is_not_written(init, path, arguments, code, words):
    ran = init(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert "sk-abc" not in ran.err
    assert not path.exists()


def test_a_file_that_is_there_is_kept(init, path):
    path.parent.mkdir()
    path.write_text("# mine\n")
    ran = init("--provider", "openai", "--model", "m")
    assert ran.code == 64
    assert "is there already; change it with `aiorchctl config set`, or say --replace" in ran.err
    assert path.read_text() == "# mine\n"
    assert init("--provider", "openai", "--model", "m", "--replace").code == 0
    assert "[providers.openai]" in path.read_text()


def test_what_it_says_to_a_program(init, path):
    told = json.loads(init("--provider", "openai", "--model", "m", "--json").out)
    assert (told["file"], told["models"], told["daemon"], told["trial"]) == (str(path), ["m"], "none", None)
    assert [step["command"] for step in told["next"]][:2] == [
        "export OPENAI_API_KEY=…",
        f"aiorchd --config {path}",
    ]


@pytest.mark.parametrize(
    ("uid", "variables", "expected"),
    [
        (0, {}, "/etc/aiorch/aiorch.toml"),
        (1000, {"XDG_CONFIG_HOME": "/x"}, "/x/aiorch/aiorch.toml"),
        (1000, {"XDG_CONFIG_HOME": "relative", "HOME": "/h"}, "/h/.config/aiorch/aiorch.toml"),
        (0, {"AIORCH_CONFIG": "/named/a.toml"}, "/named/a.toml"),
    ],
)
def test_where_it_goes_by_itself(monkeypatch, uid, variables, expected):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert target_of(None) == Path(expected)
    assert target_of(Path("a.toml")) == Path.cwd() / "a.toml"


def test_the_text_is_valid_whatever_the_names() -> None:
    first = FirstFile(
        "main",
        "https://a.example/v1",
        key_env="K",
        models=(FirstModel('we"ird\\name', "ünï/κ=1", 0.0, None), FirstModel("gpt-4.1", "gpt-4.1", 1e-3, 2.5)),
        profile="aggressive",
    )
    loaded = load_text(first.text().encode(), Path("/f"), {})
    assert [(model.name, model.provider_model) for model in loaded.config.models] == [
        ('we"ird\\name', "ünï/κ=1"),
        ("gpt-4.1", "gpt-4.1"),
    ]
    assert max(map(len, first.text().splitlines())) <= 100


# --- tried --------------------------------------------------------------------------------------------------------


def test_one_call_through_a_daemon_of_its_own(init, path, monkeypatch):
    with start_simulator('[sim]\napi_keys = ["right"]\n[[models]]\nname = "m"\n') as simulator:
        arguments = ["--provider", "other", "--base-url", simulator.base_url, "--model", "m", "--try"]
        monkeypatch.setenv("MY_KEY", "right")
        monkeypatch.setenv("AIORCH__CACHE__STRATEGY", "nonsense of this shell")
        told = json.loads(init(*arguments, "--key-env", "MY_KEY", "--json").out)
        assert told["trial"]["ok"] is True
        assert told["trial"]["through"] == "a daemon of its own"
        assert simulator.stats()["calls"]["received"] == 1
        monkeypatch.setenv("MY_KEY", "wrong")
        ran = init(*arguments, "--key-env", "MY_KEY", "--replace")
        assert ran.code == 78
        assert "m did not answer: provider_auth" in ran.out
        assert "wrong" not in ran.out
        monkeypatch.delenv("MY_KEY")
        ran = init(*arguments, "--key-env", "MY_KEY", "--replace")
        assert ran.code == 78
        assert "MY_KEY, which should hold the key, is not set" in ran.out
    assert path.exists(), "the file is right, whatever became of the call"


def test_a_credential_is_tried_with_its_file(init, path, tmp_path):
    key = tmp_path / "the-key"
    key.write_text("right\n")
    with start_simulator('[sim]\napi_keys = ["right"]\n') as simulator:
        arguments = ["--provider", "other", "--base-url", simulator.base_url, "--model", "m", "--key-credential", "k"]
        ran = init(*arguments, "--try")
        assert ran.code == 64
        assert "with --key-file" in ran.err
        ran = init(*arguments, "--try", "--replace", "--key-file", str(key))
        assert ran.code == 0
        assert "tried          m answered in " in ran.out


def test_the_running_daemon_is_used_when_it_reads_the_file(ctl, tmp_path, monkeypatch):
    with (
        start_simulator() as simulator,
        daemon_process(tmp_path, "[cache]\nttl_s = 5\n") as process,
    ):
        monkeypatch.setenv("AIORCH_SOCKET", str(process.socket))
        arguments = ["--provider", "other", "--base-url", simulator.base_url, "--no-key", "--model", "m", "--try"]
        told = json.loads(ctl("init", "--file", str(process.config), "--replace", *arguments, "--json").out)
        assert (told["daemon"], told["trial"]["through"]) == ("reads it", "the running daemon")
        assert not any(step["command"].startswith("aiorchd") for step in told["next"])
        assert json.loads(ctl("models", "list", "--json").out)[0]["name"] == "m"


def test_a_daemon_without_a_file_is_to_be_restarted(ctl, tmp_path, path, monkeypatch):
    with daemon_process(tmp_path) as process:
        monkeypatch.setenv("AIORCH_SOCKET", str(process.socket))
        ran = ctl("init", "--file", str(path), "--provider", "openai", "--model", "m")
        assert "restart aiorchd" in ran.out


# --- asked --------------------------------------------------------------------------------------------------------


class Terminal:
    """A person at a terminal: answers each question when it is asked."""

    def __init__(self, program, path, *arguments):
        self.ours, theirs = pty.openpty()
        self.process = program.start(
            "-m", "aiorchctl", "init", "--file", str(path), *arguments, stdin=theirs, stderr_to=theirs
        )
        os.close(theirs)
        self.seen = ""

    def answer(self, question: str, text: str) -> None:
        until = time.monotonic() + 60
        while question not in self.seen:
            assert time.monotonic() < until, f"never asked {question!r}: {self.seen!r}"
            if select.select([self.ours], [], [], 0.5)[0]:
                self.seen += os.read(self.ours, 4096).decode()
        self.seen = self.seen[self.seen.index(question) + len(question) :]
        os.write(self.ours, text.encode() + b"\n")

    def end(self) -> tuple[int, str]:
        out = self.process.stdout.read()
        self.process.stdout.close()
        code = self.process.wait(60)
        os.close(self.ours)
        return code, out


@pytest.fixture
def program(program, monkeypatch):
    start = program.start

    def with_terminal(*arguments, stderr_to=None, **options):
        if stderr_to is None:
            return start(*arguments, **options)
        import subprocess

        popen = subprocess.Popen

        def on_terminal(command, **given):
            return popen(command, **{**given, "stderr": stderr_to})

        monkeypatch.setattr(subprocess, "Popen", on_terminal)
        try:
            return start(*arguments, **options)
        finally:
            monkeypatch.setattr(subprocess, "Popen", popen)

    program.start = with_terminal
    return program


def test_questions_make_the_file(program, path):
    terminal = Terminal(program, path)
    terminal.answer("Provider", "mistral")
    terminal.answer("Where is its key?", "env")
    terminal.answer("Name of the variable [MISTRAL_API_KEY]", "sk-abcdefgh12345678")
    terminal.answer("That looks like the key itself", "MY_KEY")
    terminal.answer("Model, as the provider calls it", "mistral-small-latest")
    terminal.answer("What callers say for it [mistral-small-latest]", "small")
    terminal.answer("million input tokens of small", "cheap")
    terminal.answer("is not a number of US dollars", "0.1")
    terminal.answer("million output tokens of small", "0.3")
    terminal.answer("Another model", "mistral-large-latest")
    terminal.answer("What callers say for it", "small")
    terminal.answer("small is taken already", "mistral-large-latest")
    terminal.answer("What callers say for it", "large")
    terminal.answer("million input tokens of large (unknown, or a number; 0 is free) [unknown]", "")
    terminal.answer("Another model", "")
    terminal.answer("US dollars that all calls of a day may cost together (a number, or none) [none]", "0")
    terminal.answer("is no budget", "$20")
    code, out = terminal.end()
    assert code == 0
    assert out.startswith(f"wrote          {path}\n")
    assert "$20.00 a day" in out
    assert tables(path) == {
        "budget": {"per_day_usd": 20.0},
        "providers": {"mistral": {"base_url": "https://api.mistral.ai/v1", "api_key_env": "MY_KEY"}},
        "models": [
            {
                "name": "small",
                "provider": "mistral",
                "id": "mistral-small-latest",
                "input_usd_per_1m": 0.1,
                "output_usd_per_1m": 0.3,
            },
            {"name": "large", "provider": "mistral", "id": "mistral-large-latest"},
        ],
    }
    assert "sk-abc" not in path.read_text()


@pytest.mark.parametrize("usd", ["0", "-1", "much", "nan", "1e12"])
def test_a_budget_that_is_none(init, usd):
    ran = init("--provider", "openai", "--model", "a", f"--per-day={usd}")
    assert ran.code == 64
    assert "--per-day: " in ran.err


def test_a_budget_by_option(init, path):
    init("--provider", "openai", "--model", "a", "--per-day", "7.5")
    assert tables(path)["budget"] == {"per_day_usd": 7.5}


def test_questions_and_a_call(program, path):
    with start_simulator() as simulator:
        terminal = Terminal(program, path, "--provider", "other")
        terminal.answer("Address, up to and with the version", simulator.base_url)
        terminal.answer("Where is its key?", "none")
        terminal.answer("Model, as the provider calls it", "m")
        terminal.answer("What callers say for it", "")
        terminal.answer("million input tokens of m", "0")
        terminal.answer("million output tokens of m", "0")
        terminal.answer("Another model", "")
        terminal.answer("Make one call to m now?", "y")
        code, out = terminal.end()
    assert code == 0
    assert "m answered in " in out
    assert ", for $0: " in out


def test_ctrl_c_leaves_nothing(program, path):
    terminal = Terminal(program, path)
    terminal.answer("Provider", "openai")
    terminal.answer("Where is its key?", "env")
    terminal.process.send_signal(signal.SIGINT)
    code, out = terminal.end()
    assert (code, out) == (130, "")
    assert not path.exists()
