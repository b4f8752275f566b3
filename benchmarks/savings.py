"""What is not paid for: records that differ only in noise, and questions that are asked together.

    python benchmarks/savings.py [--save] [--quick] [--only noise,bursts,weak,lone]

Noise: 1,000 questions about 150 distinct records of three real kinds, each with noise of its own: entries of systemd's
journal, of HTTP archives (HAR) and of git's log (made by git itself, as often as it takes), as in tests/kit/structures.py; one
operation with the default rules and nothing else. The provider's own count is the witness. Then 300 pairs whose noise differs and
besides one thing that means something: none may count as equal.

Together: rig/batching.py has what is asked, rig/batched_figures.py how. Bursts of different questions with batching on at its
defaults and off; models that the simulator makes worse in batches, and a good one; a lone question now and then.
"""

import argparse
import contextlib
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from rig.batched_figures import lone_questions, saved_by_bursts, weak_models
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


PARTS = ("noise", "bursts", "weak", "lone")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated: " + ", ".join(PARTS))


def main() -> None:
    chosen = options(__doc__.splitlines()[0], add_arguments)
    parts = chosen.only.split(",")
    figures, disturbed = [], []
    if "noise" in parts:
        found, took = noisy(300 if chosen.quick else 1000)
        figures, disturbed = figures + found, disturbed + took
    if "bursts" in parts:
        found, took = saved_by_bursts(120 if chosen.quick else 500, range(1, 2 if chosen.quick else 4))
        figures, disturbed = figures + found, disturbed + took
    if "weak" in parts:
        found, took = weak_models(300 if chosen.quick else 900, range(1, 2 if chosen.quick else 4))
        figures, disturbed = figures + found, disturbed + took
    if "lone" in parts:
        figures += lone_questions(10 if chosen.quick else 40)
    publish("savings", figures, disturbed=disturbed, save=chosen.save)


def noisy(requests: int) -> tuple[list[Figure], list[float]]:
    """Records with noise."""
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
    assert paid == DISTINCT, paid
    assert not merged, merged[0]
    assert not crossed, answers
    return (
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
        [disturbed],
    )


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
