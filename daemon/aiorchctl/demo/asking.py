"""Two ways for a host process to have a prompt answered: a plain HTTP client as people write it today, and aiorch."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiorch

MODEL: Final = "tagger"
_ATTEMPTS: Final = 40
_LONGEST_BACKOFF_S: Final = 8.0
_TIMEOUT_S: Final = 60.0


class NotAnswered(Exception):
    """A prompt was not answered after all attempts; the message says what came last."""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, and how it came: ``direct``, or how aiorch's reply says (``miss``, ``exact``, ``coalesced``)."""

    text: str
    how: str
    refused: int = 0
    """Answers 429 that were met on the way; what the daemon meets stays with it."""
    cost_usd: float | None = None
    saved_usd: float | None = None


class Asking(Protocol):
    """A way to ask; may be used by several threads at once."""

    def ask(self, prompt: str) -> Told:
        """Wait for the answer. Raises `NotAnswered`."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class PlainHttp:
    """The standard library's HTTP client: one kept connection for each thread, and care with 429.

    A refused request is sent again when the provider's Retry-After says so, or after an exponential backoff, in both
    cases with jitter. This is what careful code without a daemon does; it cannot know what the other processes ask.
    """

    def __init__(self, host: str, port: int, seed: int, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._host = host
        self._port = port
        self._random = random.Random(seed)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []

    def ask(self, prompt: str) -> Told:
        """Send the prompt until it is answered."""
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": prompt}]}).encode()
        refused = 0
        said = "nothing"
        for attempt in range(_ATTEMPTS):
            try:
                status, retry_after_s, answer = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                status, retry_after_s, answer = 0, None, {}
                said = f"{type(error).__name__}: {error}"
            if status == 200:
                return Told(answer["choices"][0]["message"]["content"], "direct", refused)
            if status == 429:
                refused += 1
            elif status and status < 500:
                raise NotAnswered(f"the provider refused with {status}: {str(answer)[:200]}")
            if status:
                said = f"status {status}: {str(answer)[:200]}"
            wait_s = min(_LONGEST_BACKOFF_S, 0.5 * 2.0**attempt) if retry_after_s is None else retry_after_s
            self._sleep(wait_s * (1 + 0.25 * self._random.random()))
        raise NotAnswered(f"given up after {_ATTEMPTS} attempts; the last one got {said}")

    def close(self) -> None:
        """Close every thread's connection."""
        for connection in self._connections:
            connection.close()

    def _post(self, body: bytes) -> tuple[int, float | None, Any]:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()  # it connects again with the next request
            raise
        wait = response.getheader("retry-after")
        return response.status, float(wait) if wait is not None else None, json.loads(answer)


class ThroughDaemon:
    """`aiorch.Client`: one for the process, shared by its threads; pacing and retries are the daemon's business."""

    def __init__(self, socket: str) -> None:
        self._client = aiorch.Client(socket)

    def ask(self, prompt: str) -> Told:
        """Ask the daemon."""
        try:
            reply = self._client.complete(prompt, model=MODEL, timeout_s=_TIMEOUT_S)
        except aiorch.AiorchError as error:
            raise NotAnswered(str(error)) from error
        return Told(reply.text, reply.cache, cost_usd=reply.cost_usd, saved_usd=reply.saved_usd)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
