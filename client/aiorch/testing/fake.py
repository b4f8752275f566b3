"""The fake daemon: one background thread that serves a Unix socket and obeys its test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiorch.testing.answers import Answerable, Asked, echo
from aiorch.testing.server import Server

_PATH_BYTES = 107


class FakeDaemon:
    """A daemon that answers as it is told; a context manager.

    ``answers`` maps prompts to what they get, ``default`` is for all others. ``methods`` adds or replaces methods other
    than ``complete``: each is a function of the request that gives plain data or raises a `CallError`. ``socket`` names
    the socket; otherwise it lies in a temporary directory that goes with the daemon.

    Scripted functions that raise anything but a `CallError` fail their request with `InternalError`, and the test too:
    leaving the ``with`` block raises what they raised.
    """

    def __init__(
        self,
        answers: Mapping[str, Answerable] | None = None,
        *,
        default: Answerable = echo,
        methods: Mapping[str, Callable[[Asked], Any]] | None = None,
        socket: str | os.PathLike[str] | None = None,
    ) -> None:
        self._directory: str | None = None
        self._path = os.fspath(socket) if socket is not None else None
        self._server = Server(dict(answers or {}), default, dict(methods or {}))

    @property
    def socket(self) -> str:
        """The socket's path: what ``AIORCH_SOCKET`` or ``Client(socket)`` should say."""
        if self._path is None:
            raise RuntimeError("the fake daemon has not been started: use it in a with block")
        return self._path

    def env(self) -> dict[str, str]:
        """Give this process's environment with ``AIORCH_SOCKET`` set, for starting others."""
        return {**os.environ, "AIORCH_SOCKET": self.socket}

    def __enter__(self) -> Self:
        if self._path is None:
            self._directory = tempfile.mkdtemp(prefix="aiorch-")
            if len(os.fsencode(self._directory)) > _PATH_BYTES - 5:  # a long TMPDIR does not fit a socket's address
                Path(self._directory).rmdir()
                self._directory = tempfile.mkdtemp(prefix="aiorch-", dir="/tmp")
            self._path = f"{self._directory}/sock"
        self._server.open(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failures = self._server.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = self._path = None
        if failures and error is None:
            raise failures[0]

    # what happened

    @property
    def requests(self) -> list[Asked]:
        """All requests so far but ``hello``, in the order they came."""
        return list(self._server.asked)

    @property
    def prompts(self) -> list[str]:
        """The prompts of all ``complete`` requests so far."""
        return [asked.prompt for asked in self._server.asked if asked.method == "complete"]

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers now."""
        return self._server.in_flight

    @property
    def connections(self) -> int:
        """Connections open now."""
        return self._server.connections

    @property
    def connections_made(self) -> int:
        """Connections taken since the start."""
        return self._server.connections_made

    def wait_until(self, condition: Callable[[FakeDaemon], bool], *, timeout_s: float = 5.0) -> None:
        """Wait until the daemon is in some state, such as ``lambda daemon: daemon.in_flight == 1``. Raises TimeoutError."""
        with self._server.changed:
            if not self._server.changed.wait_for(lambda: condition(self), timeout_s):
                raise TimeoutError(f"the fake daemon did not come to that state within {timeout_s:g} s")

    # what shall happen

    def answer(self, prompt: str, answer: Answerable) -> None:
        """Script the answer to a prompt from now on."""
        self._server.answers[prompt] = answer

    def cut(self) -> None:
        """Hang up on everybody at once; new connections are taken."""
        self._server.do(self._server.hang_up)

    def stop(self) -> None:
        """Be killed: hang up on everybody and remove the socket."""
        self._server.do(self._server.stop_listening)

    def start(self) -> None:
        """Come back after `stop`."""
        self._server.do(self._server.listen)

    def restart(self) -> None:
        """Be killed and come back at once."""
        self.stop()
        self.start()

    def go_away(self, deadline_s: float = 5.0) -> None:
        """Be replaced gracefully: tell all connections, refuse what they ask from now on, answer what they have asked,
        then hang up on them. New connections reach the successor.
        """
        self._server.do(lambda: self._server.say_going_away(deadline_s))

    def tell(self, method: str, arguments: Mapping[str, Any]) -> None:
        """Send a notification to every connection."""
        self._server.do(lambda: self._server.tell(method, arguments))
