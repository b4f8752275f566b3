"""A running daemon is overridden by programs: live, apart from the file, shown, taken away, gone with a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import daemon

import aiorch
from aiorchsim.process import start_simulator

CONFIG = """
profile = "basic"
[providers.main]
base_url = "{}"
{}
[[models]]
name = "small"
provider = "main"
[cache]
ttl_s = 600
[concurrency]
algorithm = "fixed"
"""


def test_an_override_from_start_to_end(tmp_path: Path) -> None:
    with start_simulator() as simulator, daemon(tmp_path, CONFIG.format(simulator.base_url, "")) as running:
        with aiorch.Client(running.socket) as client:
            assert client.config_get("concurrency.max") == 1
            verdict = client.config_override("models.small.max_concurrency", 7)
            assert (verdict["result"], verdict["changed"]) == ("accepted", ["models.small.max_concurrency"])
            assert verdict["overrides"] == {"models.small.max_concurrency": 7}
            [model] = client.models_list()
            assert model["live"]["permits"] == 7

            # The file is edited meanwhile; the override stays.
            running.config.write_text(CONFIG.format(simulator.base_url, "").replace("600", "500"))
            assert client.config_reload()["result"] in ("accepted", "unchanged")  # the watch may have been faster
            assert client.config_get("cache.ttl_s") == 500.0
            assert client.config_get("models.small.max_concurrency") == 7

            # Every layer can be seen.
            told = client.config_layers()
            assert [(layer["name"], layer["source"]) for layer in told["layers"]] == [
                ("built-in", ""),
                ("profile", "basic"),
                ("file", str(running.config)),
                ("override", ""),
            ]
            assert told["layers"][1]["values"] == {"cache.strategy": "memory", "concurrency.max": 1}
            assert told["layers"][-1]["values"] == {"models[0].max_concurrency": 7}
            assert told["in_force"]["models[0].max_concurrency"] == 7
            assert client.status()["config"]["overrides"] == {"models.small.max_concurrency": 7}

            # What is wrong is refused with everything that is wrong, and nothing changes.
            refused = client.config_override("retry", {"max_attempts": 0, "jitter": 7})
            assert refused["result"] == "refused"
            assert [(problem["file"], problem["key"]) for problem in refused["problems"]] == [
                ("override", "retry.max_attempts"),
                ("override", "retry.jitter"),
            ]
            assert refused["overrides"] == {"models.small.max_concurrency": 7}
            assert client.status()["health"] == "ok"
            assert client.config_override("providers.main.base_url", "http://evil.example/v1")["result"] == "refused"

            # Reset, and the file holds again.
            assert client.config_reset("models.small.max_concurrency")["overrides"] == {}
            [model] = client.models_list()
            assert model["live"]["permits"] == 1
            client.config_override("cache.ttl_s", 1)
            for arguments in ({}, {"key": "cache.ttl_s"}, {"value": 1}, {"key": 7, "value": 1}, {"key": "a", "b": 1}):
                with pytest.raises(aiorch.InvalidRequest):
                    client.call("config.override", **arguments)
        assert "override in force by=" in running.said()
        running.stop()
        running.start()
        with aiorch.Client(running.socket) as client:
            assert client.config_get("cache.ttl_s") == 500.0, "a restart forgets overrides"


def test_a_rotated_credential_is_taken_by_a_reload(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "key").write_text("old-key\n")
    config = CONFIG.format("{}", 'api_key_credential = "key"')
    with (
        start_simulator('[sim]\napi_keys = ["new-key"]\n') as simulator,
        daemon(
            tmp_path, config.format(simulator.base_url), environment={"CREDENTIALS_DIRECTORY": str(credentials)}
        ) as running,
        aiorch.Client(running.socket) as client,
    ):
        with pytest.raises(aiorch.ProviderAuth):
            client.complete("What is 1 + 1?")
        assert client.config_reload()["result"] == "unchanged"
        (credentials / "key").write_text("new-key\n")
        verdict = client.config_reload()
        assert (verdict["result"], verdict["changed"]) == ("accepted", ["providers.main.api_key_credential"])
        assert client.complete("What is 1 + 1?").text == "2"
        assert client.config_reload()["result"] == "unchanged"
        (credentials / "key").unlink()
        assert client.config_reload()["result"] == "accepted"
        assert "there is no systemd credential key" in client.status()["concerns"][0]
        assert "-key" not in running.said().replace(str(tmp_path), ""), "no key is ever logged"


def test_the_names_of_the_guides_are_understood_at_start(tmp_path: Path) -> None:
    environment = {"OPTIMIZATION_LEVEL": "aggressive", "TAG_SPACE_CACHE_SIZE": "500", "REQUEST_THROTTLING": "1"}
    with daemon(tmp_path, environment=environment) as running, aiorch.Client(running.socket) as client:
        assert client.config_get("profile") == "aggressive"
        assert (client.config_get("concurrency.max"), client.config_get("cache.max_entries")) == (100, 500)
        [warning] = client.status()["config"]["verdict"]["warnings"]
        assert (warning["file"], warning["key"]) == ("environment", "REQUEST_THROTTLING")
        assert "REQUEST_THROTTLING: is understood and has no effect: every model is paced" in running.said()
