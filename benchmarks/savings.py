"""Asks 1,000 questions about 150 distinct records of three real kinds, each with noise of its own, and counts what was paid.

    python benchmarks/savings.py [--save] [--quick]

Entries of systemd's journal, of HTTP archives (HAR) and of git's log (made by git itself, as often as it takes), as in
tests/kit/structures.py; one operation with the default rules and nothing else. The provider's own count is the witness. Then 300
pairs whose noise differs and besides one thing that means something: none may count as equal.
"""

import contextlib
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, Disturbance, median, pinned
from rig.scene import configuration, daemon, start_simulator
from structures import noisy_inputs, pairs_that_differ

import aiorch

CALLERS = 4
DISTINCT = 150
OPERATION = """
[operations.read]
template = "Say in one sentence what this record tells:\\n{{ input | tojson }}"
"""


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    requests = 300 if chosen.quick else 1000
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        inputs = noisy_inputs(folder, distinct=DISTINCT, requests=requests, seed=1)
        pairs = pairs_that_differ(folder, count=300, seed=2)
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator("[[models]]\nlatency_s = 0.02\n"))
        with pinned(UNDER_TEST):
            running = stack.enter_context(daemon(folder, configuration(simulator.base_url, more=OPERATION)))
        watch = Disturbance([running.pid, simulator.pid])
        with pinned(LOAD):
            told = _ask_all(str(running.socket), inputs)
            with aiorch.Client(str(running.socket)) as client:
                merged = [pair for pair in pairs if client.cache_explain("read", *pair)["equal"] is not None]
                saved = client.stats()["saved_calls"]
        paid = simulator.stats()["calls"]["received"]
        disturbed = watch.share()
    answers: dict[str, set[str]] = {}
    for what, text, _, _ in told:
        answers.setdefault(what, set()).add(text)
    crossed = sum(len(texts) > 1 for texts in answers.values())
    hits = sorted(took for _, _, how, took in told if how == "normalised")
    publish(
        "savings",
        [
            Figure(
                f"provider calls for {requests:,} requests about {DISTINCT} distinct records with noise, default rules only",
                paid,
                "calls",
                bar=DISTINCT,
                beside=", ".join(f"{count} {how}" for how, count in Counter(how for *_, how, _ in told).most_common())
                + f"; {crossed} records with more than one answer",
                details={"saved": saved},
            ),
            Figure("pairs that differ in meaning, counted as equal", len(merged), f"of {len(pairs)}", bar=0),
            Figure("a normalised hit, client to client, p50", median(hits) * 1e3, "ms"),
        ],
        disturbed=[disturbed],
        save=chosen.save,
    )
    assert paid == DISTINCT, paid
    assert not merged, merged[0]
    assert not crossed, answers


def _ask_all(socket: str, inputs: list) -> list[tuple[str, str, str, float]]:
    told: list[tuple[str, str, str, float]] = []
    waiting = iter(inputs)
    turn = threading.Lock()

    def ask() -> None:
        with aiorch.Client(socket) as client:
            while True:
                with turn:
                    item = next(waiting, None)
                if item is None:
                    return
                began = time.perf_counter()
                reply = client.complete(operation="read", input=item[1])
                told.append((item[0], reply.text, reply.cache, time.perf_counter() - began))

    threads = [threading.Thread(target=ask) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == len(inputs)
    return told


if __name__ == "__main__":
    main()
