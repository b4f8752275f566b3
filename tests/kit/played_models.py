"""Models that answer worse in batches, played against the rule that finds them: no provider, no daemon, thousands of questions
a second. Randomness is seeded, so a run says the same every time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiorchd.core.batch_loss import LossCurves, Outcome
from aiorchd.core.batch_size import BatchSize

CURVES = LossCurves(0.01)


@dataclass(frozen=True)
class Run:
    """What came of a run: the ``size`` at its end, and how many provider calls it took, ``checks`` among them.
    ``found_after`` questions the size was first brought down. ``lost`` is, of the last third of the questions, the share whose
    callers got an answer that asking together had spoiled."""

    size: int
    calls: int
    checks: int
    found_after: int | None
    lost: float


def run(
    seed: int,
    *,
    items: int,
    loss: Callable[[int], float] = lambda size: 0.0,
    noise: float = 0.0,
    most: int = 10,
    bursts: Sequence[int] = (),
    rule: BatchSize | None = None,
) -> Run:
    """Ask so many items. An answer from a batch is wrong with the probability ``loss`` of its size; any answer is another one
    with the probability ``noise``. They come in bursts of sizes drawn from ``bursts``, whose last batch is as large as what is
    left; without, every batch is full."""
    rng = random.Random(seed)
    rule = rule if rule is not None else BatchSize(CURVES)
    asked = calls = checks = waiting = 0
    found_after = None
    lost_last = 0

    def answer(size: int) -> str:
        if size > 1 and rng.random() < loss(size):
            return f"lost {rng.random()}"
        return "another" if rng.random() < noise else "usual"

    while asked < items:
        if not waiting:
            waiting = min(rng.choice(bursts) if bursts else items, items - asked)
        size = min(rule.allowed(most), waiting)
        waiting -= size
        asked += size
        calls += 1
        if size == 1:
            rule.asked_alone()
            continue
        count = rule.checks(size, 0.05)
        if asked > items - items // 3:  # those who are checked get the single answer
            lost_last += sum(answer(size).startswith("lost") for _ in range(size - count))
        for _ in range(count):
            checks += 1
            batch, single = answer(size), answer(1)
            outcome: Outcome = "agreed"
            if batch != single:
                third = answer(1)
                checks += 1
                outcome = "batch_odd" if third == single else "single_odd" if third == batch else "all_differ"
            rule.checked(outcome, size, most)
        if found_after is None and rule.lowered:
            found_after = asked
    return Run(rule.lasting(most), calls + checks, checks, found_after, lost_last / (items // 3))
