"""A process that gets only part of a CPU, whatever it wants: a small machine, a busy neighbour, a tracing debugger."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PERIOD_US: Final = 10_000
"""Short, so that being starved means being slow, and not standing still for a tenth of a second at a time."""
_MOST_SHARES: Final = 262_144
_MOST_WEIGHT: Final = 10_000
"""What the kernel takes at most: what the quota leaves is had when it is wanted, whatever others want of that CPU."""
_V1: Final = Path("/sys/fs/cgroup/cpu")
_V2: Final = Path("/sys/fs/cgroup")
_STOPPER: Final = """
import os, signal, sys, time
pid, share, period_s = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
try:
    os.setpriority(os.PRIO_PROCESS, 0, -20)
except OSError:
    pass
while os.getppid() != 1:
    os.kill(pid, signal.SIGCONT)
    time.sleep(share * period_s)
    os.kill(pid, signal.SIGSTOP)
    time.sleep((1 - share) * period_s)
"""


@contextmanager
def starved(pid: int, share: float) -> Iterator[str]:
    """Leave the process, all its threads together, ``share`` of one CPU; gives how, in words. By a quota of the kernel where
    one can be set (cgroups, as root), else by stopping it again and again."""
    top = _V1 if _V1.is_dir() else _V2
    group = top / f"aiorch-bench-{os.getpid()}"
    quota_us = int(share * _PERIOD_US)
    try:
        group.mkdir()
        if top is _V1:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
            (group / "cpu.shares").write_text(str(_MOST_SHARES))
        else:
            (group / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
            (group / "cpu.weight").write_text(str(_MOST_WEIGHT))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        if group.is_dir():
            group.rmdir()
        with _stopped_by_turns(pid, share):
            yield f"{share:.0%} of the time, by SIGSTOP"
        return
    try:
        yield f"a quota of {share:.0%} of one CPU"
    finally:
        (top / "cgroup.procs").write_text(str(pid))
        group.rmdir()


@contextmanager
def _stopped_by_turns(pid: int, share: float) -> Iterator[None]:
    arguments = [str(pid), str(share), str(_PERIOD_US / 1e6)]
    stopper = subprocess.Popen([sys.executable, "-c", _STOPPER, *arguments])
    try:
        yield
    finally:
        stopper.kill()
        stopper.wait()
        os.kill(pid, signal.SIGCONT)
