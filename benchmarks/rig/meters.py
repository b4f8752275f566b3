"""Reading clocks and /proc: CPU and memory of processes, which CPU they run on, and how much others disturbed a run.

Discipline of every script here. What is measured has a CPU of its own (0), load and provider have the other (1), unless
the claim says that they share one. Rivals take turns within one run, round by round, so that whatever else the machine
does meets all of them. A round that others disturbed is tried again; the table tells how much of one CPU others still
took. Medians over rounds are what counts, and ratios to a rival of the same round more than absolute figures.
"""

import atexit
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

CPUS: Final = sorted(os.sched_getaffinity(0))
UNDER_TEST: Final = {CPUS[0]}
LOAD: Final = {CPUS[-1]}

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all its threads, ended ones too: its CPU clock (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """Run the block, and every process started in it for all its life, on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, cpus: set[int]) -> None:
    """Put a running process, with all its threads, on these CPUs."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cpus)


def come_first() -> None:
    """Raise the priority of this process and of those it starts, where it is allowed: rivals gain alike.

    Linux weighs sessions against each other first (sched(7), autogroup), processes only within one; this one's session is
    given back what it had at the end.
    """
    session = Path("/proc/self/autogroup")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -15)
        before = session.read_text().rpartition("nice ")[2].strip()
        session.write_text("-15")
        atexit.register(session.write_text, before)
    except OSError:
        pass


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of an ordered sequence lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values: Iterable[float]) -> float:
    """Of the values there are."""
    return statistics.median(values)


class Disturbance:
    """How much of one CPU processes that are none of ours took since this was made; steal by a hypervisor included."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._began = time.perf_counter()
        self._busy = _busy_s()
        self._own = self._own_s()

    def share(self) -> float:
        """1.0 is one CPU wholly taken by others."""
        elapsed = time.perf_counter() - self._began
        return max(0.0, (_busy_s() - self._busy - (self._own_s() - self._own)) / elapsed)

    def _own_s(self) -> float:
        times = os.times()
        total = times.user + times.system + times.children_user + times.children_system
        return total + sum(cpu_s(pid) for pid in set(self._pids))


def undisturbed(
    run: Callable[[], dict[str, Any]],
    pids: Sequence[int],
    *,
    most: float = 0.1,
    tries: int = 3,
    patience_s: float = 20.0,
) -> dict[str, Any]:
    """Run when others are quiet, again when they were not; give the least disturbed result, with their share in it.

    Which result is kept depends on the disturbance alone, never on the figure.
    """
    best: dict[str, Any] | None = None
    until = time.perf_counter() + patience_s
    for _ in range(tries):
        while time.perf_counter() < until:
            look = Disturbance(pids)
            time.sleep(0.25)
            if look.share() < most:
                break
        watch = Disturbance(pids)
        row = run()
        row["disturbed"] = watch.share()
        if best is None or row["disturbed"] < best["disturbed"]:
            best = row
        if best["disturbed"] < most or time.perf_counter() > until:
            break
    assert best is not None
    return best


def _busy_s() -> float:
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS
