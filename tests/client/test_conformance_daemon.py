"""The same expectations against the real daemon, with a provider behind it that says what the suite scripts."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import drivers
import pytest
from conformance import PATIENCE_S, Driver, LibraryConformance, WireConformance
from processes import DaemonProcess, daemon

import aiorch

CONFIG = """
[concurrency]
max = 64

[providers.main]
dialect = "openai"
base_url = "http://127.0.0.1:{port}/v1"

[[models]]
name = "small"
provider = "main"
"""
STRANGER = shlex.split(os.environ.get("AIORCH_CONFORMANCE_CLIENT", "")) or [
    sys.executable,
    str(Path(__file__).with_name("stranger.py")),
]


class Provider(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint that answers each prompt as scripted."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: dict[str, tuple[str, float, Sequence[str] | None, float]] = {}
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    def end(self) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            if "input" in asked:
                self._say(embeddings(asked))
            else:
                self._complete(asked)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the daemon has cancelled

    def _complete(self, asked: dict[str, Any]) -> None:
        prompt = asked["messages"][-1]["content"]
        text, delay_s, pieces, pause_s = self.server.script[prompt]
        if self.server.ended.wait(delay_s):
            return
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": text}
            self._say(
                {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
            )
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, piece in enumerate(pieces or [text]):
            if number and self.server.ended.wait(pause_s):
                return
            self._event({"id": "x", "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        self._event({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({"id": "x", "choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")
        self.wfile.flush()

    def _say(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def embeddings(asked: dict[str, Any]) -> dict[str, Any]:
    def vector(text: str) -> list[float]:
        return [hashlib.blake2b(f"{place} {text}".encode()).digest()[0] / 256 for place in range(asked["dimensions"])]

    data = [{"index": place, "embedding": vector(text)} for place, text in enumerate(asked["input"])]
    return {"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}


class DaemonWorld:
    """A daemon process as the suite wants its server."""

    def __init__(self, process: DaemonProcess, provider: Provider) -> None:
        self._process = process
        self._provider = provider
        self._witness = aiorch.Client(process.socket, connect_timeout_s=PATIENCE_S)
        self._successor: threading.Thread | None = None
        self.socket = str(process.socket)

    def answer(
        self,
        prompt: str,
        text: str,
        *,
        delay_s: float = 0.0,
        pieces: Sequence[str] | None = None,
        pause_s: float = 0.0,
    ) -> None:
        self._provider.script[prompt] = (text, delay_s, pieces, pause_s)

    def in_flight(self) -> int:
        inside: int = self._witness.status()["stages"]["admit"]["inside"]
        return inside

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        self.settled()
        self._process.stop(signal.SIGKILL)

    def start(self) -> None:
        self._process.start()

    def replace(self) -> None:
        self.settled()
        assert self._process.process is not None
        self._process.process.send_signal(signal.SIGTERM)

        def succeed() -> None:
            assert self._process.process is not None
            self._process.process.wait(PATIENCE_S)
            self._process.start()

        self._successor = threading.Thread(target=succeed)
        self._successor.start()

    def settled(self) -> None:
        if self._successor is not None:
            self._successor.join()
            self._successor = None

    def end(self) -> None:
        self.settled()
        self._witness.close()


@pytest.fixture(scope="class")
def server(kind: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonWorld]:
    """One daemon for all tests of one client: prompts are never used twice, so its cache does not matter."""
    provider = Provider()
    try:
        with daemon(tmp_path_factory.mktemp("daemon"), CONFIG.format(port=provider.server_address[1])) as process:
            world = DaemonWorld(process, provider)
            try:
                yield world
            finally:
                world.end()
    finally:
        provider.end()


class TestLibrary(LibraryConformance):
    @pytest.fixture(scope="class", params=["blocking", "on_asyncio", "on_trio"])
    @classmethod
    def kind(cls, request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Driver]]:
        kind: Callable[..., AbstractContextManager[Driver]] = getattr(drivers, request.param)
        return kind

    @pytest.fixture
    def driver(
        self, kind: Callable[..., AbstractContextManager[Driver]], server: DaemonWorld, connect_timeout_s: float
    ) -> Iterator[Driver]:
        server.settled()
        with kind(server.socket, connect_timeout_s=connect_timeout_s) as driver:
            yield driver


class TestStranger(WireConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def kind(cls) -> list[str]:
        return STRANGER

    @pytest.fixture
    def driver(self, kind: list[str], server: DaemonWorld) -> Iterator[Driver]:
        server.settled()
        with drivers.program(kind, server.socket) as driver:
            yield driver
