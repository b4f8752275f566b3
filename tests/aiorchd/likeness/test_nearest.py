"""The index: exact while it is small, nearly so by codes, whatever comes and goes meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.likeness.nearest import BLOCK, Nearest

D = 16


def vectors(count: int, seed: int = 0, dimensions: int = D):
    made = np.random.default_rng(seed).normal(size=(count, dimensions)).astype("<f4")
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("many", [5, 1000])
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=80))
def test_it_finds_what_a_plain_search_finds(many: int, steps: list[tuple[bool, int]]) -> None:
    pool = vectors(31)
    # By codes, too: as many candidates as there are vectors leave nothing out.
    index, there = Nearest(D, many=many, candidates=31), {}
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
    index.remove(3)  # its place is filled from the other block
    assert index.search(pool[BLOCK + 49].tobytes(), 1)[0] == (BLOCK + 49, pytest.approx(1.0, abs=1e-5))
    assert index.search(pool[3].tobytes(), 1)[0][0] != 3


@pytest.mark.parametrize("dimensions", [100, 256, 320])
def test_by_codes_the_nearest_of_many_is_found(dimensions: int) -> None:
    pool = vectors(6000, dimensions=dimensions)
    index = Nearest(dimensions)
    for number, vector in enumerate(pool):
        index.add(number, vector.tobytes())
    noise = vectors(200, seed=4, dimensions=dimensions)
    found = 0
    for number in range(200):
        asked = pool[number] * 0.8 + noise[number] * 0.6
        asked /= np.linalg.norm(asked)
        found += index.search(asked.astype("<f4").tobytes(), 6)[0][0] == number
    assert found >= 199


def test_as_many_are_found_where_a_sample_says_that_few_are_near() -> None:
    pool = vectors(20_000)
    for place in range(0, 400, 8):  # of the places that are looked at for a limit, fifty, and no others
        pool[place] = pool[0]
    index = Nearest(D)
    for number, vector in enumerate(pool):
        index.add(number, vector.tobytes())
    found = index.search(pool[0].tobytes(), 60)
    assert [cosine for _, cosine in found[:50]] == pytest.approx([1.0] * 50)
    assert sorted(number for number, _ in found[:50]) == list(range(0, 400, 8))
    assert len(found) == 60


def test_its_opposite_is_never_taken_for_the_nearest() -> None:
    pool = vectors(5000, dimensions=256)
    pool[7] = -pool[3]  # differs in all 256 bits, which is more than a byte can say
    index = Nearest(256)
    for number, vector in enumerate(pool):
        index.add(number, vector.tobytes())
    found = index.search(pool[3].tobytes(), 6)
    assert found[0] == (3, pytest.approx(1.0, abs=1e-5))
    assert 7 not in dict(found)


def test_codes_are_begun_while_there_are_few_and_are_right_when_there_are_many() -> None:
    pool = vectors(200)
    index = Nearest(D, many=80, candidates=1)
    for number, vector in enumerate(pool):
        assert bool(index._codes) == (number >= 10)
        index.add(number, vector.tobytes())
    found = [index.search(vector.tobytes(), 1)[0][0] for vector in pool]
    assert found == list(range(200))


@pytest.mark.parametrize("pauses", [1, 2])
def test_what_comes_and_goes_while_it_pauses_hurts_nobody(pauses: int) -> None:
    # A pause after 3 blocks, and one before the candidates are compared: one dimension keeps that small.
    rows = 4 * BLOCK
    pool = np.ones((rows, 1), dtype="<f4")
    index = Nearest(1, blocks_a_step=3)
    for number in range(rows):
        index.add(number, pool[number].tobytes())
    steps = index.steps(pool[0].tobytes(), 3)
    for _ in range(pauses):
        next(steps)
    for number in range(2 * BLOCK):
        index.remove(number)
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    assert len(end.value.value) == 3
    assert all(number >= 2 * BLOCK and cosine == 1.0 for number, cosine in end.value.value)


def test_a_vector_of_another_length_is_refused() -> None:
    index = Nearest(D)
    with pytest.raises(ValueError, match="a vector of 2 dimensions, not 16"):
        index.add(1, bytes(8))
    assert len(index) == 0
    assert index.search(vectors(1)[0].tobytes(), 3) == []


def test_of_so_many_that_few_are_left_only_they_are_found() -> None:
    index = Nearest(2, many=100)
    pool = vectors(BLOCK + 200, dimensions=2)
    for number, vector in enumerate(pool):
        index.add(number, vector.tobytes())
    for number in range(len(pool) - 1, 49, -1):
        index.remove(number)
    for vector in pool[BLOCK : BLOCK + 50]:
        found = index.search(vector.tobytes(), 3)
        assert len(found) == 3
        assert all(number < 50 for number, _ in found)


def test_never_fewer_are_found_than_were_asked_for() -> None:
    pool = vectors(5000, dimensions=64)
    index = Nearest(64)
    for number, vector in enumerate(pool):
        index.add(number, vector.tobytes())
    assert {len(index.search(vector.tobytes(), 200)) for vector in pool[:100]} == {200}


@pytest.mark.parametrize(("dimensions", "pauses"), [(64, 0), (256, 0), (512, 2)])
def test_longer_codes_pause_after_fewer_blocks(dimensions: int, pauses: int) -> None:
    index = Nearest(dimensions, blocks_a_step=2)
    vector = np.ones(dimensions, dtype="<f4").tobytes()
    for number in range(BLOCK + 1):
        index.add(number, vector)
    assert len(list(index.steps(vector, 3))) == pauses
