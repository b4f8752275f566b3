"""Five times as many calls as can be answered, for a minute, and what it costs those who ask little.

    python benchmarks/overload.py [--save] [--quick]

Starved: the daemon has a fifth of a CPU (a quota of the kernel, 2 ms of every 10), its provider takes 50 ms and is not
short. What it gets done is measured before and after, and the mean of both is what counts: 24 callers who ask again when
answered. Between them calls come at five times the rate that was measured first, at random (Poisson), all of new
questions, each with a timeout of 3 s, over 16 connections and over one; on a connection of its own somebody asks `status`
every second. Goodput is what is answered in time, a second, from 3 s after the beginning on. When it ends, calls at half of
what can be done follow; normal again is from when on all of them are answered within half a second. Short of permits: the
daemon has a CPU of its own, the model five permits and answers of 100 ms. A neighbour: ten clients with one call at a time,
of 50 ms, alone and beside one who sends 5 000 calls at once. Silent: 200 calls with a second each at a provider that takes
calls and says nothing.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Self

import trio
from rig.figures import Figure, options, publish
from rig.meters import LOAD, Disturbance, come_first, median, pinned, quantile, rss_bytes
from rig.questions import sum_of
from rig.scene import Scene, scene
from rig.starving import starved

import aiorch

SHARE = 0.2
TIMES = 5
TIMEOUT_S = 3.0
SETTLED_S = 3.0
_FLOOD = Path(__file__).with_name("rig") / "flood.py"


class Flood:
    """A process of callers, ready to begin."""

    def __init__(self, at: Scene, shape: str, seconds: float, clients: int, first: int) -> None:
        arguments = [at.socket, shape, str(seconds), str(TIMEOUT_S), str(clients), str(first)]
        with pinned(LOAD):
            self._process = subprocess.Popen(
                [sys.executable, str(_FLOOD), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def calls(self) -> list[tuple[float, float, str, float | None]]:
        """When due, how long it took, what came of it, when to come again; once all are over."""
        told = json.loads(self._process.communicate()[0])
        wrong = [how for _, _, how, _ in told["calls"] if how == "WRONG"]
        assert not wrong, f"{len(wrong)} wrong answers"
        return [tuple(each) for each in told["calls"]]


class Onlooker(threading.Thread):
    """Asks `status` now and then, on a connection of its own."""

    def __init__(self, at: Scene) -> None:
        super().__init__()
        self._at = at
        self._over = threading.Event()
        self.took: list[float] = []
        self.failed = 0
        self.rss = self.tasks = 0

    def run(self) -> None:
        with aiorch.Client(self._at.socket, timeout_s=5) as client:
            while not self._over.wait(1.0):
                began = time.perf_counter()
                try:
                    self.tasks = max(self.tasks, client.status()["tasks"])
                except aiorch.AiorchError:
                    self.failed += 1
                self.took.append(time.perf_counter() - began)
                self.rss = max(self.rss, rss_bytes(self._at.daemon.pid))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def done_a_second(at: Scene, clients: int, first: int) -> float:
    """Measure what can be done: callers who ask again when they are answered."""
    measured_s = 6.0
    flood = Flood(at, "closed:24", measured_s, clients, first)
    flood.go()
    done = sum(how == "ok" and 1 <= due + took < measured_s for due, took, how, _ in flood.calls())
    return done / (measured_s - 1)


def overloaded(at: Scene, seconds: float, clients: int, first: int) -> dict[str, Any]:
    """Measure what is done with too much to do."""
    before = done_a_second(at, clients, first)
    flood = Flood(at, f"open:{before * TIMES}", seconds, clients, first + 1_000_000)
    after = Flood(at, f"open:{before / 2}", 6.0, clients, first + 2_000_000)
    with Onlooker(at) as onlooker:
        flood.go()
        time.sleep(seconds)
        after.go()
        calls = flood.calls()
    later = after.calls()
    capacity = (before + done_a_second(at, clients, first + 3_000_000)) / 2
    answered = [took for due, took, how, _ in calls if how == "ok" and SETTLED_S <= due + took < seconds]
    refused = sorted(took for _, took, how, _ in calls if how.startswith("overloaded"))
    unwell = [due for due, took, how, _ in later if how != "ok" or took > 0.5]
    return {
        "capacity": capacity,
        "goodput": len(answered) / (seconds - SETTLED_S),
        "answer_s": median(answered) if answered else 0.0,
        "refused_p50_ms": quantile(refused, 0.5) * 1e3 if refused else 0.0,
        "refused_p90_ms": quantile(refused, 0.9) * 1e3 if refused else 0.0,
        "refused_p99_ms": quantile(refused, 0.99) * 1e3 if refused else 0.0,
        "without_hint": sum(how.startswith("overloaded") and hint is None for _, _, how, hint in calls),
        "outcomes": dict(Counter(how for _, _, how, _ in calls)),
        "normal_after_s": max(unwell, default=0.0),
        "failed_after": sum(how != "ok" for _, _, how, _ in later),
        "status_p50_s": median(onlooker.took),
        "status_worst_s": max(onlooker.took),
        "status_failed": onlooker.failed,
        "status_asked": len(onlooker.took),
        "tasks": onlooker.tasks,
        "rss_mb": onlooker.rss / 1e6,
    }


def told_of(row: dict[str, Any], what: str) -> list[Figure]:
    outcomes = ", ".join(f"{number:,} {how}" for how, number in sorted(row["outcomes"].items()))
    return [
        Figure(
            f"{what}: answered in time, of what can be done",
            100 * row["goodput"] / row["capacity"],
            "%",
            90.0,
            at_least=True,
            beside=f"{row['goodput']:.0f} of {row['capacity']:.0f} a second, within {row['answer_s']:.2f} s (p50); {outcomes}; "
            f"at most {row['tasks']} tasks, RSS {row['rss_mb']:.0f} MB",
            details=row,
        ),
        Figure(
            "the same: refused within (p90)",
            row["refused_p90_ms"],
            "ms",
            50.0,
            beside=f"p50 {row['refused_p50_ms']:.0f} ms, p99 {row['refused_p99_ms']:.0f} ms; {row['without_hint']} of them "
            "without retry_after_s",
        ),
        Figure(
            "the same: `status` meanwhile, at worst",
            row["status_worst_s"] * 1e3,
            "ms",
            beside=f"p50 {row['status_p50_s'] * 1e3:.0f} ms; {row['status_failed']} of {row['status_asked']} failed",
        ),
        Figure(
            "the same: normal again after",
            row["normal_after_s"],
            "s",
            2.0,
            beside=f"at half of what can be done; {row['failed_after']} of these calls failed",
        ),
    ]


def beside_a_flood(at: Scene, seconds: float) -> Figure:
    """Ten who ask one thing at a time, alone and beside one who asks thousands."""
    number = 10_000_000
    clients: list[aiorch.AsyncClient] = []

    async def ten(until: Any) -> list[float]:
        took: list[float] = []

        async def one(client: aiorch.AsyncClient) -> None:
            nonlocal number
            while not until():
                number += 1
                asked, began = sum_of(number), time.perf_counter()
                assert (await client.complete(asked.prompt)).text == asked.answer
                took.append(time.perf_counter() - began)

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(one, client)
        return sorted(took)

    async def run(flooder: aiorch.AsyncClient) -> tuple[list[float], list[float], float]:
        over = time.perf_counter() + seconds
        alone = await ten(lambda: time.perf_counter() > over)
        done = False
        began = time.perf_counter()

        async def flood() -> None:
            nonlocal done

            async def ask(number: int) -> None:
                asked = sum_of(number)
                assert (await flooder.complete(asked.prompt)).text == asked.answer

            async with trio.open_nursery() as nursery:
                for each in range(5000):
                    nursery.start_soon(ask, 20_000_000 + each)
            done = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            beside = await ten(lambda: done)
        return alone, beside, time.perf_counter() - began

    async def main() -> tuple[list[float], list[float], float]:
        async with AsyncExitStack() as stack:
            clients.extend([await stack.enter_async_context(aiorch.AsyncClient(at.socket)) for _ in range(10)])
            return await run(await stack.enter_async_context(aiorch.AsyncClient(at.socket)))

    with pinned(LOAD):
        alone, beside, took_s = trio.run(main)
    before, meanwhile = quantile(alone, 0.99) * 1e3, quantile(beside, 0.99) * 1e3
    return Figure(
        "ten with one call each beside one with 5 000 at once: their p99, over when they are alone",
        meanwhile / before,
        "times",
        3.0,
        beside=f"{meanwhile:.0f} ms, alone {before:.0f} ms; all 5 000 answered, in {took_s:.1f} s",
    )


def silence(at: Scene) -> list[Figure]:
    """Calls with a second each at a provider that says nothing."""
    at.simulator.set_faults({"fault": "hang"})
    took: list[float] = []

    async def run() -> float:
        async with aiorch.AsyncClient(at.socket) as client, trio.open_nursery() as nursery:

            async def one(number: int) -> None:
                began = time.perf_counter()
                try:
                    await client.complete(sum_of(30_000_000 + number).prompt, timeout_s=1.0)
                except aiorch.DeadlineExceeded:
                    took.append(time.perf_counter() - began)

            for number in range(200):
                nursery.start_soon(one, number)
        ended = time.perf_counter()
        while at.simulator.stats()["calls"]["in_flight"]:
            assert time.perf_counter() < ended + 10, "calls are still open at the provider"
        return time.perf_counter() - ended

    with pinned(LOAD):
        closed_s = trio.run(run)
    at.simulator.set_faults()
    assert len(took) == 200, f"{len(took)} of 200 heard that their time was over"
    beside = f"first after {min(took):.2f} s, all 200 with deadline_exceeded"
    return [
        Figure(
            "200 calls of 1 s at a silent provider: the last one is answered after", max(took), "s", 1.3, beside=beside
        ),
        Figure("the same: connections at the provider closed after", closed_s, "s", 0.5),
    ]


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    seconds = 8.0 if chosen.quick else 60.0
    come_first()
    watch = Disturbance([])
    figures: list[Figure] = []
    with scene(latency_s=0.05) as at:
        with ExitStack() as stack:
            how = stack.enter_context(starved(at.daemon.pid, SHARE))
            row = overloaded(at, seconds, 16, 1)
            figures += told_of(row, f"daemon on {how}, {TIMES} times the calls for {seconds:g} s, 16 connections")
            row = overloaded(at, min(seconds, 20.0), 1, 100_000_000)
            figures += told_of(row, "the same over one connection, for 20 s")
    with scene(latency_s=0.1, permits=5) as at:
        row = overloaded(at, min(seconds, 20.0), 16, 1)
        figures += told_of(row, f"model with 5 permits, {TIMES} times the calls for 20 s, 16 connections")
    with scene(latency_s=0.05) as at:
        figures.append(beside_a_flood(at, 2.0 if chosen.quick else 5.0))
        figures += silence(at)
    publish("overload", figures, disturbed=[watch.share()], save=chosen.save)


if __name__ == "__main__":
    main()
