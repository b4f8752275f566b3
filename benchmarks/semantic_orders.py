"""Answers to nearly equal questions in orders and streams that nothing was tuned on: how many are given, how many are wrong.

    python benchmarks/semantic_orders.py --data data_full.json.gz [--rare FILE.jsonl.gz]... [--seeds 4] [--save] [--quick]

benchmarks/semantic.py shows one order of CLINC150 through a real daemon. Here the part that decides
(runtime/semantic_memory.py, core/semantic_model.py, core/hit_threshold.py) runs in this process, a question after the other,
without a daemon, cache or provider: what is measured is its decisions and not their speed. Streams, each with several seeds,
which also decide what is checked:

orders      all questions of CLINC150, shuffled
half        the questions of a random half of its 150 intents, shuffled
news        the questions of one half of the intents, then those of the other
rare        questions that hardly ever repeat (`--rare`, JSON lines with a "question", as MMLU-Pro and ZeroEval have): any answer
            that is given is wrong
mixed       6,000 of those among 8,000 of CLINC150
then rare   10,000 of CLINC150, then the rare ones
"""

import argparse
import gzip
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import trio
from rig.figures import Figure, options, publish
from rig.meters import Disturbance
from semantic import SAMPLE

from aiorchd.config.schema import SemanticCache
from aiorchd.core.answer_likeness import answer_mark
from aiorchd.likeness.arrays import open_arrays
from aiorchd.runtime.semantic_memory import SemanticMemory

Item = tuple[str, str]
"""A question and its answer."""
TARGETS = (0.02, 0.01)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=SAMPLE, help="CLINC150 as data_full.json or data_full.json.gz")
    parser.add_argument(
        "--rare", type=Path, action="append", default=[], help="JSON lines with questions that hardly repeat"
    )
    parser.add_argument("--seeds", type=int, default=4)


def packed(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def shuffled(items: list[Item], seed: int) -> list[Item]:
    items = items.copy()
    random.Random(seed).shuffle(items)
    return items


def halves(items: list[Item], seed: int) -> tuple[list[Item], list[Item]]:
    """The questions of half of the intents, and the others."""
    names = sorted({intent for _, intent in items} - {"oos"})
    chosen = set(shuffled([(name, "") for name in names], 1000 + seed)[: len(names) // 2])
    first = {name for name, _ in chosen}
    return [item for item in items if item[1] in first], [item for item in items if item[1] not in first]


def streams(clinc: list[Item], rare: list[Item], seed: int) -> dict[str, list[Item]]:
    some, others = halves(clinc, seed)
    made = {
        "orders": shuffled(clinc, seed),
        "half": shuffled(some, seed),
        "news": shuffled(some, seed) + shuffled(others, seed),
    }
    if rare:
        made["rare"] = shuffled(rare, seed)
        made["mixed"] = shuffled(shuffled(clinc, seed)[:8000] + made["rare"][:6000], seed)
        made["then rare"] = shuffled(clinc, seed)[:10_000] + made["rare"]
    return made


class Vectors:
    """The arrays of the daemon, which remember the vectors of texts."""

    def __init__(self) -> None:
        self._arrays = open_arrays()
        self._known: dict[str, bytes | None] = {}

    def __getattr__(self, name: str):
        return getattr(self._arrays, name)

    def vector(self, text: str) -> bytes | None:
        if text not in self._known:
            self._known[text] = self._arrays.vector(text)
        return self._known[text]


def decide(vectors: Vectors, items: list[Item], target: float, seed: int) -> SimpleNamespace:
    """Put a stream through: how many questions were answered, how many of these wrongly, and how it sees itself."""
    log = SimpleNamespace(warning=lambda *_, **__: None, info=lambda *_, **__: None)
    memory = SemanticMemory(
        SemanticCache(enabled=True, target_error_rate=target, max_entries=100_000),
        open_arrays=lambda _bundled: vectors,
        store=None,
        chance=random.Random(seed).random,
        log=log,
    )
    hits = wrong = first = 0
    kept: set[str] = set()

    async def run() -> None:
        nonlocal hits, wrong, first
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.run)
            while not memory.ready:
                await trio.sleep(0.01)
            for number, (text, intent) in enumerate(items):
                vector = None if text in kept else vectors.vector(text)
                thought = None if vector is None else await memory.think(b"scope", text, vector)
                if thought is None:
                    continue
                answer = f"none of these ({text})" if intent == "oos" else intent
                mark = answer_mark(answer, None, ())[0]
                if thought.serve:
                    hits, first = hits + 1, first or number
                    wrong += thought.nearest.mark != mark
                    memory.served(str(number), 1, thought, number.to_bytes(4))
                    continue
                kept.add(text)
                memory.keep(thought, key=number.to_bytes(24), mark=mark, source_id=str(number), uid=1)
                if thought.nearest is not None:
                    memory.learn(thought, right=thought.nearest.mark == mark)
                await trio.sleep(0)
            nursery.cancel_scope.cancel()

    trio.run(run)
    told = memory.statistics()
    return SimpleNamespace(
        hits=hits / len(items),
        wrong=wrong / hits if hits else 0.0,
        given=hits,
        first=first,
        told=told,
        questions=len(items),
    )


def main() -> None:
    chosen = options(__doc__.splitlines()[0], add_arguments)
    clinc = [(text, intent) for part in json.loads(packed(chosen.data)).values() for text, intent in part]
    rare = list(
        dict.fromkeys(
            (question, f"of its own ({question})")
            for path in chosen.rare
            for question in (json.loads(line)["question"] for line in packed(path).splitlines())
        )
    )
    whole = chosen.data != SAMPLE and not chosen.quick
    vectors = Vectors()
    figures: list[Figure] = []
    watch = Disturbance([])
    seeds = range(21, 21 + (1 if chosen.quick else chosen.seeds))
    for target in TARGETS:
        came: dict[str, list[SimpleNamespace]] = {}
        for seed in seeds:
            for name, items in streams(clinc, rare, seed).items():
                if name != "orders" and seed >= seeds[0] + 2:
                    continue  # the others with two seeds each
                came.setdefault(name, []).append(decide(vectors, items, target, seed))
                one = came[name][-1]
                print(
                    f"{name}, seed {seed}, target {target:.0%}: {one.hits:.1%} hits, {one.wrong:.2%} wrong", flush=True
                )
        for name, results in came.items():
            figures += rows(name, target, results, whole=whole)
    publish("semantic_orders", figures, disturbed=[watch.share()], save=chosen.save)


def rows(name: str, target: float, results: list[SimpleNamespace], *, whole: bool) -> list[Figure]:
    """The worst of the seeds against the bars, all of them beside."""
    each = "; ".join(f"{100 * one.hits:.1f} %, {100 * one.wrong:.2f} % wrong" for one in results)
    questions = results[0].questions
    label = f"decisions in process, {name}, target {target:.0%}"
    if name == "rare":
        most = max(one.given for one in results)
        return [Figure(f"{label}: answers given, all of them wrong", most, f"of {questions}", bar=target * questions)]
    wrong = max(one.wrong for one in results)
    found = min(one.hits for one in results)
    asked = 35 if name == "orders" and target == 0.02 and whole else None
    return [
        Figure(f"{label}: fewest hits of {len(results)} seeds", 100 * found, "%", asked, at_least=True, beside=each),
        Figure(
            f"{label}: most of the hits wrong",
            100 * wrong,
            "%",
            100 * target if whole else None,
            beside=f"{questions} questions; the first answer was given at the "
            + ", ".join(f"{one.first}th" for one in results),
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
