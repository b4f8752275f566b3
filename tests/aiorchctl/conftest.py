"""A daemon that says what a test scripts, on a real socket, and the command line run against it as a program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aiorch.errors import CallError, RemoteProtocolError
from aiorch.protocol import Connection, Request
from aiorchctl.program import run as run_program

ROOT = Path(__file__).resolve().parents[2]
HELLO = {
    "server": "aiorchd",
    "version": "9.8.7",
    "protocol": 1,
    "uid": 7,
    "gid": 7,
    "pid": 1,
    "unit": "user",
    "admin": True,
}


class ScriptedDaemon:
    """Answers each method with what ``answers`` has for it: a result, an error to be sent, or a function of the
    arguments. Keeps what it was asked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Any] = {"hello": HELLO, "ping": "pong"}
        self.deltas: list[str] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def arguments_of(self, method: str) -> dict[str, Any]:
        """What the last call of a method was sent."""
        return next(arguments for name, arguments in reversed(self.asked) if name == method)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        wire = Connection()
        with peer, suppress(OSError):  # a client that leaves is its own affair
            while data := peer.recv(65536):
                try:
                    events = wire.receive_data(data)
                except RemoteProtocolError:
                    return
                for event in events:
                    if isinstance(event, Request):
                        self._answer(peer, wire, event)

    def _answer(self, peer: socket.socket, wire: Connection, request: Request) -> None:
        arguments = request.params[0] if request.params else {}
        self.asked.append((request.method, arguments))
        answer = self.answers.get(request.method)
        if callable(answer):
            answer = answer(arguments)
        if arguments.get("stream"):
            for index, text in enumerate(self.deltas):
                delta = {"call_id": arguments["call_id"], "index": index, "text": text}
                peer.sendall(wire.pack_notification("delta", [delta]))
        if isinstance(answer, CallError):
            peer.sendall(wire.pack_error(request.msgid, answer.to_wire()))
        else:
            peer.sendall(wire.pack_result(request.msgid, answer))


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedDaemon]:
    """A scripted daemon that commands find by $AIORCH_SOCKET."""
    path = tmp_path / "d.sock"
    scripted = ScriptedDaemon(path)
    monkeypatch.setenv("AIORCH_SOCKET", str(path))
    yield scripted
    scripted.close()


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process, as `aiorchctl` would, with pipes for a terminal."""

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run_program(list(arguments))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@dataclass
class Program:
    """The command line as a program of its own."""

    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT / "client"), str(ROOT / "daemon")])
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": path, **self.environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def run(self, *arguments: str, timeout_s: float = 60) -> Ran:
        process = self.start("-m", "aiorchctl", *arguments, stdin=subprocess.DEVNULL)
        out, err = process.communicate(timeout=timeout_s)
        return Ran(process.returncode, out, err)


@pytest.fixture
def program() -> Program:
    return Program()
