"""How large batches may be: a model that loses in them is found, one that does not is not blamed, and what was wrong recovers.

The models are played; their randomness is seeded, so the shares below are what they are every time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_models import CURVES, run

from aiorchd.core.batch_loss import LossCurves, Outcome
from aiorchd.core.batch_size import FIRST_SIZE, BatchSize


def from_six(size: int) -> float:
    return 0.2 if size >= 6 else 0.0


def evenly(size: int) -> float:
    return 0.2 * (size - 1) / 7


def test_a_good_model_is_asked_ten_at_once_for_few_checks() -> None:
    found = run(1, items=500)
    assert found.size == 10
    assert found.found_after is None
    assert found.checks <= 32
    assert found.calls <= 85


@pytest.mark.parametrize("loss", [from_six, evenly], ids=["from six on", "evenly"])
def test_a_model_that_loses_is_found_within_200_items(loss: Callable[[int], float]) -> None:
    runs = [run(seed, items=200, loss=loss) for seed in range(100)]
    found = [one for one in runs if one.found_after is not None]
    assert len(found) >= 94
    assert all(one.size <= 7 for one in found)


def test_what_loses_little_and_evenly_is_found_within_200_items_and_settled() -> None:
    """A point and a half for each further item: 10 of 100 are lost in eights, and in pairs more than a point still."""
    runs = [run(seed, items=900, loss=lambda size: 0.015 * (size - 1)) for seed in range(60)]
    assert sum(one.found_after is not None and one.found_after <= 200 for one in runs) >= 51
    assert sum(one.lost for one in runs) / len(runs) <= 0.005
    assert sum(one.lost <= 0.01 for one in runs) >= 54


def test_noise_of_one_in_a_hundred_ruins_nobody() -> None:
    runs = [run(seed, items=900, noise=0.01) for seed in range(60)]
    assert sum(one.found_after is not None for one in runs) <= 4
    assert sum(one.size == 10 for one in runs) >= 56
    assert sum(one.calls for one in runs) / len(runs) <= 160


def test_one_odd_answer_lets_more_be_checked_until_it_is_explained() -> None:
    rule = BatchSize(CURVES)
    for _ in range(30):
        rule.checked("agreed", 8, 10)
    few = sum(rule.checks(10, 0.05) for _ in range(10))
    rule.checked("batch_odd", 10, 10)
    many = sum(rule.checks(10, 0.05) for _ in range(10))
    assert few <= 5
    assert many >= 45
    for _ in range(60):
        rule.checked("agreed", 10, 10)
    assert sum(rule.checks(10, 0.05) for _ in range(10)) <= 5
    assert rule.lowered == 0


def test_checks_under_way_count_so_that_a_large_burst_is_not_checked_all_over() -> None:
    rule = BatchSize(CURVES)
    assert sum(rule.checks(8, 0.05) for _ in range(100)) <= 40


def test_sizes_are_passed_over_on_the_way_down_where_larger_ones_have_told_enough() -> None:
    rule = BatchSize(CURVES)
    for _ in range(20):
        rule.checked("agreed", 8, 16)
    sizes = [rule.lasting(16)]
    while rule.lowered == 0:
        rule.checked("batch_odd", 8, 16)
        rule.checked("batch_odd", 4, 16)
        sizes.append(rule.lasting(16))
    assert sizes[-1] <= 2 < 8 <= sizes[-2]


def test_its_size_comes_to_rest_where_it_does_not_lose() -> None:
    for seed in range(5):
        rule = BatchSize(CURVES)
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
    rule = BatchSize(CURVES)
    for outcome in ("agreed", "batch_odd") * 4:
        rule.checked(outcome, 8, 10)
    assert rule.allowed(10) == FIRST_SIZE // 2
    assert run(3, items=4000, rule=rule).size == 10


def test_one_that_loses_even_in_pairs_is_asked_alone_and_tried_again_seldom() -> None:
    rule = BatchSize(CURVES)
    found = run(4, items=2000, loss=lambda size: 0.3, rule=rule)
    assert found.calls >= 1800
    assert rule.lowered in (2, 3), "from 8 to 1; what is tried later is no size that was brought down"
    assert run(5, items=20_000, rule=rule).size == 10, "it has got better"


@pytest.mark.parametrize("size_that_fails", [6, 2])
def test_trying_again_costs_a_small_part_of_what_is_lost(size_that_fails: int) -> None:
    """A tenth is lost at a size that was too large; of all items in the long run, no more than a point."""
    lost = items = 0.0
    for seed in range(20):
        rule, rng = BatchSize(CURVES), random.Random(seed)
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
    rule = BatchSize(CURVES)
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
    rule = BatchSize(CURVES)
    for _ in range(3):
        rule.settled(8, 8)
    assert rule.lasting(10) == 4
    while rule.allowed(10) == 4:
        for _ in range(rule.checks(4, 0.05)):
            rule.checked("agreed", 4, 10)
    rule.settled(6, 6)
    assert rule.allowed(10) == 4


def test_answers_of_the_wrong_form_make_batches_smaller() -> None:
    rule = BatchSize(CURVES)
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
    rule = BatchSize(CURVES)
    for outcome, items in found:
        rule.checked(outcome, items, most)
        assert 1 <= rule.allowed(most) <= most
        assert 0 <= rule.checks(items, 0.05) <= items // 2
        assert rule.odds(items) >= 0
    told = rule.agreement()
    assert told.checks == len(found)
    assert told.agreed + told.batch_odd + told.single_odd + told.all_differ == told.checks


def test_a_larger_share_may_be_lost_when_so_configured() -> None:
    rule = BatchSize(LossCurves(0.5))
    run(6, items=1000, loss=lambda size: 0.2, rule=rule)
    assert rule.allowed(10) >= 8
    rule.reconfigure(CURVES)
    assert run(7, items=1000, loss=lambda size: 0.2, rule=rule).size < 8
