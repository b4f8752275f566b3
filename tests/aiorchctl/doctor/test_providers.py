"""Each provider and its key, broken on purpose: real daemons against real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doctoring import KEYED, Doctor, Looked
from processes import daemon

from aiorch.errors import Forbidden, UnknownMethod
from aiorchctl.doctor.contact import Contact
from aiorchctl.doctor.person import myself
from aiorchctl.doctor.providers import check_providers
from aiorchsim.process import Simulator, start_simulator

RIGHT = "sk-right-0123456789"
PROFILE = f"""
[sim]
api_keys = ["{RIGHT}"]
[[models]]
name = "small"
latency_s = 0.0
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with start_simulator(PROFILE) as simulator:
        yield simulator


def look(folder: Path, doctor: Doctor, config: str, **environment: str) -> Looked:
    with daemon(folder, config, environment=environment) as running:
        looked = doctor(running.socket, "--timeout", "2")
    assert "sk-" not in str(looked.checks).replace("task-", "")
    return looked


def test_a_wrong_key(tmp_path: Path, doctor: Doctor, provider: Simulator) -> None:
    config = KEYED.format(base_url=provider.base_url)
    looked = look(tmp_path, doctor, config, MAIN_KEY="sk-wrong-0123456789")
    assert looked.of("provider", "main")["result"] == "ok"
    found = looked.of("key", "main")
    assert (looked.code, found["result"]) == (78, "failed")
    assert found["sentence"].startswith("main refused the key (401")
    assert found["remedy"] == "Set MAIN_KEY to the right key in the environment of the daemon, and restart it."


def test_each_of_several_keys(tmp_path: Path, doctor: Doctor, provider: Simulator) -> None:
    config = KEYED.format(base_url=provider.base_url).replace(
        'api_key_env = "MAIN_KEY"', 'api_keys_env = ["ONE", "TWO"]'
    )
    looked = look(tmp_path, doctor, config, ONE="sk-wrong-0123456789", TWO=RIGHT)
    assert looked.of("key", "main by TWO")["result"] == "ok"
    found = looked.of("key", "main by ONE")
    assert (looked.code, found["result"]) == (78, "failed")
    assert found["remedy"] == "Set ONE to the right key in the environment of the daemon, and restart it."


def test_no_key(tmp_path: Path, doctor: Doctor, provider: Simulator) -> None:
    looked = look(tmp_path, doctor, KEYED.format(base_url=provider.base_url))
    assert looked.of("provider", "main")["result"] == "not_checked"
    found = looked.of("key", "main")
    assert (looked.code, found["result"]) == (78, "failed")
    assert "MAIN_KEY, which should hold the key, is not set" in found["sentence"]


def test_no_credential(tmp_path: Path, doctor: Doctor, provider: Simulator) -> None:
    config = KEYED.format(base_url=provider.base_url).replace('api_key_env = "MAIN_KEY"', 'api_key_credential = "mine"')
    found = look(tmp_path, doctor, config).of("key", "main")
    assert found["result"] == "failed"
    assert "LoadCredential=mine:" in found["remedy"]


def test_a_key_that_is_wanted_and_not_named(tmp_path: Path, doctor: Doctor, provider: Simulator) -> None:
    config = KEYED.format(base_url=provider.base_url).replace('api_key_env = "MAIN_KEY"', "")
    found = look(tmp_path, doctor, config).of("key", "main")
    assert found["sentence"] == "main wants a key (401) and the configuration names none"
    assert found["remedy"] == "Name the key's place with api_key_env or api_key_credential."


def test_a_provider_that_is_not_there(tmp_path: Path, doctor: Doctor) -> None:
    looked = look(tmp_path, doctor, KEYED.format(base_url="http://127.0.0.1:1/v1"), MAIN_KEY=RIGHT)
    found = looked.of("provider", "main")
    assert (looked.code, found["result"]) == (69, "failed")
    assert "nothing listens at 127.0.0.1:1" in found["sentence"]
    assert "curl -sS http://127.0.0.1:1/v1/models" in found["remedy"]
    assert looked.of("key", "main")["result"] == "not_checked"


def test_a_wrong_address(tmp_path: Path, doctor: Doctor, provider: Simulator) -> None:
    looked = look(tmp_path, doctor, KEYED.format(base_url=provider.url), MAIN_KEY=RIGHT)
    assert looked.of("provider", "main")["result"] == "ok"
    found = looked.of("key", "main")
    assert found["result"] == "not_checked"
    assert "it has no such list, or base_url is wrong" in found["sentence"]


def test_a_model_that_it_does_not_have(tmp_path: Path, doctor: Doctor, provider: Simulator) -> None:
    config = KEYED.format(base_url=provider.base_url) + 'id = "smaller-9"\n'
    looked = look(tmp_path, doctor, config, MAIN_KEY=RIGHT)
    found = looked.of("provider", "main")
    assert (looked.code, found["result"]) == (0, "warning")
    assert found["sentence"].endswith(", and does not list smaller-9")
    assert found["details"]["missing"] == ["smaller-9"]


def test_no_key_where_none_is_wanted(tmp_path: Path, doctor: Doctor) -> None:
    with start_simulator('[[models]]\nname = "small"\n') as keyless:
        config = KEYED.format(base_url=keyless.base_url).replace('api_key_env = "MAIN_KEY"', "")
        looked = look(tmp_path, doctor, config)
        assert looked.of("key", "main")["sentence"] == "none is named, and none is wanted"
        keyed = KEYED.format(base_url=keyless.base_url)
        (tmp_path / "again").mkdir()
        looked = look(tmp_path / "again", doctor, keyed, MAIN_KEY=RIGHT)
        assert looked.of("key", "main")["result"] == "not_checked"
        assert "to anybody" in looked.of("key", "main")["sentence"]


def row(**fields: Any) -> Contact:
    told = {"name": "main", "base_url": "https://x.example/v1", "key_place": "environment variable K", **fields}
    return Contact((), status={}, inside={"providers": [told]})


def test_a_provider_that_answers_with_errors() -> None:
    found = list(check_providers(row(result="failed", sentence="main failed (503)", status=503), {}, myself()))
    assert [(one.check, one.result) for one in found] == [("provider", "failed"), ("key", "not_checked")]
    assert "Look whether https://x.example/v1 is right" in found[0].remedy
    assert found[0].exit_code == 69


# --- what can be said by and to others ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Forbidden("no"), "only administrators may ask the daemon about this"),
        (UnknownMethod("no"), "the daemon is of an older release, which cannot be asked about this"),
    ],
)
def test_those_who_are_no_administrators(daemon: Any, doctor: Doctor, error: Exception, why: str) -> None:
    problem = "the environment variable K is not set"
    models = [{"name": "a", "provider": "main"}, {"name": "b", "provider": "broken", "key_problem": problem}]
    daemon.answers |= {"status": {"models": models}, "config.get": error, "doctor": error}
    looked = doctor(daemon.path)
    assert looked.of("provider", "main")["sentence"] == why
    assert looked.of("key", "broken")["sentence"] == problem
    assert looked.of("clock", "of the daemon")["sentence"] == why
    assert looked.of("descriptors")["sentence"] == why


def offline(config: str, folder: Path, **environ: str) -> list[tuple[str, str, str]]:
    (folder / "a.toml").write_text(config)
    found = check_providers(Contact(()), {"AIORCH_CONFIG": str(folder / "a.toml"), **environ}, myself())
    return [(one.check, one.subject, one.result) for one in found]


def test_without_a_daemon(tmp_path: Path) -> None:
    config = KEYED.format(base_url="https://x.example/v1")
    asked = ("provider", "main", "not_checked")
    assert offline(config, tmp_path, MAIN_KEY=RIGHT) == [asked, ("key", "main", "ok")]
    assert offline(config, tmp_path) == [asked, ("key", "main", "warning")]
    credential = config.replace('api_key_env = "MAIN_KEY"', 'api_key_credential = "mine"')
    assert offline(credential, tmp_path) == [asked, ("key", "main", "not_checked")]
    assert offline(config.replace('api_key_env = "MAIN_KEY"', ""), tmp_path) == [asked]
    assert offline("[retry]\nmax_attempts = 2\n", tmp_path) == [("provider", "", "ok")]
    assert offline("[retry]\nmax_attempts = 0\n", tmp_path) == [("provider", "", "not_checked")]
