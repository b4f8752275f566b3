"""The rows of benchmarks/savings.py about questions that are asked together."""

import random
from statistics import mean, median
from typing import Any

import trio

import aiorch
from rig.batching import Told, alone, batching_of, house, operation, run, shape, tickets
from rig.figures import Figure
from rig.meters import LOAD, pinned

SIZES = (5, 12, 25, 40, 70)
"""Of bursts."""
LATENCY = (0.5, 0.004)
"""Seconds to the beginning of an answer, and for each token of it: a small, quick model."""
SLOW = (0.5, 0.012)
WEAK = {
    "a little from the start (1.5 % for each further item)": "batch_loss = 0.015\n",
    "beyond four (5 % for each further)": "batch_loss = 0.05\nbatch_unharmed = 4\n",
    "much from the start (6 % for each further)": "batch_loss = 0.06\n",
    "beyond six, swapping two answers in every fourth": (
        'batch_loss = 0.08\nbatch_unharmed = 6\nbatch_fault = "swaps_answers"\nbatch_fault_rate = 0.25\n'
    ),
}


def profile(latency: tuple[float, float], more: str = "") -> str:
    return f"[[models]]\nlatency_s = {latency[0]}\nlatency_per_output_token_s = {latency[1]}\n{more}"


def saved_by_bursts(questions: int, seeds: range) -> tuple[list[Figure], list[float]]:
    """The same tickets in the same bursts with batching on at its defaults, and off; then with a model that writes slower."""
    pairs: list[tuple[Told, Told]] = []
    for seed in seeds:
        asked = tickets(questions, seed)
        off, on = (run(profile(LATENCY), batch_size=size, asked=asked, sizes=SIZES, seed=seed) for size in (None, 10))
        pairs.append((off, on))
        print(f"seed {seed}: {on.calls} calls for {questions}, {on.tokens / off.tokens:.1%} of the tokens", flush=True)
    asked = tickets(questions, seeds[0])
    slow_off, slow_on = (
        run(profile(SLOW), batch_size=size, asked=asked, sizes=SIZES, seed=seeds[0]) for size in (None, 10)
    )
    off, on = max(pairs, key=lambda pair: pair[1].calls)
    foreign = sum(on.answers[ticket] != data for off, on in pairs for ticket, data in off.answers.items())
    told = on.simulator["batches"]
    ratios = [median(on.took_s) / median(off.took_s) for off, on in pairs]
    whole = questions == 500
    slower = (
        f"{SLOW[1] * 1e3:g} ms a token {median(slow_on.took_s) / median(slow_off.took_s):.2f} times "
        f"{median(slow_off.took_s):.2f} s"
    )
    beside = (
        f"{told['items']} in {told['calls']} prompts of {told['items'] / told['calls']:.1f}, {on.batching['checks']} of them "
        f"alone, too, {on.calls - told['calls'] - on.batching['checks']} alone for other reasons; seeds "
        + ", ".join(str(on.calls) for _, on in pairs)
    )
    return [
        Figure(
            f"{questions} different questions in bursts of {SIZES[0]} to {SIZES[-1]} over 4 connections, batching on at its "
            f"defaults: calls to the provider, most of {len(pairs)} seeds",
            max(on.calls for _, on in pairs),
            "calls",
            95 if whole else None,
            beside=beside,
            details={"sizes": told["sizes"], "batching": on.batching},
        ),
        Figure(
            "the same: answers that are not the question's own when it is asked alone",
            foreign,
            f"of {questions * len(pairs)}",
            0,
            beside="each answer names the order number of its ticket",
        ),
        Figure(
            "the same: tokens, of those of single calls",
            100 * max(on.tokens / off.tokens for off, on in pairs),
            "%",
            40 if whole else None,
            beside=f"{shape(list(on.answers), on)}; checks included; schemas cost the simulator nothing",
        ),
        Figure(
            "the same: p50 of an answer over that of single calls",
            max(ratios),
            "times",
            2.5 if whole else None,
            beside=f"single {median(off.took_s):.2f} s; {LATENCY[0]} s and {LATENCY[1] * 1e3:g} ms a token; with {slower}",
        ),
    ], [one.disturbed for pair in (*pairs, (slow_off, slow_on)) for one in pair]


def weak_models(questions: int, seeds: range) -> tuple[list[Figure], list[float]]:
    """Models that are worse in batches, and a good one: when it is seen, and where the size comes to rest."""
    figures, disturbed = [], []
    for what, more in {**WEAK, "nothing": ""}.items():
        ends = [_found(more, questions, seed) for seed in seeds]
        disturbed += [end["disturbed"] for end in ends]
        paths = "; ".join(" ".join(str(size) for size in end["path"]) for end in ends)
        lost = [100 * end["lost"] for end in ends]
        if not more:
            lowered = sum(end["lowered"] for end in ends)
            figures.append(
                Figure(
                    f"a model that loses nothing in batches, {questions} questions: times its size was brought down",
                    lowered,
                    f"in {len(ends)} runs",
                    0,
                    beside=f"sizes {paths}",
                )
            )
            continue
        found = [end["found"] for end in ends]
        figures += [
            Figure(
                f"a model that loses {what}: items until its size is first brought down, most of {len(ends)} seeds",
                max(questions if one is None else one for one in found),
                "items",
                200,
                beside=f"{', '.join('never' if one is None else str(one) for one in found)}; sizes {paths}",
            ),
            Figure(
                "the same: points of agreement that are lost in the last third of the questions, mean of the seeds",
                mean(lost),
                "points",
                1,
                beside=", ".join(f"{one:.2f}" for one in lost) + f" of {questions // 3} each",
            ),
        ]
    return figures, disturbed


def _found(more: str, questions: int, seed: int) -> dict[str, Any]:
    asked = tickets(questions, 100 + seed)
    expected = {ticket: alone(ticket) for ticket in asked}
    path: list[int] = []
    found: int | None = None

    def look(_told: Told, now: dict[str, Any]) -> None:
        nonlocal found
        if now and (not path or path[-1] != now["allowed"]):
            path.append(now["allowed"])
        if now and now["lowered"] and found is None:
            found = now["items"]

    told = run(
        f"[sim]\nseed = {seed}\n" + profile((0.02, 0.0), more),
        batch_size=10,
        asked=asked,
        sizes=(8, 12, 16),
        pause_s=0.02,
        seed=seed,
        after=look,
    )
    last = asked[-(questions // 3) :]
    lost = sum(told.answers[ticket] != expected[ticket] for ticket in last) / len(last)
    lowered = told.batching["lowered"]
    return {"path": path, "found": found, "lost": lost, "lowered": lowered, "disturbed": told.disturbed}


def lone_questions(seconds: int) -> list[Figure]:
    """A question a second of an operation that allows batches, and one a second of one that does not, in turn."""
    tables = operation("together", batch_size=10) + operation("alone", batch_size=None)
    took: dict[str, list[float]] = {"together": [], "alone": []}
    asked = tickets(2 * seconds, 7)
    batching: dict[str, Any] = {}

    async def go(socket: str) -> None:
        async with aiorch.AsyncClient(socket, timeout_s=60) as client:
            await client.complete(operation="alone", input="first")  # connections are open from now on
            rng = random.Random(7)
            for number, ticket in enumerate(asked):
                name = ("together", "alone")[number % 2]
                began = trio.current_time()
                await client.complete(operation=name, input=ticket)
                took[name].append(trio.current_time() - began)
                await trio.sleep(max(0.0, began + rng.uniform(0.4, 0.6) - trio.current_time()))
            batching.update(batching_of(await client.stats(), "together"))

    with house(profile((0.1, 0.0)), tables) as (socket, _, _), pinned(LOAD):
        trio.run(go, socket)
    waited = 1e3 * (median(took["together"]) - median(took["alone"]))
    return [
        Figure(
            "a lone question a second, batching on: p50 above that of an operation without it",
            waited,
            "ms",
            5,
            beside=f"{1e3 * median(took['together']):.1f} and {1e3 * median(took['alone']):.1f} ms, slowest "
            f"{1e3 * max(took['together']):.0f} and {1e3 * max(took['alone']):.0f} ms; asked alone because "
            + ", ".join(f"{why} ({count})" for why, count in batching.get("alone", {}).items()),
        )
    ]
