"""A dict in parts is a dict, in the order of its parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.parted_dict import PartedDict

steps = st.lists(st.tuples(st.sampled_from(["set", "pop"]), st.integers(0, 30), st.integers()))


@given(steps)
def test_it_does_what_a_dict_does(steps: list[tuple[str, int, int]]) -> None:
    plain: dict[int, int] = {}
    parted: PartedDict[int, int] = PartedDict(lambda key: key >> 2)
    for step, key, value in steps:
        if step == "set":
            plain[key] = parted[key] = value
        else:
            assert parted.pop(key) == plain.pop(key, None)
        assert parted.get(key) == plain.get(key)
        assert (key in parted) == (key in plain)
        assert len(parted) == len(plain)
    assert {key: parted[key] for key in parted} == plain
    assert sorted(parted.values()) == sorted(plain.values())


@given(st.lists(st.integers(0, 199), unique=True))
def test_numbers_that_count_up_stay_in_order(gone: list[int]) -> None:
    parted: PartedDict[int, str] = PartedDict(lambda number: number >> 4)
    for number in range(200):
        parted[number] = str(number)
    for number in gone:
        parted.pop(number)
    left = [number for number in range(200) if number not in gone]
    assert list(parted) == left
    assert list(parted.values()) == [str(number) for number in left]


def test_no_part_is_large_and_empty_ones_go() -> None:
    parted: PartedDict[int, int] = PartedDict(lambda number: number >> 4)
    for number in range(1000):
        parted[number] = number
        if number >= 100:
            parted.pop(number - 100)
    assert len(parted) == 100
    assert max(map(len, parted._parts.values())) <= 16
    assert len(parted._parts) <= 8
