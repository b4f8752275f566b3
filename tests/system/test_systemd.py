"""A real daemon under a service manager that the test plays: its socket is inherited, its messages are heard."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from crowd import Crowd, Told, in_flight
from manager import Manager
from processes import ROOT

from aiorch import AsyncClient, Client
from aiorch.errors import NoModels
from aiorchd.app.refusal import STAY_S
from aiorchsim.process import start_simulator

SIMULATED = """
[providers.main]
dialect = "simulated"

[[models]]
name = "small"
provider = "main"
"""
WITH_SIMULATOR = """
[daemon]
drain_timeout_s = 20

[providers.main]
dialect = "openai"
base_url = "{}"

[[models]]
name = "small"
provider = "main"
max_concurrency = 100
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path, SIMULATED) as made:
        yield made


def control(manager: Manager, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What ExecReload= runs."""
    return subprocess.run(
        [sys.executable, "-m", "aiorchctl", "--socket", str(manager.path), *arguments],
        env=manager.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_whoever_comes_before_the_daemon_waits_and_is_answered(manager: Manager) -> None:
    answers: list[str] = []

    def ask() -> None:
        with Client(manager.path) as client:
            answers.append(client.ping())

    early = [threading.Thread(target=ask) for _ in range(5)]
    for thread in early:
        thread.start()
    manager.start()
    for thread in early:
        thread.join(20)
    assert answers == ["pong"] * 5
    with Client(manager.path) as client:
        status = client.status()
    assert status["socket"] == {"path": str(manager.path), "rule": "a socket from systemd"}
    assert manager.stop() == 0
    assert manager.path.is_socket()  # it is the manager's


def test_what_is_told_from_start_to_end(manager: Manager) -> None:
    manager.start()
    assert manager.told == [{"READY": "1", "STATUS": "1 model"}]
    before = time.monotonic_ns() // 1000

    # a good change
    manager.config.write_text(SIMULATED + "[retry]\nmax_attempts = 7\n")
    told = [manager.hear(lambda _: True) for _ in range(3)]
    assert before < int(told[0].pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
    assert told == [{"RELOADING": "1"}, {"READY": "1"}, {"STATUS": "1 model, generation 2"}]

    # one that waits for a restart
    manager.config.write_text(SIMULATED + "[daemon]\nmax_frame_bytes = 1048576\n")
    manager.hear(lambda told: told.get("STATUS", "").startswith("1 model, generation 3"))

    # a bad one
    manager.config.write_text(SIMULATED + "[retry]\nmax_attempts = -7\n")
    refused = manager.hear(lambda _: True)
    assert list(refused) == ["STATUS"]
    assert refused["STATUS"].startswith("configuration refused, generation 3 stays in force: ")
    assert "retry.max_attempts" in refused["STATUS"]
    with Client(manager.path) as client:
        assert client.config_get("daemon.max_frame_bytes") == 1048576

    # and what was in force is in the file again
    manager.config.write_text(SIMULATED + "[daemon]\nmax_frame_bytes = 1048576\n")
    assert manager.hear(lambda _: True)["STATUS"].startswith("1 model, generation 3")

    assert manager.stop() == 0
    told = manager.hear_all()
    assert [list(message) for message in told] == [["STOPPING", "STATUS"], ["EXTEND_TIMEOUT_USEC"]]
    assert int(told[1]["EXTEND_TIMEOUT_USEC"]) == 40_000_000  # drain_timeout_s and ten seconds


def test_the_reload_command_carries_the_verdict(manager: Manager) -> None:
    manager.start()
    manager.config.write_text(SIMULATED + "[retry]\nmax_attempts = 7\n")
    ran = control(manager, "config", "reload")
    assert (ran.returncode, ran.stderr) == (0, "")
    with Client(manager.path) as client:
        assert client.config_get("retry.max_attempts") == 7
        manager.config.write_text("= =")
        ran = control(manager, "config", "reload")
        assert ran.returncode == os.EX_CONFIG
        assert str(manager.config) in ran.stdout + ran.stderr
        assert client.config_get("retry.max_attempts") == 7


def test_a_signal_reloads_too(manager: Manager) -> None:
    manager.start()
    with Client(manager.path) as client:
        client.ping()
        manager.config.write_text("= =")
        manager.signal(signal.SIGHUP)
        manager.hear(lambda told: told.get("STATUS", "").startswith("configuration refused"))
        assert client.ping() == "pong"
        verdict = client.status()["config"]["verdict"]
        assert (verdict["result"], verdict["generation"]) == ("refused", 1)
        # Renamed into place and signalled at once, as scripts do: whichever is first, signal or watch, it is in force.
        manager.config.with_suffix(".new").write_text(SIMULATED + "[retry]\nmax_attempts = 7\n")
        manager.config.with_suffix(".new").rename(manager.config)
        manager.signal(signal.SIGHUP)
        told = [manager.hear(lambda _: True) for _ in range(2)]
        assert [next(iter(message)) for message in told] == ["RELOADING", "READY"]
        assert manager.hear(lambda _: True)["STATUS"].startswith("1 model, generation 2")
        assert client.config_get("retry.max_attempts") == 7


def test_the_watchdog_is_fed_by_what_serves(tmp_path: Path) -> None:
    with Manager(tmp_path, SIMULATED, watchdog_s=0.4) as manager:
        manager.start()
        for _ in range(3):
            began = time.monotonic()
            manager.hear(lambda told: told == {"WATCHDOG": "1"})
            assert time.monotonic() - began < 0.4
        manager.signal(signal.SIGSTOP)
        manager.hear_all()
        with pytest.raises(AssertionError, match="not told"):
            manager.hear(lambda told: "WATCHDOG" in told, timeout_s=0.6)
        manager.signal(signal.SIGCONT)
        manager.hear(lambda told: "WATCHDOG" in told)
        assert manager.stop() == 0


def test_an_abort_says_where_it_was(manager: Manager) -> None:
    """What a watchdog that is not fed leads to, with what the unit sets for it."""
    manager.start(more={"PYTHONFAULTHANDLER": "1"})
    manager.signal(signal.SIGABRT)
    assert manager.ended() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in manager.said()
    # Where the thread was that serves; whichever took the signal, one of the file watch among them, all are told.
    assert "/trio/_core/_run.py" in manager.said()
    assert "/aiorchd/app/start.py" in manager.said()


def test_a_refused_configuration_at_start_is_told_to_all_and_tried_again_when_it_changes(manager: Manager) -> None:
    manager.config.write_text("= =")
    began = time.monotonic()
    manager.start(ready=False)
    refused = manager.hear(lambda _: True)
    assert refused["STATUS"].startswith("configuration refused: ")
    with Client(manager.path) as client, pytest.raises(NoModels, match=r"cannot start.*aiorch\.toml"):
        client.complete("x")
    manager.config.write_text(SIMULATED)
    assert manager.ended() == os.EX_CONFIG
    assert time.monotonic() - began < STAY_S, "it did not see the change"
    manager.start()
    with Client(manager.path) as client:
        assert client.complete("What is 20 + 22?").text == "42"


def test_a_defect_that_shows_at_once_is_not_repeated_without_pause(manager: Manager, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "h11.py").write_text("raise ImportError('a library is broken')\n")
    began = time.monotonic()
    manager.start(ready=False, more={"PYTHONPATH": f"{broken}:{manager.environment['PYTHONPATH']}"})
    assert manager.ended() == 1
    assert time.monotonic() - began >= 2
    assert "a library is broken" in manager.said()


async def test_restarts_under_load_refuse_and_cut_nobody(tmp_path: Path) -> None:
    with start_simulator("[[models]]\nlatency_s = 0.05\n") as simulator:
        with Manager(tmp_path, WITH_SIMULATOR.format(simulator.base_url)) as manager:
            manager.start()
            crowd = Crowd(manager.path, 20, pause_s=0.05)
            async with trio.open_nursery() as nursery:
                await nursery.start(crowd.run)
                for _ in range(3):
                    await trio.sleep(0.3)
                    await trio.to_thread.run_sync(manager.restart)
                await trio.sleep(0.3)
                crowd.leave()
            told = crowd.told
            assert (told.refused, told.cut, told.wrong) == ([], [], [])
            assert told.answered > 100
            assert manager.stop() == 0
            assert "calls cut" not in manager.said()


async def test_kills_under_load_refuse_nobody(tmp_path: Path) -> None:
    with start_simulator("[[models]]\nlatency_s = 0.05\n") as simulator:
        with Manager(tmp_path, WITH_SIMULATOR.format(simulator.base_url)) as manager:
            manager.start()
            crowd = Crowd(manager.path, 20, pause_s=0.05)
            async with trio.open_nursery() as nursery:
                await nursery.start(crowd.run)
                for _ in range(3):
                    await trio.sleep(0.3)
                    before = crowd.told.answered
                    manager.signal(signal.SIGKILL)
                    assert await trio.to_thread.run_sync(manager.ended) == -signal.SIGKILL
                    await trio.to_thread.run_sync(manager.start)
                    with trio.fail_after(5):
                        while crowd.told.answered <= before:
                            await trio.sleep(0.01)
                crowd.leave()
            told = crowd.told
            assert (told.refused, told.wrong) == ([], [])
            assert 0 < len(told.cut) <= 3 * 20  # only what was in flight, and each was told so
            assert all("not known" in reason for reason in told.cut)


async def test_a_stop_finishes_what_is_in_flight_and_leaves_newcomers_to_the_successor(tmp_path: Path) -> None:
    profile = "[[models]]\nlatency_s = 1.0\nfirst_token_s = 0.3\nlatency_per_output_token_s = 0.02\n"
    told = Told()
    newcomers: list[Any] = []
    with start_simulator(profile) as simulator:
        with Manager(tmp_path, WITH_SIMULATOR.format(simulator.base_url)) as manager:
            manager.start()

            async def come() -> None:
                async with AsyncClient(manager.path) as client:
                    newcomers.append((await client.status())["pid"])

            assert manager.process is not None
            first = manager.process.pid
            async with trio.open_nursery() as nursery:
                await nursery.start(functools.partial(in_flight, manager.path, 20, 5, told))
                manager.signal(signal.SIGTERM)
                await trio.to_thread.run_sync(manager.hear, lambda message: "STOPPING" in message)
                for _ in range(5):
                    nursery.start_soon(come)
                assert await trio.to_thread.run_sync(manager.ended) == 0
                await trio.to_thread.run_sync(manager.start)
            assert (told.refused, told.cut, told.wrong) == ([], [], [])
            assert (told.answered, len(told.streamed)) == (20, 5)
            assert told.pieces >= 5 * 3
            assert manager.process.pid != first
            assert newcomers == [manager.process.pid] * 5
            async with AsyncClient(manager.path) as client:
                for prompt, text in told.streamed.items():
                    assert (await client.complete(prompt)).text == text
            assert "calls cut" not in manager.said()


@pytest.mark.parametrize(
    ("initial", "latency_s"),
    [
        pytest.param(150, 1.0, id="all with the provider"),
        pytest.param(3, 0.1, id="most in line for a model that has just been met"),
    ],
)
async def test_the_end_comes_with_the_last_answer(tmp_path: Path, initial: int, latency_s: float) -> None:
    """However many wait, and for what: nothing but their calls holds a daemon that is told to stop."""
    profile = (
        f"[[models]]\nlatency_s = {latency_s}\nfirst_token_s = {latency_s / 2}\nlatency_per_output_token_s = 0.001\n"
    )
    config = WITH_SIMULATOR.replace("max_concurrency = 100", "max_concurrency = 150")
    config += f"[concurrency]\ninitial = {initial}\n[pool]\nmax_connections = 150\n"
    told = Told()
    with start_simulator(profile) as simulator, Manager(tmp_path, config.format(simulator.base_url)) as manager:
        manager.start()
        ended_at = answered_at = 0.0
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                nonlocal ended_at
                assert await trio.to_thread.run_sync(manager.ended) == 0
                ended_at = trio.current_time()

            async with trio.open_nursery() as asking:
                await asking.start(functools.partial(in_flight, manager.path, 100, 20, told))
                manager.signal(signal.SIGTERM)
                began = trio.current_time()
                nursery.start_soon(end)
            answered_at = trio.current_time()
        assert (told.refused, told.cut, told.wrong) == ([], [], [])
        assert (told.answered, len(told.streamed)) == (100, 20)
        assert ended_at - answered_at < 1.0
        assert ended_at - began < 10.0
        assert "calls cut" not in manager.said()


if (ACTIVATE := shutil.which("systemd-socket-activate")) is not None:

    def test_the_first_call_starts_the_daemon(manager: Manager) -> None:
        """Under systemd's own tool for it."""
        path = manager.folder / "other.sock"
        with manager.log.open("ab") as log:
            activating = subprocess.Popen(
                [ACTIVATE, "--listen", str(path)]
                + [f"--setenv={name}={value}" for name, value in manager.environment.items()]
                + [sys.executable, "-m", "aiorchd", "--config", str(manager.config)],
                env=manager.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        manager.process = activating
        with Client(path, connect_timeout_s=10) as client:
            assert client.complete("What is 20 + 22?").text == "42"
            assert client.status()["pid"] == activating.pid
            assert client.status()["socket"] == {"path": str(path), "rule": "a socket from systemd"}
        assert manager.hear(lambda _: True) == {"READY": "1", "STATUS": "1 model"}
        assert manager.stop() == 0
