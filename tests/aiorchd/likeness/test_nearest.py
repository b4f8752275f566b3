"""The index: exact while it is small, nearly so by a graph, whatever comes and goes meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.likeness.nearest import BLOCK, Nearest

D = 16


def vectors(count: int, seed: int = 0):
    made = np.random.default_rng(seed).normal(size=(count, D)).astype("<f4")
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=80))
def test_it_finds_what_a_plain_search_finds(steps: list[tuple[bool, int]]) -> None:
    pool = vectors(31)
    index, there = Nearest(D), {}
    for adds, number in steps:
        if adds:
            index.add(number, pool[number].tobytes())
            there[number] = pool[number]
        else:
            index.remove(number)
            there.pop(number, None)
    assert len(index) == len(there)
    wanted = vectors(1, seed=9)[0]
    expected = sorted(((float(vector @ wanted), number) for number, vector in there.items()), reverse=True)[:6]
    found = index.search(wanted.tobytes(), 6)
    assert [number for number, _ in found] == [number for _, number in expected]
    assert [cosine for _, cosine in found] == pytest.approx([cosine for cosine, _ in expected], abs=1e-5)


def test_several_blocks_are_one_index() -> None:
    pool = vectors(BLOCK + 50)
    index = Nearest(D)
    for number, vector in enumerate(pool):
        index.add(number, vector.tobytes())
    for number in (0, BLOCK - 1, BLOCK, BLOCK + 49):
        assert index.search(pool[number].tobytes(), 1)[0][0] == number


def test_a_graph_takes_over_and_knows_what_came_and_went_meanwhile() -> None:
    pool = vectors(300)
    index = Nearest(D, many=200)
    for number in range(200):
        index.add(number, pool[number].tobytes())
    assert index.wants_graph
    build = index.grow()
    assert not index.wants_graph  # one at a time
    index.add(250, pool[250].tobytes())
    index.remove(3)
    index.add(4, pool[260].tobytes())  # another vector under a known number
    index.grown(build())
    assert index.graph
    index.add(299, pool[299].tobytes())
    index.remove(10)
    for number, place in ((250, 250), (299, 299), (4, 260), (50, 50)):
        found = index.search(pool[place].tobytes(), 3)
        assert found[0][0] == number
        assert found[0][1] == pytest.approx(1.0, abs=1e-5)
    for number in (3, 10):
        assert number not in [one for one, _ in index.search(pool[number].tobytes(), 20)]


def test_without_a_graph_it_goes_on() -> None:
    pool = vectors(30)
    index = Nearest(D, many=20)
    for number in range(30):
        index.add(number, pool[number].tobytes())
    index.grow()
    index.grown(None)
    assert not index.wants_graph
    assert index.search(pool[7].tobytes(), 1)[0][0] == 7
