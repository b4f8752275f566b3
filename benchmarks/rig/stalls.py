"""Whether the loop of a daemon stands still: seen by a caller who asks for one answer from memory over and over.

The caller is a process of its own that comes before others on its CPU, where that is allowed: else it would wait for the other
callers and the provider, who share that CPU, and for Python's lock in a process with others. How much later than it wished
it got its CPU back from each of its short sleeps is kept beside: what it waits for an answer has the same on top.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiorch
from rig.meters import LOAD, pinned, quantile

_PAUSE_S = 0.0005


class Waits(list[float]):
    """How many seconds each of many answers took, one after the other; filled at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[float] = []
        """How much later than wished the caller itself woke up each time."""

    def told(self) -> str:
        """Say how late the caller itself was."""
        late = sorted(self.late)
        return f"its caller's own CPU came {quantile(late, 0.999) * 1e3:.1f} and {late[-1] * 1e3:.1f} ms late"


@contextlib.contextmanager
def stalls(path: Path | str, prompt: str) -> Iterator[Waits]:
    """Ask while the block lasts; a daemon that is not there yet is waited for."""
    seen = Waits()
    with pinned(LOAD):
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(path), prompt],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # it is ready to ask
    try:
        yield seen
    finally:
        said, _ = process.communicate("\n")
        waits, seen.late = json.loads(said)
        seen += waits


def ask(path: str, prompt: str) -> tuple[list[float], list[float]]:
    """Ask until a line comes on the standard input."""
    waits: list[float] = []
    late: list[float] = []
    os.set_blocking(0, False)
    with aiorch.Client(path) as client:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not _over():
            try:
                client.complete(prompt)
                break
            except aiorch.AiorchError:
                time.sleep(0.001)
        while not _over():
            began = time.perf_counter()
            client.complete(prompt)
            ended = time.perf_counter()
            time.sleep(_PAUSE_S)
            waits.append(ended - began)
            late.append(time.perf_counter() - ended - _PAUSE_S)
    return waits, late


def _over() -> bool:
    try:
        return os.read(0, 1) is not None
    except BlockingIOError:
        return False


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    json.dump(ask(*sys.argv[1:]), sys.stdout)
