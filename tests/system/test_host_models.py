"""Processes that answer for models, with a real daemon between them: users, cancellation, restarts of either side, the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, DaemonProcess, daemon

import aiorch
from aiorch.protocol import Connection, Request

CONFIG = """
[daemon]
log_calls = true

[providers.ours]
dialect = "host"

[[models]]
name = "ours"
provider = "ours"
id = "ours-1"
input_usd_per_1m = 1.0
output_usd_per_1m = 2.0
"""

HOST = """
import os, sys, time, aiorch
import aiorch.client, aiorch.host_threads, aiorch.reply, logging  # before this Python may lie where only root can look
if len(sys.argv) > 2:
    os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
client = aiorch.Client(sys.argv[1])
client.register_model("mine", call=lambda model, request: f"uid {os.getuid()} pid {os.getpid()}")
print("ready", flush=True)
time.sleep(60)
"""

ASK = """
import os, sys, aiorch, aiorch.client, aiorch.reply, aiorch.errors
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
client = aiorch.Client(sys.argv[1])
print(sorted(model["name"] for model in client.models_list()))
try:
    print(client.complete(sys.argv[3], model="mine").text)
except aiorch.CallError as error:
    print(error)
"""

STRANGERS = (23456, 23457)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[DaemonProcess]:
    with daemon(tmp_path, CONFIG) as process:
        yield process


@pytest.fixture
def client(running: DaemonProcess) -> Iterator[aiorch.Client]:
    with aiorch.Client(running.socket, connect_timeout_s=10.0) as client:
        yield client


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "client")}


def hosting(code: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(python(code, *arguments), env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_two_users_have_models_of_one_name_and_a_third_has_none(tmp_path: Path) -> None:
    with daemon(tmp_path, CONFIG) as running:
        running.socket.chmod(0o777)
        for folder in (tmp_path, *tmp_path.parents):
            if folder != Path("/") and str(folder) != "/tmp":
                folder.chmod(0o755)
        hosts = [hosting(HOST, running.socket, uid) for uid in STRANGERS]
        try:
            told = [
                subprocess.run(
                    python(ASK, running.socket, uid, "hello"),
                    env=environment(),
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout.splitlines()
                for uid in (*STRANGERS, 23458)
            ]
        finally:
            for host in hosts:
                host.kill()
                host.communicate()
    for uid, host, (names, said) in zip(STRANGERS, hosts, told[:2], strict=True):
        assert names == "['mine', 'ours']"
        assert said == f"uid {uid} pid {host.pid}"
    assert told[2] == ["['ours']", "unknown_model: there is no model 'mine'. Models: ours (aiorchctl models list)"]


def test_another_process_of_the_same_user_answers_and_is_gone_when_it_is_killed(
    running: DaemonProcess, client: aiorch.Client
) -> None:
    host = hosting(HOST, running.socket)
    try:
        assert client.complete("hello", model="mine").text == f"uid {os.getuid()} pid {host.pid}"
    finally:
        host.kill()
        host.communicate()

    def unknown() -> bool:
        try:
            client.complete(f"hello {time.monotonic()}", model="mine")
        except aiorch.UnknownModel:
            return True
        except aiorch.HostError:
            return False  # it was asked in the moment in which it died
        raise AssertionError("somebody answered")

    eventually(unknown)


@pytest.mark.parametrize("how", ["cancel", "timeout", "hang up", "kill"])
def test_a_caller_who_leaves_cancels_the_work_within_100_ms(
    running: DaemonProcess, client: aiorch.Client, how: str
) -> None:
    began, told = threading.Event(), threading.Event()

    def work(model: str, request: Any) -> str:
        began.set()
        while not request.called_off:
            time.sleep(0.001)
        told.set()
        return "too late"

    client.register_model("mine", call=work)
    if how == "kill":
        code = 'import sys, aiorch; aiorch.Client(sys.argv[1]).complete("x", model="mine")'
        caller = subprocess.Popen(python(code, running.socket), env=environment())
        assert began.wait(10)
        left = time.monotonic()
        caller.kill()
    else:
        other = aiorch.Client(running.socket)

        def ask() -> None:
            with pytest.raises(aiorch.AiorchError):
                other.complete("x", model="mine", call_id="c", timeout_s=0.4 if how == "timeout" else 30.0)

        asking = threading.Thread(target=ask)
        started = time.monotonic()
        asking.start()
        assert began.wait(10)
        left = time.monotonic()
        if how == "timeout":
            left = started + 0.4
        elif how == "cancel":
            other.cancel("c")
        else:
            other.close()
    assert told.wait(5)
    took_s = time.monotonic() - left
    if how == "kill":
        caller.wait()
    else:
        asking.join()
        other.close()
    assert took_s < 0.1
    eventually(lambda: client.status()["stages"]["host routes"]["inside"] == 0, 2.0)


def test_its_story_its_price_and_its_figures_are_told(running: DaemonProcess, client: aiorch.Client) -> None:
    client.register_model(
        "mine",
        call=lambda *_: {"text": "x", "usage": {"input": 1000, "output": 500}},
        input_usd_per_1m=0.4,
        output_usd_per_1m=1.2,
        requests_per_minute=600,
    )
    reply = client.complete("my secret question", model="mine")
    assert reply.cost_usd == pytest.approx(0.001)
    story = client.explain(reply.id)
    assert (story["model"], story["provider"], story["attempts"]) == ("mine", "host", 1)
    [attempt] = story["story"]["attempts"]
    assert (attempt["model"], attempt["provider"], attempt["verdict"]) == ("mine", "host", "ok")
    listed = next(model for model in client.models_list() if model["name"] == "mine")
    assert (listed["input_usd_per_1m"], listed["price_source"], listed["connections"]) == (0.4, "registered", 1)
    assert listed["live"]["granted"] == 1
    shown = subprocess.run(
        [sys.executable, "-m", "aiorchctl", "--socket", str(running.socket), "models", "list"],
        env={**environment(), "PYTHONPATH": f"{ROOT / 'client'}:{ROOT / 'daemon'}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "mine" in shown
    rows = client.stats(by="model")["groups"]
    assert "mine" in json.dumps(rows)
    running.stop()
    assert "secret question" not in running.said()


def test_a_configured_name_says_what_to_do_until_somebody_registers(
    running: DaemonProcess, client: aiorch.Client
) -> None:
    with pytest.raises(aiorch.NoModels, match=r"no process of your user answers for the model ours: .*register_model"):
        client.complete("anybody?", model="ours")
    client.register_model("ours", call=lambda model, request: f"{model} is here")
    assert client.complete("anybody now?", model="ours").text == "ours-1 is here"


def test_a_name_that_becomes_configured_is_the_configurations(running: DaemonProcess, client: aiorch.Client) -> None:
    client.register_model("later", call=lambda *_: "registered")
    assert client.complete("1", model="later").text == "registered"
    text = CONFIG + '\n[providers.sim]\ndialect = "simulated"\n[[models]]\nname = "later"\nprovider = "sim"\n'
    running.config.write_text(text, encoding="utf-8")
    client.config_reload()
    reply = client.complete("1", model="later")
    assert (reply.provider, reply.cache) == ("sim", "miss")
    running.config.write_text(CONFIG, encoding="utf-8")
    client.config_reload()
    assert client.complete("1", model="later").text == "registered"


def test_a_drain_waits_for_a_function(running: DaemonProcess, client: aiorch.Client) -> None:
    began = threading.Event()

    def work(model: str, request: Any) -> str:
        began.set()
        time.sleep(0.5)
        return "finished"

    client.register_model("mine", call=work)
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.append(client.complete("x", model="mine").text))
    asking.start()
    assert began.wait(10)
    assert running.stop(signal.SIGTERM) == 0
    asking.join()
    assert said == ["finished"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_call_at_the_successor_waits_for_a_process_that_comes_later(
    running: DaemonProcess, client: aiorch.Client, how: signal.Signals
) -> None:
    """The process is another one than the caller, and slower to find the successor."""
    host = raw_host(running.socket)
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.append(client.complete("x", model="slow-to-return").text))
    try:
        eventually((running.state / "host-models.json").exists)
        running.stop(how)
        running.start()
        asking.start()
        eventually(lambda: client.status()["door"]["in_flight"] >= 2)  # that one, and the question for it
        with pytest.raises(aiorch.UnknownModel):
            client.complete("x", model="never-heard-of")
        host.close()
        host = raw_host(running.socket)
        [question] = asked_of(host)
        host.sendall(Connection.pack_result(question.msgid, "here"))
        asking.join(10)
        assert said == ["here"]
    finally:
        host.close()


def raw_host(path: Path) -> socket.socket:
    """A connection that has registered a model, and does nothing else."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    connection.sendall(Connection().pack_request("models.register", {"name": "slow-to-return"})[1])
    return connection


def asked_of(connection: socket.socket) -> list[Request]:
    """What is asked of it first, whatever else it is told before."""
    wire = Connection()
    while True:
        data = connection.recv(65536)
        assert data
        if asked := [event for event in wire.receive_data(data) if isinstance(event, Request)]:
            return asked


NEOVIM = """
let s:channel = sockconnect('pipe', $AIORCH_SOCKET, {'rpc': v:true})
function! Answer(question)
  return {'text': a:question.model . ' heard ' . a:question.messages[0].content}
endfunction
let s:asked = {'prompt': 'the editor', 'model': 'vim', 'host': ['nvim_call_function', 'Answer'], 'timeout_s': 20}
let s:seen = {'with_call': rpcrequest(s:channel, 'complete', s:asked).text}
call rpcrequest(s:channel, 'models.register', {'name': 'editor', 'host': ['nvim_call_function', 'Answer']})
let s:seen.registered = rpcrequest(s:channel, 'complete', {'prompt': 'itself', 'model': 'editor', 'timeout_s': 20}).text
call writefile([json_encode(s:seen)], $OUT)
qall!
"""


@pytest.mark.skipif(shutil.which("nvim") is None, reason="neovim is not installed")
def test_neovim_answers_for_models(running: DaemonProcess, tmp_path: Path) -> None:
    script, out = tmp_path / "probe.vim", tmp_path / "out.json"
    script.write_text(NEOVIM, encoding="utf-8")
    done = subprocess.run(
        ["nvim", "--headless", "--clean", "-S", str(script)],
        env={"AIORCH_SOCKET": str(running.socket), "OUT": str(out), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        timeout=60,
        capture_output=True,
        check=False,
    )
    assert out.exists(), done.stderr.decode(errors="replace") + running.said()
    seen = json.loads(out.read_text(encoding="utf-8"))
    assert seen == {"with_call": "vim heard the editor", "registered": "editor heard itself"}
