"""Questions whose one right answer is known without asking, so that every reply can be checked. The simulator can add."""

from __future__ import annotations

from dataclasses import dataclass

_CLERK = (
    "You are a careful clerk. Answer with the number alone and nothing else, without any words or units around it, because "
    "the answer is read by a program that adds it to a table of results. Do not explain the steps. "
)


@dataclass(frozen=True, slots=True)
class Sum:
    """A prompt of some 300 bytes and the answer it must get."""

    prompt: str
    answer: str


def sum_of(number: int) -> Sum:
    """Another question for each number, with another answer than its neighbours."""
    left, right = 1000 + number % 1_000_003, 77 + number // 3
    return Sum(f"{_CLERK}This is sheet {number:08d}. What is {left} + {right}?", str(left + right))
