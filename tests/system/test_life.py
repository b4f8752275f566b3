"""A real daemon from start to end: signals, reloads, a second daemon, what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from processes import ROOT, DaemonProcess, daemon

from aiorch.protocol import Connection, Notification, Response
from aiorchsim.process import Simulator, start_simulator

SLOW = """
[[models]]
name = "*"
latency_s = {}
"""
CONFIG = """
[providers.main]
dialect = "openai"
base_url = "{}"

[concurrency]
initial = 10

[[models]]
name = "small"
provider = "main"
input_usd_per_1m = 1.0
output_usd_per_1m = 2.0
"""


class Asker:
    """A plain client: one blocking socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.wire = Connection()
        self.events: list[Any] = []

    def send(self, method: str, **arguments: Any) -> int:
        msgid, data = self.wire.pack_request(method, arguments)
        self.socket.sendall(data)
        return msgid

    def next(self) -> Any:
        while not self.events:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.events.extend(self.wire.receive_data(data))
        return self.events.pop(0)

    def ask(self, method: str, **arguments: Any) -> Any:
        self.send(method, **arguments)
        while True:
            event = self.next()
            assert event is not None, "the connection was closed without an answer"
            if isinstance(event, Response):
                assert event.error is None, event.error
                return event.result

    def close(self) -> None:
        self.socket.close()


def ask_once(path: Path, method: str) -> Any:
    asker = Asker(path)
    try:
        return asker.ask(method)
    finally:
        asker.close()


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Ask again and again until it is true; each condition here does I/O that takes its time."""
    import select
    import time

    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s"
        select.select([], [], [], 0.01)


@pytest.fixture
def slow_provider() -> Any:
    with start_simulator(SLOW.format(1.0)) as simulator:
        yield simulator


def configured(folder: Path, simulator: Simulator) -> Any:
    return daemon(folder, CONFIG.format(simulator.base_url))


def test_sigterm_finishes_calls_in_flight_and_leaves_nothing(tmp_path: Path, slow_provider: Simulator) -> None:
    with configured(tmp_path, slow_provider) as running:
        asker = Asker(running.socket)
        for number in range(5):
            asker.send("complete", prompt=f"What is {number} + 1?")
        slow_provider.wait_until(lambda stats: stats["calls"]["in_flight"] == 5)
        running.process.send_signal(signal.SIGTERM)
        seen = [asker.next() for _ in range(6)]
        goodbye = [event for event in seen if isinstance(event, Notification)]
        assert [event.method for event in goodbye] == ["going_away"]
        assert all(event.error is None for event in seen if isinstance(event, Response))
        assert asker.next() is None
        assert running.stop() == 0
        assert not running.socket.exists()
        assert "stopped" in running.said()
        asker.close()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with start_simulator(SLOW.format(60.0)) as simulator, configured(tmp_path, simulator) as running:
        asker = Asker(running.socket)
        asker.send("complete", prompt="x")
        simulator.wait_until(lambda stats: stats["calls"]["in_flight"] == 1)
        running.process.send_signal(signal.SIGTERM)
        assert isinstance(asker.next(), Notification)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(5) == 0
        assert "calls cut" in running.said()
        asker.close()


def test_reload_by_file_call_and_signal(tmp_path: Path, slow_provider: Simulator) -> None:
    with configured(tmp_path, slow_provider) as running:
        asker = Asker(running.socket)
        text = CONFIG.format(slow_provider.base_url)
        assert asker.ask("config.get", key="retry.max_attempts") == 4
        running.config.write_text(text + "[retry]\nmax_attempts = 7\n")
        until(lambda: asker.ask("config.get", key="retry.max_attempts") == 7)
        verdict = asker.ask("status")["config"]["verdict"]
        assert (verdict["result"], verdict["trigger"], verdict["changed"]) == (
            "accepted",
            "file",
            ["retry.max_attempts"],
        )
        running.config.write_text(text + "[retry]\nmax_attempts = -7\n")
        status = until(lambda: (found := asker.ask("status"))["config"]["verdict"]["result"] == "refused" and found)
        assert status["health"] == "degraded"
        assert "retry.max_attempts" in status["concerns"][0]
        assert asker.ask("config.get", key="retry.max_attempts") == 7
        assert asker.ask("config.reload")["result"] == "refused"
        running.config.write_text(text + "[retry]\nmax_attempts = 8\n")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: asker.ask("config.get", key="retry.max_attempts") == 8)
        assert asker.ask("status")["health"] == "ok"
        asker.close()


def test_calls_in_flight_survive_a_reload_of_their_model(tmp_path: Path, slow_provider: Simulator) -> None:
    with configured(tmp_path, slow_provider) as running:
        asker = Asker(running.socket)
        asker.send("complete", prompt="What is 1 + 1?")
        slow_provider.wait_until(lambda stats: stats["calls"]["in_flight"] == 1)
        running.config.write_text(CONFIG.format(slow_provider.base_url).replace('"small"', '"other"'))
        other = Asker(running.socket)
        until(lambda: other.ask("models.list")[0]["name"] == "other")
        answer = asker.next()
        assert isinstance(answer, Response)
        assert answer.error is None
        assert answer.result["model"] == "small"
        until(lambda: other.ask("status")["generations"]["retiring"] == 0)
        asker.close()
        other.close()


def test_modes_and_places(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        assert stat.S_IMODE(running.socket.stat().st_mode) in (0o600, 0o660)
        assert stat.S_IMODE(running.state.stat().st_mode) == 0o700
        for file in running.state.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        status = ask_once(running.socket, "status")
        assert status["socket"] == {"path": str(running.socket), "rule": "--socket"}
        assert status["simulated"] is True


def test_a_second_daemon_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        for extra in (["--socket", str(tmp_path / "b.sock")], []):
            second = DaemonProcess(tmp_path, None, tuple(extra), {})
            second.log = tmp_path / "second.log"
            second.start(wait=False)
            assert second.process is not None
            assert second.process.wait(20) == os.EX_TEMPFAIL
            assert "another" in second.said()
        assert ask_once(running.socket, "ping") == "pong"


def test_after_a_kill_it_starts_again_over_the_stale_socket(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        running.stop(signal.SIGKILL)
        assert running.socket.exists()
        running.start()
        assert ask_once(running.socket, "ping") == "pong"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--config", "/nonexistent/aiorch.toml"], os.EX_CONFIG, "/nonexistent/aiorch.toml"),
        (["--socket", "/nonexistent/deep/a.sock"], os.EX_USAGE, "/nonexistent/deep"),
        (["--socket", "/tmp/" + "x" * 120], os.EX_USAGE, "107"),
        (["--no-such-option"], os.EX_USAGE, "unrecognized"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    process = DaemonProcess(tmp_path, None, tuple(arguments), {})
    process.start(wait=False)
    assert process.process is not None
    assert process.process.wait(20) == code
    assert says in process.said()


def test_check_tells_all_problems(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[retry]\nmax_attempts = 0\n[cahce]\n")
    done = subprocess.run(
        [sys.executable, "-m", "aiorchd", "--check", "--config", str(file)],
        env={"PYTHONPATH": f"{ROOT / 'client'}:{ROOT / 'daemon'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == os.EX_CONFIG
    assert "retry.max_attempts" in done.stderr
    assert "cache" in done.stderr


def test_a_keyed_call_is_carried_out_once_though_its_connection_breaks(
    tmp_path: Path, slow_provider: Simulator
) -> None:
    with configured(tmp_path, slow_provider) as running:
        first = Asker(running.socket)
        arguments = {"prompt": "What is 20 + 22?", "key": "job-1", "cache": "bypass", "temperature": 0.7}
        first.send("complete", **arguments)
        slow_provider.wait_until(lambda stats: stats["calls"]["in_flight"] == 1)
        first.close()
        again = Asker(running.socket)
        reply = again.ask("complete", **arguments)
        assert "42" in reply["text"]
        assert reply["cost_usd"] == 0.0
        assert slow_provider.stats()["calls"]["received"] == 1
        again.send("complete", **{**arguments, "prompt": "something else"})
        refused = again.next()
        assert "key: was used for another question" in refused.error[1]
        again.close()


def test_many_clients_at_once(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                asker = Asker(running.socket)
                for index in range(20):
                    reply = asker.ask("complete", prompt=f"What is {index} + {number % 4}?")
                    assert reply["text"] == str(index + number % 4), reply
                asker.close()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        status = ask_once(running.socket, "status")
        for name, stage in status["stages"].items():
            for field in ("inside", "busy", "flights", "passengers", "running", "waiting", "in_flight", "sleeping"):
                assert not stage.get(field), (name, field)


def test_junk_on_the_wire_is_not_fatal(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        for junk in (b"\xc1" * 10, b"\x00" * 1000, msgpack.packb([0, 1, "ping"]), os.urandom(5000)):
            raw = socket.socket(socket.AF_UNIX)
            raw.connect(str(running.socket))
            raw.sendall(junk)
            raw.close()
        assert ask_once(running.socket, "ping") == "pong"
