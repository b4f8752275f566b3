"""Throws more than 40 kinds of malformed frames at the daemon from 20 clients at once, and looks what that costs the others.

    python benchmarks/malformed_frames.py [--save] [--quick]

Every client throws every kind, in an order of its own, one after another without pause, each on a connection of its own:
garbage, bombs, giants, wrong shapes, frames of megabytes up to the limit. Each must end in an error or a closed connection
within a second. Four witnesses ask meanwhile what a provider of 50 ms answers, and one what is kept; p99 is compared to that
of the same witnesses before, in as many turns. Memory is the highest seen. Throwers are a process of their own, which gives
way to the witnesses on the CPU they share. Limits of the daemon as they come (frames of 16 MiB).
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import trio
from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, Disturbance, come_first, cpu_s, median, pinned, quantile, rss_bytes
from rig.scene import daemon, start_simulator
from rig.trials import PECULIAR, Thrown, ask_peculiarly, configuration, kinds, throw
from sums import sum_of

from aiorch import AsyncClient

CLIENTS = 20
CALM_S = 4.0


async def throw_all(path: Path) -> Thrown:
    thrown = Thrown()
    bad = kinds()

    async def client(seed: int) -> None:
        for name in random.Random(seed).sample(list(bad), len(bad)):
            await throw(path, name, bad[name](), thrown)

    async with trio.open_nursery() as nursery:
        for seed in range(CLIENTS):
            nursery.start_soon(client, seed)
    return thrown


class Witnesses:
    """Good clients, and how long their calls took, in seconds: of new questions and of a kept one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self.fresh: list[float] = []
        self.kept: list[float] = []

    def take(self) -> tuple[list[float], list[float]]:
        """What was seen since the last time, in order."""
        found = sorted(self.fresh), sorted(self.kept)
        self.fresh, self.kept = [], []
        return found

    async def watch(self) -> None:
        async with AsyncClient(self._path) as client, trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(self._ask, client, number)
            nursery.start_soon(self._ask, client, None)

    async def _ask(self, client: AsyncClient, fresh: int | None) -> None:
        while True:
            self._number += fresh is not None
            wanted = sum_of(0 if fresh is None else self._number)
            began = time.perf_counter()
            reply = await client.complete(wanted.prompt)
            (self.kept if fresh is None else self.fresh).append(time.perf_counter() - began)
            assert reply.text == wanted.answer
            await trio.sleep(0.005)


async def siege(path: Path, pid: int, turns: int) -> dict:
    rows: dict = {"turns": [], "thrown": [], "before": rss_bytes(pid), "highest": 0, "peculiar": []}
    for name, data in PECULIAR.items():
        await ask_peculiarly(path, name, data, rows["peculiar"])
    witnesses = Witnesses(path)

    async def weigh() -> None:
        while True:
            rows["highest"] = max(rows["highest"], rss_bytes(pid))
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(witnesses.watch)
        nursery.start_soon(weigh)
        await trio.sleep(1.0)
        for turn in range(turns + 1):
            witnesses.take()
            await trio.sleep(CALM_S)
            calm, calm_kept = witnesses.take()
            if turn == 0:
                rows["before"] = rows["highest"]
            began, cpu = time.perf_counter(), cpu_s(pid)
            done = await trio.run_process(
                ["nice", "-n", "10", sys.executable, __file__, "--throw", str(path)], capture_stdout=True
            )
            took = time.perf_counter() - began
            besieged, besieged_kept = witnesses.take()
            if turn == 0:  # to load what is loaded when first needed; its memory counts all the same
                continue
            rows["thrown"].append(json.loads(done.stdout))
            rows["turns"].append(
                {
                    "calm_p99_ms": quantile(calm, 0.99) * 1e3,
                    "p99_ms": quantile(besieged, 0.99) * 1e3,
                    "ratio": quantile(besieged, 0.99) / quantile(calm, 0.99),
                    "kept_calm_p99_ms": quantile(calm_kept, 0.99) * 1e3,
                    "kept_p99_ms": quantile(besieged_kept, 0.99) * 1e3,
                    "kept_p50_ms": quantile(besieged_kept, 0.5) * 1e3,
                    "daemon_cpu": (cpu_s(pid) - cpu) / took,
                    "seconds": took,
                }
            )
        nursery.cancel_scope.cancel()
    return rows


def thrower(path: Path) -> None:
    thrown = trio.run(throw_all, path)
    answered = thrown.errors + thrown.told + thrown.closed
    print(json.dumps({"ended": answered, "wrong": thrown.wrong, "slowest_s": thrown.slowest_s, "told": thrown.told}))


def main() -> None:
    def hidden(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--throw", type=Path, help=argparse.SUPPRESS)

    chosen = options(__doc__.splitlines()[0], hidden)
    if chosen.throw is not None:
        thrower(chosen.throw)
        return
    come_first()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator("[[models]]\nlatency_s = 0.05\n"))
        with pinned(UNDER_TEST):
            running = stack.enter_context(daemon(folder, configuration(simulator.base_url)))
        watch = Disturbance([running.pid, simulator.pid])
        with pinned(LOAD):
            rows = trio.run(siege, running.socket, running.pid, 1 if chosen.quick else 2)
        disturbed = watch.share()
        assert running.stop() == 0, running.said()
        assert "Traceback" not in running.said(), running.said()
    wrong = [*rows["peculiar"], *(each for thrown in rows["thrown"] for each in thrown["wrong"])]
    for each in wrong[:5]:
        print(each)
    middle = {name: median(turn[name] for turn in rows["turns"]) for name in rows["turns"][0]}
    frames = sum(thrown["ended"] for thrown in rows["thrown"])
    slowest = max(thrown["slowest_s"] for thrown in rows["thrown"])
    figures = [
        Figure(f"{len(kinds())} kinds of malformed frames from {CLIENTS} clients at once: neither error nor close within a "
               "second, or what only looks malformed refused", len(wrong), "", 0.0,
               beside=f"of {frames:,} frames, {frames / len(rows['thrown']) / middle['seconds']:,.0f} a second; slowest "
               f"{slowest:.2f} s; {len(PECULIAR)} peculiarities of Neovim and others served"),
        Figure("the same: memory the daemon takes more", (rows["highest"] - rows["before"]) / 1e6, "MB", 64.0,
               beside=f"{rows['before'] / 1e6:.0f} MB before; of 20 clients with frames of up to 16 MiB"),
        Figure("the same: a good client's p99, over its p99 before", middle["ratio"], "times", 2.0,
               beside=f"{middle['p99_ms']:.0f} ms, before {middle['calm_p99_ms']:.0f} ms, provider of 50 ms; kept answers "
               f"{middle['kept_p99_ms']:.1f} ms, before {middle['kept_calm_p99_ms']:.1f} ms; daemon "
               f"{middle['daemon_cpu']:.0%} of its CPU", details={"turns": rows["turns"]}),
    ]  # fmt: skip
    publish("malformed_frames", figures, disturbed=[disturbed], save=chosen.save)


if __name__ == "__main__":
    main()
