"""The ring of a provider's keys: who is set aside, for what and how long, and who gets another chance."""

from __future__ import annotations

from aiorchd.core.key_ring import ASIDE_S, KeyRing


def a_ring(*names: str) -> KeyRing:
    ring = KeyRing()
    ring.reconfigure(dict.fromkeys(names, b""))
    return ring


def test_a_refused_key_is_set_aside_for_every_model_and_told_once():
    ring = a_ring("A", "B")
    assert ring.in_trouble("A", "small", "refused", 10.0)
    assert not ring.in_trouble("A", "large", "refused", 11.0)
    assert not ring.usable("A", "small", 12.0)
    assert not ring.usable("A", "large", 12.0)
    assert ring.usable("B", "small", 12.0)
    assert [(state.name, state.trouble) for state in ring.states(12.0)] == [("A", "refused"), ("B", None)]


def test_a_key_that_may_not_use_a_model_is_set_aside_for_that_one():
    ring = a_ring("A", "B")
    assert ring.in_trouble("A", "large", "forbidden", 10.0)
    assert not ring.usable("A", "large", 12.0)
    assert ring.usable("A", "small", 12.0)
    [state, _] = ring.states(15.0)
    assert (state.trouble, state.models, state.since_s) == ("forbidden", ("large",), 5.0)


def test_it_gets_another_chance_in_a_while_and_is_well_when_it_is_taken():
    ring = a_ring("A", "B")
    ring.in_trouble("A", "small", "refused", 0.0)
    assert not ring.usable("A", "small", ASIDE_S - 1)
    assert ring.usable("A", "small", ASIDE_S)
    assert ring.well("A", "small")
    assert not ring.well("A", "small")
    assert ring.usable("A", "small", ASIDE_S)


def test_a_changed_key_has_done_nothing_wrong_and_an_equal_one_stays_aside():
    ring = a_ring("A", "B")
    ring.in_trouble("A", "small", "refused", 0.0)
    ring.reconfigure({"A": b"", "B": b"", "C": b""})
    assert not ring.usable("A", "small", 1.0)
    ring.reconfigure({"A": b"another", "B": b""})
    assert ring.usable("A", "small", 1.0)
    assert {state.name for state in ring.states(1.0)} == {"A", "B"}


def test_the_only_key_is_told_and_never_set_aside():
    ring = a_ring("A")
    assert ring.in_trouble("A", "small", "refused", 0.0)
    assert ring.usable("A", "small", 1.0)
    assert ring.states(1.0)[0].trouble == "refused"


def test_who_was_used_longest_ago():
    ring = a_ring("A", "B")
    ring.use("A")
    ring.use("B")
    ring.use("A")
    ring.use("gone")
    assert ring.last_used("B") < ring.last_used("A")
    assert ring.last_used("gone") == 0
    assert [state.used for state in ring.states(0.0)] == [2, 1]
    assert not ring.in_trouble("gone", "small", "refused", 0.0)
    assert not ring.well("gone", "small")
