"""Several keys for one provider, with a real daemon and a provider that takes only some of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import daemon

import aiorch
from aiorchsim.process import start_simulator

PROFILE = """
[sim]
api_keys = ["sk-good-0123456789", "sk-other-0123456789"]
[[models]]
name = "small"
latency_s = 0.0
"""
CONFIG = """
[cache]
strategy = "off"
[providers.main]
base_url = "{base_url}"
{keys}
[[models]]
name = "small"
provider = "main"
"""


def test_a_dead_key_is_set_aside_and_told_and_a_changed_one_gets_a_new_chance(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, value in (("one", "sk-dead-0123456789"), ("two", "sk-good-0123456789"), ("three", "")):
        (credentials / name).write_text(value)
    with start_simulator(PROFILE) as simulator:
        config = CONFIG.format(base_url=simulator.base_url, keys='api_keys_credential = ["one", "two", "three"]')
        with (
            daemon(tmp_path, config, environment={"CREDENTIALS_DIRECTORY": str(credentials)}) as running,
            aiorch.Client(running.socket) as client,
        ):
            replies = [client.complete(f"What is {number} + 1?") for number in range(6)]
            assert [reply.text for reply in replies] == ["1", "2", "3", "4", "5", "6"]
            calls = simulator.stats()["calls"]
            assert (calls["answered"], calls["errors"]) == (6, 1), "the dead one was tried once"
            status = client.status()
            assert status["health"] == "degraded"
            concerns = "\n".join(status["concerns"])
            assert "the key from systemd credential one was refused by main" in concerns
            assert "systemd credential three, which should hold the key, is empty" in concerns
            [model] = client.models_list()
            assert model["key_problem"] is None
            assert {key["name"]: key["trouble"] for key in model["keys"]} == {
                "one": "refused",
                "two": None,
                "three": None,
            }
            assert model["live"]["granted"] == 7
            assert running.said().count("key refused") == 1
            story = client.explain(replies[0].id)["story"]["attempts"]
            assert [attempt["key"] for attempt in story] == ["one", "two"]

            (credentials / "one").write_text("sk-other-0123456789")
            assert client.config_reload()["changed"] == ["providers.main.api_keys_credential[0]"]
            for number in range(4):
                client.complete(f"What is {number} + 20?")
            assert [key["trouble"] for key in client.models_list()[0]["keys"]] == [None] * 3
            assert simulator.stats()["calls"]["errors"] == 1

            (credentials / "one").write_text("sk-dead-0123456789")
            (credentials / "two").write_text("sk-dead-too-0123456789")
            client.config_reload()
            with pytest.raises(aiorch.ProviderAuth):
                client.complete("What is 1 + 50?")
            with pytest.raises(aiorch.ProviderAuth, match="none of its 3 keys can be used") as caught:
                client.complete("What is 1 + 51?")
            assert caught.value.details["sent"] is False
            assert simulator.stats()["calls"]["errors"] == 3
            everything = running.said() + str(client.status()) + str(caught.value) + str(caught.value.details)
            assert "sk-" not in everything, "no key is ever told"


def test_each_key_has_permits_of_its_own(tmp_path: Path) -> None:
    with start_simulator(PROFILE.replace("0.0", "0.3")) as simulator:
        config = CONFIG.format(base_url=simulator.base_url, keys='api_keys_env = ["K1", "K2"]')
        config = "[concurrency]\nmax = 1\n" + config
        with (
            daemon(tmp_path, config, environment={"K1": "sk-good-0123456789", "K2": "sk-other-0123456789"}) as running,
            aiorch.Client(running.socket) as client,
        ):
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(4) as threads:
                futures = [threads.submit(client.complete, f"What is {number} + 1?") for number in range(4)]
                simulator.wait_until(lambda stats: stats["calls"]["in_flight"] == 2)
                assert client.models_list()[0]["live"]["in_use"] == 2
                assert [future.result().text for future in futures] == ["1", "2", "3", "4"]
            assert [key["used"] for key in client.models_list()[0]["keys"]] == [2, 2]
