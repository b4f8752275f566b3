"""A process of callers with little patience: asks new questions at a fixed rate, whatever becomes of them.

    python rig/flood.py WHERE SHAPE SECONDS TIMEOUT_S CLIENTS FIRST

SHAPE: open:RATE (arrivals at random, Poisson) or closed:N (so many who ask again when answered). Each of CLIENTS is an
AsyncClient with a connection of its own; they take turns. Prints every call as JSON: when it was due, how long it took, what
came of it, and the retry_after_s that it was told. No question is ever asked twice, and every answer is checked.
"""

import gc
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trio

import aiorch
from rig.meters import come_first
from rig.questions import sum_of


class Flood:
    """All callers together."""

    def __init__(self, clients: list[aiorch.AsyncClient], timeout_s: float, first: int) -> None:
        self.clients = clients
        self.timeout_s = timeout_s
        self.number = first
        self.began = time.perf_counter()
        self.late_s = 0.0
        self.calls: list[tuple[float, float, str, float | None]] = []

    async def one(self, due: float) -> None:
        self.number += 1
        asked = sum_of(self.number)
        client = self.clients[self.number % len(self.clients)]
        told = None
        began = time.perf_counter()
        try:
            reply = await client.complete(asked.prompt, timeout_s=self.timeout_s)
            how = "ok" if reply.text == asked.answer else "WRONG"
        except aiorch.CallError as error:
            how, told = f"{error.code}/{error.stage}", error.retry_after_s
        except aiorch.AiorchError as error:
            how = type(error).__name__
        self.calls.append((round(due - self.began, 4), round(time.perf_counter() - began, 5), how, told))

    async def open(self, rate: float, seconds: float) -> None:
        chance = random.Random(self.number)
        offset = time.perf_counter() - trio.current_time()
        due = self.began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            while (due := due + chance.expovariate(rate)) < self.began + seconds:
                await trio.sleep_until(due - offset)
                self.late_s = max(self.late_s, time.perf_counter() - due)
                nursery.start_soon(self.one, due)

    async def closed(self, callers: int, seconds: float) -> None:
        self.began = time.perf_counter()

        async def caller() -> None:
            while time.perf_counter() < self.began + seconds:
                await self.one(time.perf_counter())

        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(caller)


async def run(where: str, shape: str, seconds: float, timeout_s: float, clients: int, first: int) -> None:
    kind, _, number = shape.partition(":")
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(aiorch.AsyncClient(where)) for _ in range(clients)]
        for client in opened:
            await client.ping()
        print("ready", flush=True)
        sys.stdin.readline()
        gc.disable()
        flood = Flood(opened, timeout_s, first)
        cpu = time.process_time()
        act: Callable[..., Awaitable[None]] = flood.open if kind == "open" else flood.closed
        await act(float(number) if kind == "open" else int(number), seconds)
        told = {
            "calls": flood.calls,
            "next": flood.number,
            "latest_start_s": flood.late_s,
            "cpu_s": time.process_time() - cpu,
        }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    come_first()
    where, shape, seconds, timeout_s, clients, first = sys.argv[1:]
    trio.run(run, where, shape, float(seconds), float(timeout_s), int(clients), int(first))
