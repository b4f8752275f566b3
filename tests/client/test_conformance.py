"""The library's clients, and a stranger's, against the fake daemon: the same expectations for all of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import drivers
import pytest
from conformance import Driver, LibraryConformance, WireConformance, World

STRANGER = shlex.split(os.environ.get("AIORCH_CONFORMANCE_CLIENT", "")) or [
    sys.executable,
    str(Path(__file__).with_name("stranger.py")),
]


class TestLibrary(LibraryConformance):
    @pytest.fixture(params=["blocking", "on_asyncio", "on_trio"])
    def driver(self, request: pytest.FixtureRequest, server: World, connect_timeout_s: float) -> Iterator[Driver]:
        with getattr(drivers, request.param)(server.socket, connect_timeout_s=connect_timeout_s) as driver:
            yield driver


class TestStranger(WireConformance):
    """A client written from docs/protocol.md alone; others can be put here in its place."""

    @pytest.fixture
    def driver(self, server: World) -> Iterator[Driver]:
        with drivers.program(STRANGER, server.socket) as driver:
            yield driver
