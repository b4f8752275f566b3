"""A process full of callers on Trio: asks new questions by one of several ways, and prints what it saw as JSON.

    python rig/callers.py WAY WHERE SHAPE SECONDS FIRST

WAY: aiorch (our AsyncClient), bare (a plain Unix socket and msgpack for each caller), httpx, httpx2 (straight to the
provider, as they come). WHERE: the socket or the base URL. SHAPE: open:RATE, arrivals at random (Poisson) whatever became
of earlier ones, latency counted from when the call was due; closed:N, so many callers who ask again when answered. FIRST:
number of the first question; no question is ever asked twice. Every answer is checked.
"""

import gc
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgpack
import trio

from rig.meters import come_first
from rig.questions import MODEL, sum_of

Ask = Callable[[str], Awaitable[str]]
KEY = "sk-benchmark-0123456789"


@asynccontextmanager
async def aiorch_client(where: str) -> AsyncIterator[Callable[[], Ask]]:
    """All callers share one client, as the callers of one host process would."""
    import aiorch

    async with aiorch.AsyncClient(where) as client:

        async def ask(prompt: str) -> str:
            return (await client.complete(prompt)).text

        yield lambda: ask


@asynccontextmanager
async def bare_sockets(where: str) -> AsyncIterator[Callable[[], Ask]]:
    """Each call has a connection of its own while it lasts: what many processes with one call each would be."""
    free: list[trio.SocketStream] = []
    async with AsyncExitStack() as stack:

        async def ask(prompt: str) -> str:
            stream = free.pop() if free else await stack.enter_async_context(await trio.open_unix_socket(where))
            await stream.send_all(msgpack.packb([0, 1, "complete", [{"prompt": prompt}]]))
            kind, msgid, error, result = msgpack.unpackb(await stream.receive_some(65536))
            assert (kind, msgid, error) == (1, 1, None), error
            free.append(stream)
            text: str = result["text"]
            return text

        yield lambda: ask


def plain_http(library: str) -> Any:
    """An AsyncClient of this library with its defaults."""

    @asynccontextmanager
    async def client(where: str) -> AsyncIterator[Callable[[], Ask]]:
        module = __import__(library)
        headers = {"authorization": f"Bearer {KEY}"}
        async with module.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:

            async def ask(prompt: str) -> str:
                body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
                answer = await http.post(f"{where}/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
                text: str = answer.json()["choices"][0]["message"]["content"]
                return text

            yield lambda: ask

    return client


WAYS = {"aiorch": aiorch_client, "bare": bare_sockets, "httpx": plain_http("httpx"), "httpx2": plain_http("httpx2")}


class Callers:
    """Counts and times; a wrong answer ends it all."""

    def __init__(self, first: int, seconds: float) -> None:
        self.number = first
        self.seconds = seconds
        self.latencies: list[float] = []
        self.most_in_flight = self.in_flight = 0
        self.late_s = 0.0
        self.began = 0.0

    async def one(self, ask: Ask, due: float) -> None:
        asked = sum_of(self.number)
        self.number += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        answer = await ask(asked.prompt)
        self.latencies.append(time.perf_counter() - due)
        self.in_flight -= 1
        assert answer == asked.answer, f"a wrong answer: {answer!r}, not {asked.answer!r}"

    async def open(self, make: Callable[[], Ask], rate: float) -> None:
        """Let them come at ``rate`` a second."""
        chance = random.Random(self.number)
        ask = make()
        offset = time.perf_counter() - trio.current_time()
        due = time.perf_counter()
        self.began = due
        async with trio.open_nursery() as nursery:
            while (due := due + chance.expovariate(rate)) < self.began + self.seconds:
                await trio.sleep_until(due - offset)
                self.late_s = max(self.late_s, time.perf_counter() - due)
                nursery.start_soon(self.one, ask, due)

    async def closed(self, make: Callable[[], Ask], callers: int) -> None:
        """Let ``callers`` ask one after the other."""

        async def caller(ask: Ask) -> None:
            while time.perf_counter() < self.began + self.seconds:
                await self.one(ask, time.perf_counter())

        self.began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(caller, make())


async def run(way: str, where: str, shape: str, seconds: float, first: int) -> dict[str, float]:
    kind, _, number = shape.partition(":")
    async with WAYS[way](where) as make:
        # Connections are opened in the first turn, which does not count.
        for seconds_now in (min(1.0, seconds / 4), seconds):
            callers = Callers(first, seconds_now)
            gc.collect()
            cpu = time.process_time()
            await (callers.open(make, float(number)) if kind == "open" else callers.closed(make, int(number)))
            first = callers.number
            if seconds_now < seconds:
                print("warm", flush=True)
                sys.stdin.readline()
        elapsed = time.perf_counter() - callers.began
        cpu = time.process_time() - cpu
    ordered = sorted(callers.latencies)
    count = len(ordered)
    return {
        "count": count,
        "elapsed_s": elapsed,
        "per_s": count / elapsed,
        "p50_ms": ordered[count // 2] * 1e3,
        "p90_ms": ordered[count * 9 // 10] * 1e3,
        "p99_ms": ordered[count * 99 // 100] * 1e3,
        "max_ms": ordered[-1] * 1e3,
        "caller_cpu_us": cpu / count * 1e6,
        "caller_busy": cpu / elapsed,
        "most_in_flight": callers.most_in_flight,
        "latest_start_ms": callers.late_s * 1e3,
        "next": first,
    }


if __name__ == "__main__":
    come_first()
    way, where, shape, seconds, first = sys.argv[1:]
    print(json.dumps(trio.run(run, way, where, shape, float(seconds), int(first))))
