"""How large batches may be: a model that loses in them is found, one that does not is not blamed, and what was wrong recovers.

The models are played; their randomness is seeded, so the shares below are what they are every time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.core.batch_size import FIRST_SIZE, LARGE, BatchSize, Evidence, Outcome


@dataclass
class Run:
    size: int
    calls: int
    checks: int
    found_after: int | None


def run(
    seed: int,
    *,
    items: int,
    loss: Callable[[int], float] = lambda size: 0.0,
    noise: float = 0.0,
    most: int = 10,
    rule: BatchSize | None = None,
) -> Run:
    """Ask so many items. An answer from a batch is wrong with the probability ``loss`` of its size; any answer is another one
    with the probability ``noise``."""
    rng = random.Random(seed)
    rule = rule if rule is not None else BatchSize()
    asked = calls = checks = 0
    found_after = None

    def answer(size: int) -> str:
        if size > 1 and rng.random() < loss(size):
            return f"lost {rng.random()}"
        return "another" if rng.random() < noise else "usual"

    while asked < items:
        size = min(rule.allowed(most), items - asked)
        asked += size
        calls += 1
        if size == 1:
            rule.asked_alone()
            continue
        for _ in range(rule.checks(size, 0.05)):
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
    return Run(rule.allowed(most), calls + checks, checks, found_after)


def from_six(size: int) -> float:
    return 0.2 if size >= 6 else 0.0


def evenly(size: int) -> float:
    return 0.2 * (size - 1) / 7


def test_a_good_model_is_asked_ten_at_once_for_few_checks() -> None:
    found = run(1, items=500)
    assert found.size == 10
    assert found.found_after is None
    assert found.checks <= 30
    assert found.calls <= 95


@pytest.mark.parametrize("loss", [from_six, evenly], ids=["from six on", "evenly"])
def test_a_model_that_loses_is_found_within_200_items(loss: Callable[[int], float]) -> None:
    runs = [run(seed, items=200, loss=loss) for seed in range(100)]
    found = [one for one in runs if one.found_after is not None]
    assert len(found) >= 94
    assert all(one.size <= 7 for one in found)


def test_its_size_comes_to_rest_where_it_does_not_lose() -> None:
    for seed in range(5):
        rule = BatchSize()
        run(seed, items=4000, loss=from_six, rule=rule)
        sizes = []
        for step in range(30):
            sizes.append(run(seed * 100 + step, items=100, loss=from_six, rule=rule).size)
        assert sum(size <= 5 for size in sizes) >= 24, sizes
        assert min(sizes) >= 2


@pytest.mark.parametrize(("noise", "blamed"), [(0.0, 0), (0.05, 12), (0.2, 15)])
def test_a_model_that_is_not_deterministic_is_seldom_blamed(noise: float, blamed: int) -> None:
    runs = [run(seed, items=500, noise=noise) for seed in range(100)]
    assert sum(one.found_after is not None for one in runs) <= blamed


def test_who_was_blamed_wrongly_recovers() -> None:
    rule = BatchSize()
    for outcome in ("agreed", "batch_odd") * 4:
        rule.checked(outcome, 8, 10)
    assert rule.allowed(10) == FIRST_SIZE // 2
    assert run(3, items=4000, rule=rule).size == 10


def test_one_that_loses_even_in_pairs_is_asked_alone_and_tried_again_seldom() -> None:
    rule = BatchSize()
    found = run(4, items=2000, loss=lambda size: 0.3, rule=rule)
    assert found.calls >= 1800
    assert rule.lowered == 3, "from 8 to 1; what is tried later is no size that was brought down"
    assert run(5, items=20_000, rule=rule).size == 10, "it has got better"


@pytest.mark.parametrize("size_that_fails", [6, 2])
def test_trying_again_costs_a_small_part_of_what_is_lost(size_that_fails: int) -> None:
    """A tenth is lost at a size that was too large; of all items in the long run, no more than a point."""
    lost = items = 0.0
    for seed in range(20):
        rule, rng = BatchSize(), random.Random(seed)
        for step in range(2000):
            size = rule.allowed(10)
            harmed = size >= size_that_fails
            if step > 1000:
                items += size
                lost += 0.1 * size * harmed
            if size == 1:
                rule.asked_alone()
                continue
            for _ in range(rule.checks(size, 0.05)):
                rule.checked("batch_odd" if harmed and rng.random() < 0.1 else "agreed", size, 10)
    assert lost <= 0.01 * items


def test_what_is_tried_is_not_the_size_that_is_told_and_ends_with_the_first_doubt() -> None:
    rule = BatchSize()
    for outcome in ("agreed", "batch_odd") * 4:
        rule.checked(outcome, 8, 10)
    while rule.allowed(10) == 4:
        for _ in range(rule.checks(4, 0.05)):
            rule.checked("agreed", 4, 10)
    assert (rule.allowed(10), rule.lasting(10)) == (6, 4)
    assert rule.checks(6, 0.05) == 3
    for _ in range(3):
        rule.checked("batch_odd", 6, 10)
    assert rule.allowed(10) == rule.lasting(10) == 4
    assert rule.lowered == 1


def test_answers_of_the_wrong_form_end_a_trial() -> None:
    rule = BatchSize()
    for _ in range(3):
        rule.settled(8, 8)
    assert rule.lasting(10) == 4
    while rule.allowed(10) == 4:
        for _ in range(rule.checks(4, 0.05)):
            rule.checked("agreed", 4, 10)
    rule.settled(6, 6)
    assert rule.allowed(10) == 4


def test_answers_of_the_wrong_form_make_batches_smaller() -> None:
    rule = BatchSize()
    rule.settled(8, 1)
    assert rule.allowed(10) == 8
    for _ in range(3):
        rule.settled(8, 8)
    assert rule.allowed(10) == 4


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["agreed", "batch_odd", "single_odd", "all_differ"]), st.integers(2, 12)), max_size=60
    ),
    st.integers(2, 12),
)
def test_whatever_is_found_the_size_keeps_its_bounds(found: list[tuple[Outcome, int]], most: int) -> None:
    rule = BatchSize()
    for outcome, items in found:
        rule.checked(outcome, items, most)
        assert 1 <= rule.allowed(most) <= most
        assert 0 <= rule.checks(items, 0.05) <= items // 2
        assert rule.factor >= 0
    told = rule.agreement()
    assert told.checks == len(found)
    assert told.agreed + told.batch_odd + told.single_odd + told.all_differ == told.checks


def test_the_evidence() -> None:
    nothing, good, bad, even = (Evidence(100) for _ in range(4))
    for _ in range(20):
        good.add("agreed")
    for _ in range(5):
        bad.add("batch_odd")
        bad.add("agreed")
        even.add("batch_odd")
        even.add("single_odd")
    assert nothing.factor(0.01) == pytest.approx(1.0)
    assert good.factor(0.01) < 0.2
    assert bad.factor(0.01) > LARGE
    assert even.factor(0.01) < 2
    # A loss that is tolerated is no loss.
    assert bad.factor(0.5) < 2


def test_a_window_forgets() -> None:
    window = Evidence(50)
    for _ in range(1000):
        window.add("batch_odd")
    for _ in range(300):
        window.add("agreed")
    assert window.checks == pytest.approx(50)
    assert window.batch_odd < 1


def test_a_larger_share_may_be_lost_when_so_configured() -> None:
    rule = BatchSize(tolerated=0.5)
    run(6, items=1000, loss=lambda size: 0.2, rule=rule)
    assert rule.allowed(10) >= 8
    rule.reconfigure(0.01)
    assert run(7, items=1000, loss=lambda size: 0.2, rule=rule).size < 8
