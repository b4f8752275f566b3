"""One host process of the demonstration: a worker of a web application with a few threads that tags pages.

``python -m aiorchctl.demo.host TASK`` with the task as JSON. It says ``ready`` on standard output, waits for a line on
standard input, so that all begin together, then tells its progress in lines of JSON and writes every answer to a file.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from aiorchctl.demo.asking import Asking, NotAnswered, PlainHttp, ThroughDaemon, Told
from aiorchctl.demo.pages import read_pages
from aiorchctl.demo.tether import die_with_parent

_TELL_EVERY_S: Final = 0.1
INSTRUCTION: Final = "Give three tags for this page:\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one host process has to do. ``socket`` is the daemon's; None asks the provider directly."""

    parent_pid: int
    seed: int
    calls: int
    threads: int
    pages: str
    answers: str
    host: str
    port: int
    socket: str | None = None

    def to_json(self) -> str:
        """Write it as the program's argument."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Answered:
    """One call: its place in the order drawn, the page, what came, and how long it took."""

    number: int
    page: int
    told: Told
    seconds: float


def draw(seed: int, calls: int, pages: int) -> list[int]:
    """Draw pages at random, with repetition, as visitors do; equal for equal seeds."""
    return random.Random(seed).choices(range(pages), k=calls)


class Host:
    """Threads that share a list of pages to tag."""

    def __init__(self, asking: Asking, pages: list[str], drawn: list[int], threads: int) -> None:
        self._asking = asking
        self._pages = pages
        self._drawn = drawn
        self._lock = threading.Lock()
        self._next = 0
        self.answered: list[Answered] = []
        self.refused = 0
        self.failure: str | None = None
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def run(self, tell: Any) -> None:
        """Answer everything, telling (calls answered, 429s met) now and then."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_TELL_EVERY_S)
                tell(len(self.answered), self.refused)

    def _work(self) -> None:
        while self.failure is None:
            with self._lock:
                number = self._next
                self._next += 1
            if number >= len(self._drawn):
                return
            page = self._drawn[number]
            began = time.perf_counter()
            try:
                told = self._asking.ask(INSTRUCTION + self._pages[page])
            except NotAnswered as error:
                self.failure = str(error)
                return
            took = time.perf_counter() - began
            with self._lock:
                self.answered.append(Answered(number, page, told, took))
                self.refused += told.refused


def main(task: Task) -> int:
    """Do the task; the exit code."""
    die_with_parent(task.parent_pid, signal.SIGKILL)
    pages = [page.text for page in read_pages(Path(task.pages))]
    drawn = draw(task.seed, task.calls, len(pages))
    asking: Asking = PlainHttp(task.host, task.port, task.seed) if task.socket is None else ThroughDaemon(task.socket)
    host = Host(asking, pages, drawn, task.threads)
    _say({"ready": True})
    if not sys.stdin.readline():
        return os.EX_UNAVAILABLE
    host.run(lambda answered, refused: _say({"answered": answered, "refused": refused}))
    rows = [asdict(replace(answered)) for answered in host.answered]
    Path(task.answers).write_text(json.dumps(rows), encoding="utf-8")
    _say({"finished": True, "answered": len(rows), "refused": host.refused, "failure": host.failure})
    asking.close()
    return os.EX_OK if host.failure is None else os.EX_SOFTWARE


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Task(**json.loads(sys.argv[1]))))
