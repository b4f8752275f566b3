"""Simulators in processes of their own, and a plain client for them."""

import contextlib
import http.client
import json
import socket

import pytest

from aiorchsim.process import start_simulator


class Answered:
    """One response, read to its end."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.json["choices"][0]["message"]["content"]

    @property
    def error(self):
        return self.json["error"]

    @property
    def events(self):
        parts = self.body.decode().split("\n\n")
        assert parts.pop() == ""
        assert all(part.startswith("data: ") for part in parts)
        return [part.removeprefix("data: ") for part in parts]


class Asker:
    """Asks a simulator over one kept connection."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.connection = http.client.HTTPConnection(simulator.host, simulator.port, timeout=20)

    def request(self, method, path, body=None, headers=None):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.connection.request(method, path, body, headers or {})
        return Answered(self.connection.getresponse())

    def chat(self, prompt="What is 6*7?", model="m", headers=None, **more):
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], **more}
        return self.request("POST", "/v1/chat/completions", body, headers)

    def embed(self, given, model="m", **more):
        return self.request("POST", "/v1/embeddings", {"model": model, "input": given, **more})


@pytest.fixture
def raw():
    """A factory of plain sockets to a simulator, closed at the end."""
    with contextlib.ExitStack() as sockets:

        def connect(simulator):
            return sockets.enter_context(socket.create_connection((simulator.host, simulator.port), timeout=20))

        yield connect


@pytest.fixture
def ask():
    """A factory of askers, closed at the end."""
    with contextlib.ExitStack() as askers:

        def factory(simulator):
            asker = Asker(simulator)
            askers.callback(asker.connection.close)
            return asker

        yield factory


@pytest.fixture
def start():
    """Start a simulator with this profile; it ends with the test."""
    with contextlib.ExitStack() as simulators:

        def starter(profile=None, **more):
            return simulators.enter_context(start_simulator(profile, **more))

        yield starter


@pytest.fixture(scope="module")
def quick():
    """A simulator without latency or limits, shared by the tests of a module."""
    with start_simulator("[[models]]\nlatency_s = 0\n") as simulator:
        yield simulator
