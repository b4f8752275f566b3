"""What a model loses in batches: checks at one size tell of others, and a model that is not deterministic is not blamed for it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.core.batch_loss import Evidence, LossCurves, Outcome

CURVES = LossCurves(0.01)
SIZES = (2, 4, 6, 8, 10)


def seen(*checks: tuple[Outcome, int, int], curves: LossCurves = CURVES, window: float = 2000) -> Evidence:
    """Evidence of (outcome, size, how often)."""
    evidence = Evidence(curves, window)
    for outcome, size, often in checks:
        for _ in range(often):
            evidence.add(outcome, size)
    return evidence


def test_at_first_larger_sizes_are_trusted_less_and_none_is_suspected() -> None:
    nothing = seen()
    odds = [nothing.odds(size) for size in SIZES]
    assert odds == sorted(odds)
    assert 0 < odds[0] < odds[-1] < 0.4
    assert odds == [CURVES.odds_at_first(size) for size in SIZES]


def test_alone_nothing_can_be_lost() -> None:
    assert seen(("batch_odd", 8, 20)).odds(1) == 0


def test_answers_that_agree_speak_for_smaller_sizes_too_and_less_for_larger_ones() -> None:
    gained = [seen(("agreed", 8, 20)).odds(size) / CURVES.odds_at_first(size) for size in (4, 8, 10)]
    assert gained == sorted(gained)
    assert gained[-1] < 0.4


def test_odd_answers_speak_against_smaller_sizes_too() -> None:
    few = seen(("batch_odd", 8, 3), ("agreed", 8, 20))
    assert few.odds(8) > few.odds(4) > few.odds(2) > CURVES.odds_at_first(2)
    # What is seen at the smaller one decides.
    well = seen(("batch_odd", 8, 3), ("agreed", 8, 20), ("agreed", 4, 60))
    badly = seen(("batch_odd", 8, 3), ("agreed", 8, 20), ("agreed", 4, 20), ("batch_odd", 4, 1))
    assert well.odds(4) < CURVES.odds_at_first(4) < few.odds(4) < badly.odds(4)
    assert well.odds(8) > 1 > well.odds(4)


def test_a_line_is_told_from_a_step() -> None:
    """As much is lost at 8; but at 4 something is lost or nothing, and so at 2 one believes it or not."""
    line = seen(("batch_odd", 8, 5), ("agreed", 8, 45), ("batch_odd", 4, 3), ("agreed", 4, 60))
    step = seen(("batch_odd", 8, 5), ("agreed", 8, 45), ("agreed", 4, 63))
    assert line.odds(2) > 5 * step.odds(2)


def test_single_answers_that_are_odd_as_often_excuse_the_batchs() -> None:
    """By chance the one is seen somewhat more often than the other."""
    assert seen(("batch_odd", 8, 7), ("single_odd", 8, 5), ("agreed", 8, 50)).odds(8) < 0.5
    assert seen(("batch_odd", 8, 7), ("agreed", 8, 55)).odds(8) > 5


def test_what_is_tolerated_is_no_loss() -> None:
    checks: list[tuple[Outcome, int, int]] = [("batch_odd", 8, 10), ("agreed", 8, 40)]
    assert seen(*checks).odds(8) > 100
    assert seen(*checks, curves=LossCurves(0.5)).odds(8) < 0.01
    assert seen(*checks).judged_by(LossCurves(0.5)).odds(8) == pytest.approx(
        seen(*checks, curves=LossCurves(0.5)).odds(8)
    )


@pytest.mark.parametrize("tolerated", [0.0, 0.01, 0.05, 0.5])
def test_a_model_that_loses_nothing_is_seldom_suspected_whenever_one_looks(tolerated: float) -> None:
    curves, rng, passed = LossCurves(tolerated), random.Random(1), 0
    for _ in range(60):
        evidence, highest = Evidence(curves, 2000), 0.0
        noise = rng.choice([0.0, 0.02, 0.1])
        for _ in range(100):
            chance = rng.random()
            evidence.add("batch_odd" if chance < noise else "single_odd" if chance < 2 * noise else "agreed", 8)
            highest = max(highest, evidence.odds(8))
        passed += highest >= 6.0
    assert passed <= 60 * curves.odds_at_first(8) / 6.0


def test_a_window_forgets() -> None:
    evidence = seen(("batch_odd", 8, 1000), ("agreed", 8, 300), window=50)
    assert evidence.checks == pytest.approx(50)
    assert evidence.batch_odd < 1
    assert evidence.odds(8) < 4


def test_a_copy_lives_by_itself() -> None:
    first = seen(("batch_odd", 8, 2), ("agreed", 4, 9))
    other = first.copy()
    assert [other.odds(size) for size in SIZES] == pytest.approx([first.odds(size) for size in SIZES])
    before = first.odds(8)
    other.add("batch_odd", 8)
    assert first.odds(8) == before < other.odds(8)
    assert first.counts == {8: (2.0, 0.0, 0.0), 4: (0.0, 0.0, 9.0)}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["agreed", "batch_odd", "single_odd", "all_differ"]), st.integers(2, 100)),
        max_size=80,
    ),
    st.integers(2, 100),
    st.floats(0.0, 1.0),
)
def test_odds_are_odds_whatever_was_seen(found: list[tuple[Outcome, int]], size: int, factor: float) -> None:
    evidence = Evidence(CURVES, 60)
    for outcome, items in found:
        evidence.add(outcome, items)
    assert 0 <= evidence.checks <= 60 + 1e-6
    assert 0 <= evidence.odds(size) <= 1e12
    assert evidence.copy().odds(size) == pytest.approx(evidence.odds(size), rel=1e-6, abs=1e-12)
    evidence.scale(factor)
    assert 0 <= evidence.odds(size) <= 1e12
    evidence.scale(0.0)
    assert evidence.odds(size) == pytest.approx(CURVES.odds_at_first(size))
