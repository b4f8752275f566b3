"""What a shell completes: commands, options, keys by the names of the file, values, profiles, models; and the scripts."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from aiorchctl.commands.completion import FILES, VARIABLE, script_of
from aiorchctl.program import program as whole
from aiorchd.config.key import fields_of
from aiorchd.config.presets import PROFILES
from aiorchd.config.schema import Cache, sections, top_keys

CONFIG = """
[providers.main]
base_url = "http://127.0.0.1:1"
[[models]]
name = "small"
provider = "main"
[[models]]
name = "gpt-4.1"
provider = "main"
[[models]]
name = "two words"
provider = "main"
"""


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    path = tmp_path / "aiorch.toml"
    path.write_text(CONFIG)
    monkeypatch.setenv("AIORCH_CONFIG", str(path))
    return path


def completed(*words, incomplete=""):
    items = ShellComplete(whole, {}, "aiorchctl", VARIABLE).get_completions(list(words), incomplete)
    return [item.value for item in items]


def test_commands_and_options():
    assert completed(incomplete="con") == ["config"]
    assert completed("config", incomplete="re") == ["reload", "reset"]
    assert "--watch" in completed("stats", incomplete="--w")


def test_keys():
    below = [f"cache.{name}" for name in fields_of(Cache)]
    below += [f"cache.semantic.{name}" for name in fields_of(sections()["cache.semantic"])]
    assert completed("config", "set", incomplete="cache.") == below
    everything = completed("config", "get")
    assert {*top_keys(), *(f"{name}.{key}" for name, kind in sections().items() for key in fields_of(kind))} <= {
        *everything
    }


def test_keys_below_the_names_of_the_file():
    assert "models.gpt-4.1.enabled" in completed("config", "set", incomplete="models.gpt")
    assert "providers.main.base_url" in completed("config", "override", incomplete="providers.main.")
    assert not [name for name in completed("config", "get") if " " in name]


def test_sections_where_they_may_be_named():
    assert completed("config", "show", incomplete="models.sm")[0] == "models.small"
    assert "cache" in completed("config", "reset", incomplete="cac")
    assert "cache" not in completed("config", "set", incomplete="cac")


def test_values():
    assert set(completed("config", "set", "cache.strategy")) == {"memory", "disk", "hybrid", "off"}
    assert completed("config", "override", "models.small.enabled") == ["true", "false"]
    assert completed("config", "set", "routing.fallback", incomplete="sm") == ["small"]
    assert completed("config", "set", "cache.ttl_s") == []
    assert completed("config", "set", "no.such") == []


def test_profiles_and_models():
    assert completed("config", "use") == [*PROFILES, "none"]
    assert completed("init", "--profile", incomplete="agg") == ["aggressive"]
    assert completed("complete", "--model") == completed("embed", "--model") == ["small", "gpt-4.1"]


def test_the_file_that_the_line_names(tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(CONFIG.replace("small", "tiny"))
    assert completed("config", "get", "--file", str(other), incomplete="models.t")[0].startswith("models.tiny.")


@pytest.mark.parametrize("content", [b"= not toml", b"\xff\xfe", b"models = 3\nproviders = []"])
def test_a_file_that_is_wrong_says_nothing(file, content):
    file.write_bytes(content)
    assert completed("complete", "--model") == []
    assert "cache.ttl_s" in completed("config", "set", incomplete="cache.")


def test_a_file_that_is_not_there_says_nothing(file):
    file.unlink()
    assert completed("complete", "--model") == []
    assert "cache.ttl_s" in completed("config", "set", incomplete="cache.")


def test_the_scripts_ask_this_program(ctl):
    for shell in FILES:
        ran = ctl("completion", shell)
        assert (ran.code, ran.out, ran.err) == (0, script_of(shell), "")
        assert VARIABLE in ran.out
        assert json.loads(ctl("completion", shell, "--json").out)["script"] == ran.out


def test_installing(ctl, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    places = [json.loads(ctl("completion", shell, "--install", "--json").out)["file"] for shell in FILES]
    assert places == [
        f"{tmp_path}/data/bash-completion/completions/aiorchctl",
        f"{tmp_path}/home/.zfunc/_aiorchctl",
        f"{tmp_path}/home/.config/fish/completions/aiorchctl.fish",
    ]
    assert [Path(place).read_text() for place in places] == [script_of(shell) for shell in FILES]


def test_installing_where_it_cannot_be(ctl, tmp_path, monkeypatch):
    (tmp_path / "data").write_text("in the way")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    ran = ctl("completion", "bash", "--install")
    assert ran.code == 70
    assert f"{tmp_path}/data/bash-completion/completions/aiorchctl cannot be written" in ran.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_in_bash(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    made = folder / "aiorchctl"
    made.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aiorchctl "$@"\n')
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    asked = 'COMP_WORDS=(aiorchctl config use a); COMP_CWORD=3; _aiorchctl_completion aiorchctl; echo "${COMPREPLY[@]}"'
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        ["bash", "--norc", "-c", f"{script_of('bash')}\n{asked}"],
        env={
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(root / "client"), str(root / "daemon")]),
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.stdout, ran.stderr) == ("aggressive api_heavy_workload\n", "")
