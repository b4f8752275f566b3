"""Runs callers.py by each way in turn, with the CPU of daemon and provider beside."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from rig.meters import LOAD, UNDER_TEST, cpu_s, pinned, rss_bytes
from rig.scene import Scene

_CALLERS: Final = Path(__file__).with_name("callers.py")


def plain_libraries() -> list[str]:
    """The plain HTTP clients there are."""
    return [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name) is not None]


class Misses:
    """Asks questions that nobody asked before."""

    def __init__(self, at: Scene) -> None:
        self._at = at
        self._next = 0

    def run(self, way: str, shape: str, seconds: float) -> dict[str, Any]:
        """One round. The daemon has CPU 0 for itself and its callers share CPU 1 with the provider; a plain client has CPU
        0 for itself."""
        at, through = self._at, way in ("aiorch", "bare")
        where = at.socket if through else at.simulator.base_url
        with pinned(LOAD if through else UNDER_TEST):
            callers = subprocess.Popen(
                [sys.executable, str(_CALLERS), way, where, shape, str(seconds), str(self._next)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert callers.stdin is not None
        assert callers.stdout is not None
        with callers:
            assert callers.stdout.readline() == "warm\n", f"{way} did not get warm"
            before = [cpu_s(pid) for pid in at.pids]
            callers.stdin.write("\n")
            callers.stdin.flush()
            last = callers.stdout.readline()
            daemon, provider = (cpu_s(pid) - at_first for pid, at_first in zip(at.pids, before, strict=True))
        assert callers.returncode == 0, f"{way} failed"
        row: dict[str, Any] = json.loads(last)
        self._next = row["next"]
        row["daemon_cpu_us"] = daemon / row["count"] * 1e6 if through else 0.0
        row["daemon_busy"] = daemon / row["elapsed_s"]
        row["provider_cpu_us"] = provider / row["count"] * 1e6
        row["provider_busy"] = provider / row["elapsed_s"]
        row["daemon_rss_mb"] = rss_bytes(at.daemon.pid) / 1e6
        return row
