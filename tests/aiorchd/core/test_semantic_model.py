"""The model of likeness: what it needs before it says anything, where its threshold rests, and what shuts it off."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.semantic_model import (
    FEATURES,
    FIRST_LABELS,
    MOST_LABELS,
    Neighbourhood,
    Proof,
    SemanticModel,
    Weights,
    features,
    wilson_interval,
)
from aiorchd.core.text_sketch import difference, sketch

WEIGHTS = Weights((0.0,) * FEATURES, (1.0,) * FEATURES, (1.0,) + (0.0,) * (FEATURES - 1), 0.0)


def row(value: float = 0.0) -> tuple[float, ...]:
    return (value,) + (0.0,) * (FEATURES - 1)


def test_the_features_are_as_many_as_the_model_takes() -> None:
    one, other = sketch("what is my balance"), sketch("tell me my balance")
    assert one is not None and other is not None
    found = features(Neighbourhood(0.95, 0.2, 4, 10**9, 0), difference(one, other))
    assert len(found) == FEATURES
    assert found[2] == pytest.approx(0.05)
    assert max(found) <= 8.0  # the history of one entry does not run away


def test_nothing_is_said_before_there_are_labels_enough() -> None:
    model = SemanticModel(0.02)
    for _ in range(FIRST_LABELS - 1):
        model.learn(row(), right=True)
    assert not model.due
    assert model.probability(row()) is None
    model.learn(row(), right=False)
    assert model.due
    rows, labels = model.take()
    assert (len(rows), len(labels)) == (4 * FEATURES * FIRST_LABELS, FIRST_LABELS)
    assert not model.due  # one fit at a time
    model.fitted(WEIGHTS)
    assert model.probability(row()) == pytest.approx(0.5)
    assert model.probability(row(1000.0)) == model.probability(row(3.0))  # clipped


def test_only_the_last_labels_count() -> None:
    model = SemanticModel(0.02)
    for number in range(MOST_LABELS + 10):
        model.learn(row(float(number)), right=number % 2 > 0)
    assert model.labels == MOST_LABELS
    rows, labels = model.take()
    first = [each[0] for each in struct.iter_unpack(f"<{FEATURES}f", rows)]
    assert first == [float(number) for number in range(10, MOST_LABELS + 10)]  # the oldest first, as they came
    assert list(labels) == [number % 2 for number in range(10, MOST_LABELS + 10)]
    again = SemanticModel(0.02)
    again.restore(*model.state())
    again.learn(row(-1.0), right=True)
    assert again.labels == MOST_LABELS
    assert again.take()[0] == rows[4 * FEATURES :] + struct.pack(f"<{FEATURES}f", *row(-1.0))


def test_a_failed_fit_leaves_the_old_weights() -> None:
    model = SemanticModel(0.02)
    for _ in range(FIRST_LABELS):
        model.learn(row(), right=True)
    model.take()
    model.fitted(WEIGHTS)
    before = model.probability(row(1.0))
    model.take()
    model.fitted(None)
    assert model.probability(row(1.0)) == before


def test_state_survives_and_nonsense_is_refused() -> None:
    model = SemanticModel(0.02)
    for number in range(300):
        model.learn(row(number / 8), right=number % 3 > 0)
    model.take()
    model.fitted(WEIGHTS)
    for number in range(300):
        model.came_up(1.0 - 1.0 / (number + 2))
        model.learn(row(number / 64), right=number % 30 > 0)
    model.adapt(right=False)
    again = SemanticModel(0.02)
    again.restore(*model.state())
    assert again.take() == model.take()
    assert again.threshold == model.threshold
    new = (b"", b"", 0.0)
    for state in ((b"abc", b"", new), (b"", b"\x01", new), (b"", b"", (b"\xff", b"", 0.0))):
        with pytest.raises(ValueError):
            SemanticModel(0.02).restore(*state)


# the proof


def test_nothing_is_given_before_it_is_proved() -> None:
    proof = Proof(0.02, needed=100)
    for _ in range(99):
        proof.check(right=True)
        assert not proof.allowed
    assert "99 of 100" in proof.verdict().why
    proof.check(right=True)
    assert proof.allowed
    assert proof.verdict().why == ""


def test_too_many_wrong_ones_are_no_proof_and_more_right_ones_are() -> None:
    proof = Proof(0.02, needed=100)
    for number in range(100):
        proof.check(right=number not in (10, 20, 30))
    assert not proof.allowed
    assert "3 of 100" in proof.verdict().why
    for _ in range(50):
        proof.check(right=True)
    assert proof.allowed


def test_it_is_shut_off_when_the_target_is_surely_missed_and_must_be_proved_anew() -> None:
    proof = Proof(0.02, needed=50)
    for _ in range(100):
        proof.check(right=True)
    shut = [proof.check(right=False) for _ in range(10)]
    assert shut.count(True) == 1
    assert (proof.allowed, proof.trips) == (False, 1)
    assert "shut off" in proof.verdict().why
    for _ in range(600):
        proof.check(right=True)
    assert proof.allowed


def test_another_target_is_judged_by_what_was_measured() -> None:
    proof = Proof(0.05, needed=50)
    for number in range(100):
        proof.check(right=number % 25 > 0)  # 4 % wrong
    assert proof.allowed
    proof.reconfigure(0.001, needed=50)
    assert not proof.allowed
    proof.reconfigure(0.05, needed=50)
    assert proof.allowed


def test_a_proof_survives_a_restart() -> None:
    proof = Proof(0.02, needed=50)
    for _ in range(60):
        proof.check(right=True)
    again = Proof(0.02, needed=50)
    checks, allowed = proof.state()
    again.restore(checks, allowed=allowed)
    assert again.verdict() == proof.verdict()
    stricter = Proof(0.02, needed=100)
    stricter.restore(checks, allowed=allowed)
    assert not stricter.allowed


@given(st.integers(1, 5000), st.data())
def test_the_interval_holds_the_share_and_narrows(trials: int, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, trials))
    low, high = wilson_interval(events, trials)
    assert 0.0 <= low <= events / trials + 1e-12
    assert events / trials - 1e-12 <= high <= 1.0
    widths = [b - a for a, b in (wilson_interval(events * k, trials * k) for k in (1, 10, 100))]
    assert all(wide > narrow for wide, narrow in pairwise(widths))


def test_the_interval_is_the_published_one() -> None:
    # 10 of 100: 5.5 % to 17.4 % (Newcombe 1998, table I has 0.0552 to 0.1744).
    assert wilson_interval(10, 100) == pytest.approx((0.0552, 0.1744), abs=2e-4)
