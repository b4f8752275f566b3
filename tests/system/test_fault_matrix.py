"""Every named fault, plain and streamed, in each dialect, through a real daemon: each line of docs/faults.md is a test."""

from __future__ import annotations

import fault_matrix
import pytest
from fault_matrix import CASES, DIALECTS, PAGE, Outcome, each

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, str, str], Outcome]:
    return fault_matrix.run()


def test_no_fault_of_the_simulator_is_left_out() -> None:
    assert fault_matrix.missing() == []
    assert len({case.fault for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("dialect", "case", "way"), [pytest.param(*one, id=fault_matrix.key_of(*one)) for one in each(tuple(DIALECTS))]
)
def test_what_becomes_of_it(
    outcomes: dict[tuple[str, str, str], Outcome], dialect: str, case: fault_matrix.Case, way: str
) -> None:
    assert outcomes[dialect, case.fault, way] == case.expected(dialect, way)


def test_the_page_tells_what_became_of_them(outcomes: dict[tuple[str, str, str], Outcome]) -> None:
    assert PAGE.read_text(encoding="utf-8") == fault_matrix.page(outcomes), "make faults writes it anew"
