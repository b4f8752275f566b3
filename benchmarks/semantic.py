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

Last, what a lookup adds to a miss, seen by a caller: two daemons on the same CPU are asked the same new questions in turn, one
with the semantic cache and so many kept questions in the scope, one without. The questions are made of halves of two of the
stream's. "Added" is the median of one less that of the other, with everything that belongs to it: embedding, search,
comparison, decision, putting the new question in, and the label that its answer makes. Then, in rounds, another caller asks
each daemon in turn for one answer from memory, over and over, during half so many misses: how long that takes at worst is
how long the loop stood still, or the machine; what the daemon without a semantic cache shows is the machine. Medians of the
rounds count. The same is watched while the kept questions are loaded at the start.
"""

import argparse
import contextlib
import gzip
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import trio
from rig import ROOT
from rig.figures import Figure, options, publish
from rig.lookalikes import adversarial, paraphrases
from rig.meters import LOAD, UNDER_TEST, cpu_s, median, pinned, quantile
from rig.scene import configuration, daemon, start_simulator
from rig.stalls import Waits, stalls

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
ROUNDS = 5


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
    index, known, kept = None, {}, set()
    hits = wrong = 0
    for number, (text, answer) in enumerate(questions):
        vector = arrays.vector(text)
        if vector is None or text in kept:
            continue
        if index is None:
            index = arrays.nearest(len(vector) // 4)
        found = index.search(vector, 1)
        if found and found[0][1] >= threshold:
            hits += 1
            wrong += known[found[0][0]] != answer
        else:
            index.add(number, vector)
            known[number] = answer
            kept.add(text)
    return hits / len(questions), wrong / max(1, hits)


def made_of_halves(questions: list[str], count: int) -> list[str]:
    """Make so many questions that are not alike in all and use the words of real ones."""
    rng = random.Random(3)
    halves = [text.split() for text in questions]
    assert 3 * count <= len(set(questions)) ** 2, f"{len(questions)} questions have too few halves for {count}"
    made: dict[str, None] = {}
    while len(made) < count:
        first, second = rng.choices(halves, k=2)
        made[" ".join(first[: -(-len(first) // 2)] + second[len(second) // 2 :])] = None
    return list(made)


def lookup_cost(questions: list[str], entries: int, misses: int) -> tuple[dict[str, float], str]:
    """Give the milliseconds that a lookup among so many adds to a miss, how long others waited at worst, and how late the one
    who measured that was itself."""
    texts = made_of_halves(questions, entries + misses + ROUNDS * (misses // 2))
    known, new = texts[:entries], texts[entries:]
    cache = f"[cache]\nmax_entries = {4 * misses}\n[cache.semantic]\nmax_entries = {entries + 4 * misses}\nenabled = "
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-semantic-")))
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator("[[models]]\nlatency_s = 0\n"))
        daemons = []
        with pinned(UNDER_TEST):
            for name, enabled in (("with", "true"), ("without", "false")):
                (folder / name).mkdir()
                text = configuration(simulator.base_url, more=cache + enabled + "\n")
                daemons.append(stack.enter_context(daemon(folder / name, text)))
        one, _ = daemons
        with aiorch.Client(one.socket) as client:
            loaded(client)
            ask(client, known[0])
        assert one.stop() == 0
        fill(one.state / "cache.db", known)
        with contextlib.ExitStack() as clients:
            first, second = (clients.enter_context(aiorch.Client(each.socket)) for each in daemons)
            with stalls(one.socket, "Is anybody there?") as loading:
                with pinned(UNDER_TEST):
                    one.start()
                loaded(first)
            kept = first.cache_stats()["semantic"]["entries"]
            assert kept >= entries, kept
            took: list[list[float]] = [[], []]
            cpu_ms = [0.0, 0.0]
            for text in new[:misses]:
                for place, client in enumerate((first, second)):
                    cpu, began = cpu_s(daemons[place].pid), time.perf_counter()
                    ask(client, text)
                    took[place].append((time.perf_counter() - began) * 1e3)
                    cpu_ms[place] += (cpu_s(daemons[place].pid) - cpu) * 1e3 / misses
            watched: list[list[Waits]] = [[], []]
            for start in range(misses, len(new), misses // 2):
                for place, client in enumerate((first, second)):
                    with stalls(daemons[place].socket, "Is anybody there?") as seen:
                        for text in new[start : start + misses // 2]:
                            ask(client, text)
                    watched[place].append(seen)
            busy, idle = watched
            learned = first.cache_stats()["semantic"]
            assert learned["lookups"] >= len(new), learned
            assert learned["labels"] > len(new) / 2, learned
        for each in daemons:
            assert each.stop() == 0, each.said()
    added = sorted(a - b for a, b in zip(*took, strict=True))
    waits = {}
    for what, rounds in (("loading", [loading]), ("with", busy), ("without", idle)):
        for name, share in (("p99.9", 0.999), ("worst", 1.0)):
            waits[f"{what} {name}"] = 1e3 * median(quantile(sorted(seen), share) for seen in rounds)
        waits[f"{what} longest"] = 1e3 * max(map(max, rounds))
    costs = {
        "p50": median(took[0]) - median(took[1]),
        "p50 of pairs": median(added),
        "miss without": median(took[1]),
        "cpu": cpu_ms[0] - cpu_ms[1],
        "p99 with": quantile(sorted(took[0]), 0.99),
        "p99 without": quantile(sorted(took[1]), 0.99),
        **waits,
    }
    slowest = max(busy, key=max)
    return costs, slowest.told()


def ask(client: aiorch.Client, text: str) -> None:
    client.complete(messages=[{"role": "system", "content": "Repeat."}, {"role": "user", "content": text}])


def loaded(client: aiorch.Client) -> None:
    while client.status()["semantic"]["why"] == "still loading":
        time.sleep(0.05)


def fill(path: Path, texts: list[str]) -> None:
    """Put questions in, as if each had been asked in the scope of the one that is there."""
    from aiorchd.core.text_sketch import sketch
    from aiorchd.likeness.arrays import open_arrays

    arrays = open_arrays()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        ((scope, mark, uid),) = connection.execute("SELECT scope, mark, uid FROM semantic_entries")
        for number, text in enumerate(texts):
            words = sketch(text)
            assert words is not None
            row = (number.to_bytes(33), scope, mark, "c", uid, 0, 0, words.to_bytes(), arrays.vector(text))
            connection.execute(
                "INSERT INTO semantic_entries (key, scope, mark, source_id, uid, right, wrong, sketch, vector) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )


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
        cost, told = lookup_cost(texts, entries, 200 if chosen.quick else 1000)
        figures.append(
            Figure(
                f"semantic lookup among {entries:,} questions, added to a miss through the daemon, p50",
                cost["p50"],
                "ms",
                bar,
                beside=f"a miss without {cost['miss without']:.2f} ms, so {cost['p50'] / cost['miss without']:.2f} times that; "
                f"CPU of the daemon {cost['cpu']:.2f} ms more; "
                f"p99 {cost['p99 with']:.1f} and {cost['p99 without']:.1f} ms",
                details=cost,
            )
        )
        figures.append(
            Figure(
                f"the same: an answer from memory meanwhile, p99.9, median of {ROUNDS} rounds",
                cost["with p99.9"],
                "ms",
                5.0,
                beside=f"without a semantic cache {cost['without p99.9']:.1f} ms; longest of all {cost['with longest']:.1f} and "
                f"{cost['without longest']:.1f} ms; while they are loaded {cost['loading p99.9']:.1f} and "
                f"{cost['loading longest']:.1f} ms; in the round with the longest {told}",
            )
        )
    publish("semantic", figures, disturbed=[], save=chosen.save)


if __name__ == "__main__":
    sys.exit(main())
