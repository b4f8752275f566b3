"""Stretches of time on top of each other."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.overlap import doubled_s, length_s, shared_s, together

stretches = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 20)).map(lambda each: (float(each[0]), float(each[0] + each[1])))
)


def test_side_by_side_one_inside_the_other_and_apart():
    assert doubled_s([(0.0, 5.0), (2.0, 7.0)]) == 3.0
    assert doubled_s([(0.0, 5.0), (2.0, 3.0)]) == 1.0
    assert doubled_s([(0.0, 5.0), (6.0, 7.0)]) == 0.0
    assert shared_s((4.0, 8.0), [(0.0, 5.0), (7.0, 9.0)]) == 2.0


@given(stretches)
def test_every_moment_once(some):
    moments = {moment for begin, end in some for moment in range(int(begin), int(end))}
    joined = together(some)
    assert length_s(joined) == len(moments)
    assert doubled_s(some) == pytest.approx(sum(end - begin for begin, end in some) - len(moments))
    assert all(left[1] < right[0] for left, right in pairwise(joined))
