"""A fake daemon with the verbs of the conformance suite, and the clients to drive against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from aiorch.testing import Answer, FakeDaemon

pytest.register_assert_rewrite("conformance")


class FakeWorld:
    """`aiorch.testing` as the conformance suite wants its server."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self.socket = daemon.socket
        self.restart = daemon.restart
        self.stop = daemon.stop
        self.start = daemon.start
        self.replace = daemon.go_away

    def answer(
        self,
        prompt: str,
        text: str,
        *,
        delay_s: float = 0.0,
        pieces: Sequence[str] | None = None,
        pause_s: float = 0.0,
    ) -> None:
        self.daemon.answer(prompt, Answer(text=text, delay_s=delay_s, pieces=pieces, pause_s=pause_s))

    def in_flight(self) -> int:
        return self.daemon.in_flight


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as fake:
        yield fake


@pytest.fixture
def server(daemon: FakeDaemon) -> FakeWorld:
    return FakeWorld(daemon)
