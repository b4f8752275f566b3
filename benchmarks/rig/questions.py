"""What is asked: prompts of a known size whose right answer is known, so that every reply can be checked."""

import json
from dataclasses import dataclass
from pathlib import Path

MODEL = "small"

_CLERK = (
    "You are a careful clerk. Answer with the number alone and nothing else, without any words or units around it, because "
    "the answer is read by a program that adds it to a table of results. Do not explain the steps. "
)
_FILLER = "It was weighed, measured and entered in the book of the house by two clerks who did not know of each other. " * 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the one right answer."""

    prompt: str
    answer: str


def sum_of(number: int) -> Asked:
    """A question of some 300 bytes that the simulator works out; another one for each number."""
    left, right = 1000 + number % 1_000_003, 77 + number // 3
    return Asked(f"{_CLERK}This is sheet {number:08d}. What is {left} + {right}?", str(left + right))


def kept(count: int) -> list[Asked]:
    """Questions of some 300 bytes with answers of some 400, to be replayed."""
    return [
        Asked(f"{_CLERK}This is sheet {number:08d} of the book.", f"Sheet {number:08d}. {_FILLER}"[:400])
        for number in range(count)
    ]


def write_replay(path: Path, questions: list[Asked]) -> None:
    """Write the file from which the simulator answers them."""
    rows = [{"model": MODEL, "prompt": asked.prompt, "answer": asked.answer} for asked in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
