"""What is asked: prompts of a known size whose right answer is known, so that every reply can be checked."""

import json
from pathlib import Path

from sums import Sum as Asked
from sums import sum_of

__all__ = ["MODEL", "Asked", "kept", "sum_of", "write_replay"]

MODEL = "small"

_PAGE = "Read the page with this number in the book of the house, and say word by word what is written there. " * 2
_FILLER = (
    "It was weighed, measured and entered in the book of the house by two clerks who knew nothing of each other. " * 4
)


def kept(count: int) -> list[Asked]:
    """Questions of some 300 bytes with answers of 400, to be replayed."""
    return [
        Asked(f"{_PAGE}This is sheet {number:08d}.", f"Sheet {number:08d}. {_FILLER}"[:400]) for number in range(count)
    ]


def write_replay(path: Path, questions: list[Asked]) -> None:
    """Write the file from which the simulator answers them."""
    rows = [{"model": MODEL, "prompt": asked.prompt, "answer": asked.answer} for asked in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
