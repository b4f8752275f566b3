"""Answers to nearly equal questions: how many calls they save, how many are wrong, and what looking for them costs.

    python benchmarks/semantic.py [--data PATH] [--save] [--quick] [--questions N]

The stream is CLINC150 (Larson et al., "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction", EMNLP 2019;
https://github.com/clinc/oos-eval, file data/data_full.json, licence CC BY 3.0): 23 700 questions of crowd workers, each with its
intent. `--data` names the file, plain or gzipped; without it the sample in tests/data/intents is used, which is too small for
the bars and says so. The questions come in a random order (seed 1) through a real daemon with a target of 2 %; the simulator
answers the intent, and a question that is out of scope has an answer of its own. A semantic answer is wrong when it is not
what the simulator would have answered. Beside it, on the same stream: what a static threshold of 0.90 on the same vectors gives.

Then look-alikes in a scope of their own (another system prompt), with what was learned: 200 base questions are asked first, then
200 adversarial and 200 paraphrases in turn, made by the rules of rig/lookalikes.py; none has the answer of its base but a
paraphrase. The same again in the scope of the stream, where other questions than the base are near: shown without a bar,
since some of them rightly answer what was made.

Last, what a lookup costs: embedding, search, comparison, decision, in this process.
"""

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import trio
from rig import ROOT
from rig.figures import Figure, options, publish
from rig.lookalikes import adversarial, paraphrases
from rig.meters import median
from rig.scene import configuration, daemon, start_simulator

import aiorch

SAMPLE = ROOT / "tests" / "data" / "intents" / "clinc150_sample.json"
SECTION = """
[cache]
max_entries = 100000
ttl_s = 86400

[cache.semantic]
enabled = true
target_error_rate = 0.02
"""
STREAM, ALONE = "Say the intent of the question, and nothing else.", "Answer the question."
WORKERS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=SAMPLE, help="CLINC150 as data_full.json or data_full.json.gz")
    parser.add_argument("--questions", type=int, default=0, help="so many of them only")


def read(path: Path) -> list[tuple[str, str]]:
    """Give the questions in the order of the stream, each with its right answer."""
    packed = path.read_bytes()
    parts = json.loads(gzip.decompress(packed) if path.suffix == ".gz" else packed)
    items = [(text, intent) for part in parts.values() for text, intent in part]
    random.Random(1).shuffle(items)
    return [(text, f"none of these ({text})" if intent == "oos" else intent) for text, intent in items]


async def ask_all(client: aiorch.AsyncClient, system: str, questions: list[str]) -> list[aiorch.Reply]:
    """Ask in order, some at a time."""
    replies: list = [None] * len(questions)
    numbers = iter(range(len(questions)))

    async def worker() -> None:
        for number in numbers:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": questions[number]}]
            replies[number] = await client.complete(messages=messages)

    async with trio.open_nursery() as nursery:
        for _ in range(WORKERS):
            nursery.start_soon(worker)
    return replies


def static(questions: list[tuple[str, str]], threshold: float) -> tuple[float, float]:
    """Give the hit rate of a fixed threshold on the same vectors, and the share of wrong hits."""
    from aiorchd.likeness.arrays import open_arrays

    arrays = open_arrays()
    index, known, kept = arrays.nearest(), {}, set()
    hits = wrong = 0
    for number, (text, answer) in enumerate(questions):
        vector = arrays.vector(text)
        if vector is None or text in kept:
            continue
        found = index.search(vector, 1)
        if found and found[0][1] >= threshold:
            hits += 1
            wrong += known[found[0][0]] != answer
        else:
            index.add(number, vector)
            known[number] = answer
            kept.add(text)
    return hits / len(questions), wrong / max(1, hits)


def lookup_cost(entries: int) -> dict[str, float]:
    """Give the milliseconds of a lookup among so many."""
    from aiorchd.config.schema import SemanticCache
    from aiorchd.likeness.arrays import open_arrays
    from aiorchd.runtime.semantic_memory import SemanticMemory

    arrays = open_arrays()
    words = "balance card weather flight hotel song alarm recipe bank rate travel plug visa tire oil meeting calendar".split()
    rng = random.Random(3)
    texts = [" ".join(rng.choices(words, k=6)) + f" {rng.randrange(10**6)}" for _ in range(entries + 1000)]
    log = SimpleNamespace(warning=lambda *_, **__: None, info=lambda *_, **__: None)
    memory = SemanticMemory(
        SemanticCache(enabled=True, max_entries=entries),
        open_arrays=lambda: arrays,
        store=None,
        chance=rng.random,
        log=log,
    )
    took: list[float] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.run)
            while not memory.ready:
                await trio.sleep(0.01)
            for number, text in enumerate(texts[:entries]):
                thought = memory.think(b"scope", text)
                assert thought is not None
                memory.keep(thought, key=number.to_bytes(8), mark=b"m", source_id="s", uid=1)
                if number % 50 == 0:
                    await trio.lowlevel.checkpoint()
            while any(index.wants_graph or index.growing for index in memory.indexes()):
                await trio.sleep(0.1)
            for text in texts[entries:]:
                began = time.perf_counter()
                memory.think(b"scope", text)
                took.append((time.perf_counter() - began) * 1e3)
                await trio.sleep(0)
            nursery.cancel_scope.cancel()

    trio.run(run)
    took.sort()
    return {"p50": median(took), "p99": took[int(len(took) * 0.99)], "worst": took[-1]}


def main() -> None:
    chosen = options(__doc__.splitlines()[0], add_arguments)
    questions = read(chosen.data)
    limit = chosen.questions or (3000 if chosen.quick else len(questions))
    questions = questions[:limit]
    right = dict(questions)
    texts = [text for text, _ in questions]
    adverse = adversarial(list(right), 200, seed=5)
    bases = {one.base for one in adverse}
    friendly = paraphrases([text for text in right if text not in bases], 200, seed=5)
    rows = [{"model": "small", "prompt": text, "answer": answer} for text, answer in right.items()]
    rows += [{"model": "small", "prompt": one.text, "answer": f"another answer to {one.text}"} for one in adverse]
    rows += [{"model": "small", "prompt": one.text, "answer": right[one.base]} for one in friendly]
    with tempfile.TemporaryDirectory(prefix="aiorch-semantic-") as name:
        folder = Path(name)
        (folder / "replay.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with start_simulator(f'[sim]\nreplay = "{folder}/replay.jsonl"\n[[models]]\nlatency_s = 0\n') as simulator:
            with daemon(folder, configuration(simulator.base_url, more=SECTION)) as running:

                async def stream() -> tuple:
                    async with aiorch.AsyncClient(str(running.socket), timeout_s=120) as client:
                        while (await client.status())["semantic"]["why"] == "still loading":
                            await trio.sleep(0.05)
                        began = time.monotonic()
                        got = await ask_all(client, STREAM, texts)
                        took = time.monotonic() - began
                        learned = (await client.cache_stats())["semantic"]
                        asked = simulator.stats()["calls"]["answered"]
                        await ask_all(client, ALONE, [one.base for one in (*adverse, *friendly)])
                        mixed = [one.text for pair in zip(adverse, friendly, strict=True) for one in pair]
                        alone = await ask_all(client, ALONE, mixed)
                        among = await ask_all(client, STREAM, mixed)
                        return got, took, learned, asked, alone, among

                got, took, learned, asked, alone, among = trio.run(stream)
    semantic = [(reply, right[text]) for reply, text in zip(got, texts, strict=True) if reply.cache == "semantic"]
    wrong = sum(reply.text != answer for reply, answer in semantic)
    hit_rate, wrong_rate = len(semantic) / len(texts), wrong / max(1, len(semantic))
    static_hits, static_wrong = static(questions, 0.90)
    served = [[reply.cache == "semantic" for reply in replies] for replies in (alone, among)]
    rules = Counter(one.rule for one, hit in zip(adverse, served[0][::2], strict=True) if hit)
    made = Counter(one.rule for one in adverse)
    whole = chosen.data != SAMPLE and not chosen.quick and not chosen.questions
    in_stream = [100 * sum(served[1][first::2]) / 200 for first in (0, 1)]
    low, rate, high = (100 * (learned[name] or 0) for name in ("error_low", "error_rate", "error_high"))
    beside = (
        f"{len(texts)} questions, {asked} calls to the provider, {took:.0f} s; measured by itself {rate:.2f} % "
        f"({low:.2f} to {high:.2f} %) of {learned['checked']} checks"
    )
    figures = [
        Figure("CLINC150 stream, target 2 %: semantic hits", 100 * hit_rate, "%", 35 if whole else None, True, beside),
        Figure(
            "the same: of the hits wrong",
            100 * wrong_rate,
            "%",
            2 if whole else None,
            beside=f"static threshold 0.90, same vectors: {100 * static_hits:.1f} % hits, {100 * static_wrong:.1f} % wrong",
        ),
        Figure(
            "200 adversarial look-alikes after that: given an answer",
            100 * sum(served[0][::2]) / len(adverse),
            "%",
            1 if whole else None,
            beside=f"made {dict(made)}, served {dict(rules)}; in the scope of the stream {in_stream[0]:.1f} %",
        ),
        Figure(
            "200 paraphrases in turn with them: given an answer",
            100 * sum(served[0][1::2]) / len(friendly),
            "%",
            30 if whole else None,
            True,
            beside=f"in the scope of the stream {in_stream[1]:.1f} %",
        ),
    ]
    for entries, bar in ((10_000, 1.0), (100_000, 2.0)):
        if chosen.quick and entries > 10_000:
            continue
        cost = lookup_cost(entries)
        figures.append(
            Figure(
                f"semantic lookup among {entries} questions, p50",
                cost["p50"],
                "ms",
                bar,
                beside=f"p99 {cost['p99']:.2f} ms, worst {cost['worst']:.2f} ms",
                details=cost,
            )
        )
    publish("semantic", figures, disturbed=[], save=chosen.save)


if __name__ == "__main__":
    sys.exit(main())
