"""Models that are played: how soon the rule for the size of batches finds one that is worse in them, and whom it blames wrongly.

    python benchmarks/batch_models.py [--save] [--quick]

Questions come in bursts of 5 to 70. The rule alone is asked (`core/batch_size`), as in tests/aiorchd/core/test_batch_size.py, at
most ten together and with its defaults, some hundred runs a model, so that the shares say more than the few runs through a real
daemon of benchmarks/savings.py. Nothing is timed: the figures are the same on every machine.
"""

from collections.abc import Callable
from statistics import mean, median

from rig.figures import Figure, options, publish

from played_models import CURVES, Run, run  # isort: skip

from aiorchd.core.batch_size import BatchSize

BURSTS = (5, 12, 25, 40, 70)
QUESTIONS = 900
SOON = 200


def beyond(size: int, loss: float) -> Callable[[int], float]:
    return lambda items: loss if items > size else 0.0


def evenly(loss: float) -> Callable[[int], float]:
    return lambda items: loss * (items - 1)


WORSE = {
    "1.5 % with each further question": evenly(0.015),
    "2 % with each further question": evenly(0.02),
    "6 % with each further question": evenly(0.06),
    "10 % beyond four": beyond(4, 0.1),
    "10 % beyond six": beyond(6, 0.1),
    "20 % beyond four": beyond(4, 0.2),
}


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    count = 30 if chosen.quick else 200
    figures = [
        _found(what, [run(seed, items=QUESTIONS, loss=loss, bursts=BURSTS) for seed in range(count)])
        for what, loss in WORSE.items()
    ]
    figures += [
        _blamed(noise, [run(seed, items=500, noise=noise, bursts=BURSTS) for seed in range(count)])
        for noise in (0.0, 0.01, 0.05, 0.2)
    ]
    figures.append(_back(20 if chosen.quick else 60))
    publish("batch_models", figures, disturbed=[], save=chosen.save)


def _found(what: str, runs: list[Run]) -> Figure:
    soon = sum(one.found_after is not None and one.found_after <= SOON for one in runs)
    when = sorted(one.found_after if one.found_after is not None else QUESTIONS for one in runs)
    beside = (
        f"half within {median(when):.0f}, 19 of 20 within {when[len(when) * 19 // 20]}; the last third of {QUESTIONS} then loses "
        f"{mean(100 * one.lost for one in runs):.2f} points, more than one in "
        f"{sum(one.lost > 0.01 for one in runs) / len(runs):.0%} of the runs"
    )
    return Figure(
        f"a played model that loses {what}: runs in which it is found within {SOON} questions",
        100 * soon / len(runs),
        f"% of {len(runs)}",
        beside=beside,
    )


def _blamed(noise: float, runs: list[Run]) -> Figure:
    calls = sorted(one.calls for one in runs)
    return Figure(
        f"a played model that loses nothing and answers {noise:.0%} of all questions differently: brought down within 500",
        100 * sum(one.found_after is not None for one in runs) / len(runs),
        f"% of {len(runs)} runs",
        beside=(
            f"{median(calls):.0f} calls in the middle run, {calls[len(calls) * 19 // 20]} in 19 of 20, for 500 questions; "
            f"{median(one.checks for one in runs):.0f} checks among them"
        ),
    )


def _back(count: int) -> Figure:
    """A model that lost a fifth in eights, then nothing any more."""
    needed = []
    for seed in range(count):
        rule = BatchSize(CURVES)
        run(seed, items=2000, loss=beyond(4, 0.2), rule=rule)
        steps = 0
        while rule.lasting(10) < 10 and steps < 400:
            steps += 1
            run(seed * 1000 + steps, items=100, rule=rule)
        needed.append(100 * steps)
    needed.sort()
    return Figure(
        "a played model that lost 20 % beyond four for 2,000 questions and then nothing: questions until ten go "
        "together, middle run",
        median(needed),
        "questions",
        beside=f"{needed[count // 10]} in one of ten, {needed[count * 9 // 10]} in nine of ten",
    )


if __name__ == "__main__":
    main()
