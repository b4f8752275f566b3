"""Many clients in a closed loop, who keep asking whatever becomes of the daemon, and note how each call went."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import trio
from sums import sum_of

from aiorch import AsyncClient
from aiorch.errors import AiorchError, ConnectionLost, IncompleteStream, Unreachable


@dataclass(slots=True)
class Told:
    """How the calls of a crowd went. ``refused`` found no daemon, ``cut`` lost their connection on the way, ``wrong`` got
    an error or another answer than the right one; each told in words. ``slowest_s`` is the longest that any call took. ``streamed`` holds the text that each streamed
    prompt was given, in so many ``pieces``.
    """

    answered: int = 0
    hits: int = 0
    refused: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    connections: int = 0
    streamed: dict[str, str] = field(default_factory=dict)
    pieces: int = 0

    def took(self, seconds: float) -> None:
        """Note how long a call took."""
        self.slowest_s = max(self.slowest_s, seconds)


class Crowd:
    """So many clients at one socket, each with a connection of its own, which it now and then gives up for a new one.

    Half of the calls ask something new. A client pauses ``pause_s`` on average between two calls.
    """

    def __init__(self, path: Path, clients: int, *, pause_s: float, seed: int = 1) -> None:
        self.told = Told()
        self._path = path
        self._clients = clients
        self._pause_s = pause_s
        self._chance = random.Random(seed)
        self._fresh = 0
        self._enough = trio.Event()

    def leave(self) -> None:
        """Ask nothing more; what was asked is still waited for."""
        self._enough.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask until told to leave; started once every client has had an answer."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._clients):
                await nursery.start(self._client)
            task_status.started()

    async def _client(self, task_status: trio.TaskStatus[None]) -> None:
        first = True
        while not self._enough.is_set():
            self.told.connections += 1
            async with AsyncClient(self._path, timeout_s=30.0) as client:
                for _ in range(self._chance.randint(1, 20)):
                    await self._ask(client)
                    if first:
                        first = False
                        task_status.started()
                    with trio.move_on_after(self._chance.expovariate(1.0) * self._pause_s):
                        await self._enough.wait()
                    if self._enough.is_set():
                        break

    async def _ask(self, client: AsyncClient) -> None:
        if self._chance.random() < 0.5 or not self._fresh:
            self._fresh += 1
            number = self._fresh
        else:
            number = self._chance.randint(max(1, self._fresh - 200), self._fresh)
        wanted = sum_of(number)
        began = trio.current_time()
        try:
            reply = await client.complete(wanted.prompt)
        except Unreachable as error:
            self.told.refused.append(str(error))
        except ConnectionLost as error:
            self.told.cut.append(str(error))
        except AiorchError as error:
            self.told.wrong.append(f"call {number}: {type(error).__name__}: {error}")
        else:
            if reply.text != wanted.answer:
                self.told.wrong.append(f"call {number} was answered {reply.text!r}, not {wanted.answer!r}")
            self.told.answered += 1
            self.told.hits += reply.cache == "exact"
        self.told.took(trio.current_time() - began)


async def in_flight(path: Path, calls: int, streams: int, told: Told, task_status: trio.TaskStatus[None]) -> None:
    """Have so many slow calls and streams in flight, each on a connection of its own; started once all have been sent.

    Ends when the last one has.
    """

    async def call(number: int) -> None:
        wanted = sum_of(number)
        began = trio.current_time()
        try:
            async with AsyncClient(path, timeout_s=60.0) as client:
                reply = await client.complete(wanted.prompt)
            if reply.text != wanted.answer:
                told.wrong.append(f"call {number} was answered {reply.text!r}, not {wanted.answer!r}")
            told.answered += 1
        except (ConnectionLost, Unreachable) as error:
            told.cut.append(f"call {number}: {error}")
        except AiorchError as error:
            told.wrong.append(f"call {number}: {type(error).__name__}: {error}")
        told.took(trio.current_time() - began)

    async def stream(prompt: str) -> None:
        text = ""
        try:
            async with AsyncClient(path, timeout_s=60.0) as client, client.stream(prompt) as pieces:
                async for piece in pieces:
                    text += piece
                    told.pieces += 1
        except (ConnectionLost, IncompleteStream, Unreachable) as error:
            told.cut.append(f"stream: {error}")
        except AiorchError as error:
            told.wrong.append(f"stream: {type(error).__name__}: {error}")
        else:
            told.streamed[prompt] = text

    async with trio.open_nursery() as nursery:
        for number in range(1, calls + 1):
            nursery.start_soon(call, number)
        for number in range(streams):
            nursery.start_soon(stream, _page(number))
        async with AsyncClient(path) as client:
            while (await client.status())["stages"]["observe"]["inside"] < calls + streams:
                await trio.sleep(0.01)
        task_status.started()


def _page(number: int) -> str:
    """A prompt whose answer is long enough to come in pieces."""
    weather = "The wind turned to the north in the night and the harbour was quiet until the first boats came back. "
    return f"Summarize in three sentences:\n\nThis is page {number} of the log of a small harbour. {weather * 3}"
