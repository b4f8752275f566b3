"""Whether the loop of a daemon stands still: seen by a caller who asks for one answer from memory over and over."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiorch


@contextlib.contextmanager
def stalls(path: Path, prompt: str) -> Iterator[list[float]]:
    """Collect how many seconds each of many answers from memory takes, one after the other."""
    seen: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with aiorch.Client(path) as client:
            client.complete(prompt)
            while not over.is_set():
                began = time.perf_counter()
                client.complete(prompt)
                seen.append(time.perf_counter() - began)
                time.sleep(0.0005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
