"""What a daemon does with five times the calls that it can answer.

    python benchmarks/overload.py [--save] [--quick]
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from rig.figures import options
from rig.meters import LOAD, come_first, cpu_s, pinned, quantile, rss_bytes
from rig.scene import scene
from rig.starving import starved

import aiorch

_FLOOD = Path(__file__).parent / "rig" / "flood.py"


class Flood:
    def __init__(self, where: str, shape: str, seconds: float, timeout_s: float, clients: int, first: int) -> None:
        with pinned(LOAD):
            self.process = subprocess.Popen(
                [sys.executable, str(_FLOOD), where, shape, str(seconds), str(timeout_s), str(clients), str(first)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def told(self) -> dict:
        return json.loads(self.process.communicate()[0].splitlines()[-1])


class Watch:
    """Asks status and ping on a connection of its own meanwhile."""

    def __init__(self, where: str, pid: int) -> None:
        self.where, self.pid = where, pid
        self.status, self.failed, self.stats = [], [], []
        self.rss = 0
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with aiorch.Client(self.where, timeout_s=5) as client:
            while not self.end.wait(0.25):
                began = time.perf_counter()
                try:
                    status = client.status()
                    self.stats.append(status)
                except aiorch.AiorchError as error:
                    self.failed.append(str(error)[:80])
                self.status.append(time.perf_counter() - began)
                self.rss = max(self.rss, rss_bytes(self.pid))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    share, clients, timeout_s = float(sys.argv_share) if hasattr(sys, "argv_share") else 0.2, CLIENTS, 3.0
    seconds = 15.0 if chosen.quick else 60.0
    come_first()
    with scene(latency_s=0.05) as at, ExitStack() as stack:
        stack.enter_context(starved(at.daemon.pid, share))
        first = 0
        flood = Flood(at.socket, "closed:24", 6, 10, clients, first)
        flood.go()
        told = flood.told()
        ok = [c for c in told["calls"] if c[2] == "ok"]
        capacity = len([c for c in ok if c[0] + c[1] < 6]) / 6
        print("capacity", capacity, Counter(c[2] for c in told["calls"]))
        first = told["next"]
        flood = Flood(at.socket, f"open:{capacity * 5}", seconds, timeout_s, clients, first)
        with Watch(at.socket, at.daemon.pid) as watch:
            before = cpu_s(at.daemon.pid)
            flood.go()
            told = flood.told()
            print("daemon cpu", (cpu_s(at.daemon.pid) - before) / seconds)
        first = told["next"]
        report(told, seconds, capacity)
        print("loader", told["cpu_s"] / seconds, told["latest_start_s"], "rss", watch.rss / 1e6)
        print("status", len(watch.status), "failed", len(watch.failed), sorted(watch.status)[len(watch.status) // 2], max(watch.status), watch.failed[:3])
        if watch.stats:
            print("tasks", max(s["tasks"] for s in watch.stats), "inside", max(s["stages"]["admit"]["inside"] for s in watch.stats),
                  "pending", max(s["door"]["pending_write_bytes"] for s in watch.stats))
        began = time.perf_counter()
        time.sleep(0.0)
        flood = Flood(at.socket, f"open:{capacity * 0.5}", 8, timeout_s, clients, first)
        flood.go()
        report(flood.told(), 8, capacity)


def report(told, seconds, capacity):
    calls = told["calls"]
    print(len(calls), Counter(c[2] for c in calls))
    for s in range(0, int(seconds) + 4, 3 if seconds > 20 else 1):
        step = 3 if seconds > 20 else 1
        these = [c for c in calls if s <= c[0] + c[1] < s + step]
        oks = sorted(c[1] for c in these if c[2] == "ok")
        bad = sorted(c[1] for c in these if c[2] != "ok")
        print(s, "ok/s", len(oks) / step, f"{len(oks) / step / capacity:.0%}", "p50", f"{quantile(oks, .5):.3f}" if oks else "-", "bad/s", len(bad) / step,
              "p50", f"{quantile(bad, .5):.3f}" if bad else "-", "p99", f"{quantile(bad, .99):.3f}" if bad else "-", dict(Counter(c[2] for c in these if c[2] != "ok")))
    print("no retry_after", sum(c[3] is None for c in calls if c[2].startswith("overloaded")))


if __name__ == "__main__":
    CLIENTS = int(sys.argv.pop(1))
    main()
