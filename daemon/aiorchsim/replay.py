"""Recorded answers, so that public tables of real models' answers can be asked for over HTTP.

A JSONL file: one object a line with `model`, `prompt`, `answer`, and optionally `input_tokens`, `output_tokens`,
`latency_s`. Kept in memory is only where each line is (16 bytes a line, sorted by a hash of model and prompt); a line
is read and decoded again when it is asked for, so a hundred thousand rows cost some megabytes. Of several lines with
the same model and prompt the first counts.
"""

import json
import math
from array import array
from bisect import bisect_left
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Self

from aiorchsim.textwork import text_tokens


class ReplayError(Exception):
    """The file cannot be used; the message names the line and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded answer; tokens are counted by the simulator's rule where the file does not say, latency is then
    the model's.
    """

    answer: str
    input_tokens: int | None
    output_tokens: int
    latency_s: float | None


class Replay:
    """An open file of recorded answers and the index of its lines."""

    def __init__(self, file: BinaryIO, hashes: "array[int]", offsets: "array[int]", models: list[str]) -> None:
        self._file = file
        self._hashes = hashes
        self._offsets = offsets
        self.models = models

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the whole file once, checking every line. Raises ReplayError, or OSError when it cannot be read."""
        found: list[tuple[int, int]] = []
        models: dict[str, None] = {}
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb"))
            offset = 0
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    row = _row(line, f"{path}, line {number}")
                    models.setdefault(row["model"])
                    found.append((_hash(row["model"], row["prompt"]), offset))
                offset += len(line)
            if not found:
                raise ReplayError(f"{path}: there is no line in it")
            opened.pop_all()  # it stays open
        found.sort()
        return cls(file, array("Q", [key for key, _ in found]), array("Q", [place for _, place in found]), list(models))

    def __len__(self) -> int:
        return len(self._offsets)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def find(self, model: str, prompt: str) -> Recorded | None:
        """The recorded answer of a model to a prompt, or None. Raises ReplayError when the file changed under us."""
        wanted = _hash(model, prompt)
        position = bisect_left(self._hashes, wanted)
        while position < len(self._hashes) and self._hashes[position] == wanted:
            self._file.seek(self._offsets[position])
            row = _row(self._file.readline(), "the replay file, which was changed while in use")
            if row["model"] == model and row["prompt"] == prompt:
                answer = row["answer"]
                return Recorded(
                    answer, row.get("input_tokens"), row.get("output_tokens", text_tokens(answer)), row.get("latency_s")
                )
            position += 1
        return None


def _hash(model: str, prompt: str) -> int:
    material = f"{model}\0{prompt}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(material, digest_size=8).digest(), "little")


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ReplayError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ReplayError(f"{where}: must be an object with model, prompt and answer")
    for key in ("model", "prompt", "answer"):
        if not isinstance(row.get(key), str):
            raise ReplayError(f"{where}: {key} must be a string")
    for key, kind in (("input_tokens", int), ("output_tokens", int), ("latency_s", (int, float))):
        value = row.get(key)
        if value is None:
            row.pop(key, None)
        elif isinstance(value, bool) or not isinstance(value, kind) or value < 0 or not math.isfinite(value):
            raise ReplayError(f"{where}: {key} must be a number that is not negative")
    return row
