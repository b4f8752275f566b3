"""The program: its one line, its exit codes, its end; and the object that runs it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import aiorchsim
from aiorchsim.process import SimulatorFailed, start_simulator

HOME = str(Path(aiorchsim.__file__).parent.parent)


def run(*arguments, stdin=subprocess.DEVNULL):
    environment = {**os.environ, "PYTHONPATH": HOME}
    command = [sys.executable, "-m", "aiorchsim", *arguments]
    return subprocess.run(
        command, env=environment, stdin=stdin, capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lisen", ":1"], "unrecognized arguments: --lisen :1; see aiorchsim --help"),
        (["--listen", "nowhere"], "'nowhere' is not HOST:PORT, such as 127.0.0.1:8090"),
        (["--listen", "a:70000"], "is not HOST:PORT"),
        (["--seed", "x"], "invalid int value: 'x'"),
    ],
)
def test_wrong_usage_is_64_in_one_sentence(arguments, said):
    done = run(*arguments)
    assert done.returncode == 64
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bad_profile_is_78_with_all_that_is_wrong(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text("[sim]\nsed = 1\n[[models]]\nlatncy_s = 1\n")
    done = run("--config", str(path))
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"aiorchsim: {path}: sim.sed: unknown key; did you mean seed?",
        f"aiorchsim: {path}: models[0].latncy_s: unknown key; did you mean latency_s?",
    ]
    path.write_text('[sim]\nreplay = "rows.jsonl"\n')
    done = run("--config", str(path))
    assert done.returncode == 78
    assert f"{tmp_path / 'rows.jsonl'}: cannot be read: No such file" in done.stderr
    (tmp_path / "rows.jsonl").write_text("{}\n")
    done = run("--config", str(path))
    assert done.returncode == 78
    assert "sim.replay: " in done.stderr
    assert "line 1: model must be a string" in done.stderr
    assert run("--config", str(tmp_path / "missing.toml")).returncode == 78


def test_an_address_that_is_taken_is_69():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 69
    assert "choose another --listen" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_manual_is_printed():
    done = run("--print-profile")
    assert done.returncode == 0
    assert "[[models]]" in done.stdout
    assert run("--help").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_with_calls_in_flight(number):
    environment = {**os.environ, "PYTHONPATH": HOME}
    command = [sys.executable, "-m", "aiorchsim", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("aiorchsim listening on http://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(line.rpartition(":")[2]))) as client:
            client.sendall(b"POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
            process.send_signal(number)
            said, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert said == ""
    assert errors == ""


def test_it_ends_when_its_parent_lets_go():
    simulator = start_simulator()
    process = simulator._process
    process.stdin.close()
    assert process.wait(10) == 0
    with pytest.raises(SimulatorFailed, match="ended by itself with code 0"):
        simulator.stop()


def test_it_starts_quickly_and_stops():
    began = time.monotonic()
    with start_simulator() as simulator:
        assert simulator.base_url == f"http://127.0.0.1:{simulator.port}/v1"
        assert simulator.stats()["calls"]["received"] == 0
        assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(simulator.pid, 0)
    simulator.stop()
    with pytest.raises(SimulatorFailed, match="does not answer /sim/stats"):
        simulator.stats()


def test_what_keeps_it_from_starting_is_told(tmp_path):
    with pytest.raises(SimulatorFailed, match=r"code 78.*did you mean latency_s"):
        start_simulator("[[models]]\nlatncy_s = 1\n")
    with pytest.raises(ValueError, match="not both"):
        start_simulator("", config=tmp_path / "x")


def test_a_crash_is_told():
    simulator = start_simulator()
    os.kill(simulator.pid, signal.SIGKILL)
    simulator._process.wait()
    with pytest.raises(SimulatorFailed, match="ended by itself with code -9"):
        simulator.stop()


def test_it_can_be_pinned_and_listen_on_ipv6():
    cpu = min(os.sched_getaffinity(0))
    with start_simulator(listen="[::1]:0", cpu=cpu) as simulator:
        assert simulator.host == "::1"
        assert os.sched_getaffinity(simulator.pid) == {cpu}
        assert simulator.stats()["calls"]["received"] == 0
