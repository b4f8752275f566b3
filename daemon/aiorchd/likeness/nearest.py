"""The nearest vectors of one scope: all of them compared while they are few, candidates by their signs when they are many.

Idea. The signs of a vector's components are a code of one bit each, and of two vectors at an angle t the share of bits that
differ tends to t / pi (Charikar 2002, similarity by random hyperplanes; the components of an embedding serve as well as
drawn ones). A code is a thirty-second of the vector, so going through a hundred thousand takes a third of a millisecond;
the few hundred with the fewest differing bits are then compared by the vectors themselves. On CLINC150 the nearest was among
them for 999 of 1000 questions. There is nothing to build and nothing to wait for: a vector that is put in is found by the
next search, at the same price however many there are.

Rows lie in blocks, so that growing copies next to nothing, and without gaps: who is taken out leaves its place to the last.
"""

from __future__ import annotations

import mmap
from collections.abc import Generator
from contextlib import suppress
from typing import Any, Final

import numpy as np

from aiorchd.core.parted_dict import PartedDict

BLOCK: Final = 16_384
_FIRST_ROWS: Final = 8
_SMALL_ROWS: Final = 2_048
"""So far a block doubles; then it becomes whole, which costs no memory before it is used."""
MANY: Final = 4_096
"""From so many on codes are used: to compare all would take longer."""
_CODES_AHEAD: Final = 8
"""Codes are begun when there are so many times fewer: those of all that are there are made in one go."""
CANDIDATES: Final = 400
_BLOCKS_A_STEP: Final = 3
_WORD: Final = 8


class Nearest:
    """Vectors by number. All methods belong to one thread."""

    def __init__(self, dimensions: int, *, many: int = MANY, candidates: int = CANDIDATES) -> None:
        self._dimensions = dimensions
        self._many = many
        self._candidates = candidates
        self._words = -(-dimensions // (8 * _WORD))
        self._vectors: list[Any] = []
        self._codes: list[Any] = []
        """By block, one row for each 64 components; of use from ``many`` on."""
        self._numbers: list[int] = []
        """By place."""
        self._places: PartedDict[int, int] = PartedDict(lambda number: number >> 12)
        self._xor: Any = np.empty(BLOCK, dtype=np.uint64)
        self._bits: Any = np.empty(BLOCK, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has here."""
        return self._dimensions

    def add(self, number: int, vector: bytes) -> None:
        """Put one in; ``vector`` is little-endian float32 of length 1. Raises `ValueError` for another number of dimensions."""
        row = np.frombuffer(vector, dtype="<f4")
        if len(row) != self._dimensions:
            raise ValueError(f"a vector of {len(row)} dimensions, not {self._dimensions}")
        place = self._places.get(number)
        if place is None:
            place = self._places[number] = len(self._numbers)
            self._numbers.append(number)
        self._write(place, row)
        if not self._codes and len(self._numbers) * _CODES_AHEAD >= self._many:
            self._begin_codes()

    def remove(self, number: int) -> None:
        """Take one out; nothing happens when it is not there."""
        place = self._places.pop(number)
        if place is None:
            return
        last = len(self._numbers) - 1
        moved = self._numbers.pop()
        if place != last:
            self._numbers[place] = moved
            self._places[moved] = place
            block, row = divmod(last, BLOCK)
            self._write(place, self._vectors[block][row].copy())

    def search(self, vector: bytes, count: int) -> list[tuple[int, float]]:
        """Give the numbers and cosines of the nearest, the nearest first."""
        steps = self.steps(vector, count)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: list[tuple[int, float]] = end.value
                return found

    def steps(self, vector: bytes, count: int) -> Generator[None, None, list[tuple[int, float]]]:
        """Search like `search`, and pause about every millisecond. What is put in or taken out in a pause is found or not."""
        wanted = np.frombuffer(vector, dtype="<f4")
        if len(self._numbers) < self._many or not self._codes:
            return self._best(range(len(self._numbers)), self._all(wanted), count)
        distances: Any = np.empty(len(self._codes) * BLOCK, dtype=np.uint16)
        code = self._code_of(wanted[None, :])[:, 0]
        blocks = list(self._codes)
        for number, block in enumerate(blocks):
            if number and number % _BLOCKS_A_STEP == 0:
                yield
            self._measure(block, code, distances[number * BLOCK : (number + 1) * BLOCK])
        if len(blocks) >= _BLOCKS_A_STEP:
            yield
        places = self._closest(distances[: min(len(self._numbers), len(blocks) * BLOCK)], max(count, self._candidates))
        near = np.concatenate(
            [
                self._vectors[block][places[(places >= block * BLOCK) & (places < (block + 1) * BLOCK)] - block * BLOCK]
                for block in range(len(self._vectors))
            ]
        )
        return self._best(places, near @ wanted, count)

    # inside

    def _all(self, wanted: Any) -> Any:
        rows = len(self._numbers)
        parts = [block[: rows - index * BLOCK] @ wanted for index, block in enumerate(self._vectors)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def _best(self, places: Any, cosines: Any, count: int) -> list[tuple[int, float]]:
        count = min(count, len(cosines))
        if not count:
            return []
        best = np.argpartition(cosines, -count)[-count:]
        best = best[np.argsort(-cosines[best], kind="stable")]
        return [(self._numbers[int(places[at])], float(cosines[at])) for at in best]

    def _measure(self, block: Any, code: Any, distances: Any) -> None:
        """Count the bits in which each code of a block differs."""
        for word in range(self._words):
            np.bitwise_xor(block[word], code[word], out=self._xor)
            np.bitwise_count(self._xor, out=self._bits)
            if word:
                distances += self._bits
            else:
                distances[:] = self._bits

    def _closest(self, distances: Any, wanted: int) -> Any:
        """Give the places with the least distances, in order; of those at the limit the first ones."""
        counts = np.cumsum(np.bincount(distances, minlength=1))
        limit = int(np.searchsorted(counts, min(wanted, len(distances))))
        near = np.flatnonzero(distances < limit)
        return np.sort(np.concatenate((near, np.flatnonzero(distances == limit)[: wanted - len(near)])))

    def _write(self, place: int, vector: Any) -> None:
        block, row = divmod(place, BLOCK)
        self._make_room(block, row)
        self._vectors[block][row] = vector
        if self._codes:
            if block == len(self._codes):
                self._codes.append(np.zeros((self._words, BLOCK), dtype=np.uint64))
            self._codes[block][:, row] = self._code_of(vector[None, :])[:, 0]

    def _begin_codes(self) -> None:
        for index, vectors in enumerate(self._vectors):
            used = vectors[: len(self._numbers) - index * BLOCK]
            codes: Any = np.zeros((self._words, BLOCK), dtype=np.uint64)
            codes[:, : len(used)] = self._code_of(used)
            self._codes.append(codes)

    def _code_of(self, rows: Any) -> Any:
        packed = np.packbits(rows > 0, axis=1)
        whole: Any = np.zeros((len(rows), self._words * _WORD), dtype=np.uint8)
        whole[:, : packed.shape[1]] = packed
        return whole.view(np.uint64).T

    def _make_room(self, block: int, row: int) -> None:
        """Most scopes are small, so a block begins so, and doubles for a while."""
        if block == len(self._vectors):
            rows = _FIRST_ROWS if block == 0 else BLOCK
            self._vectors.append(_empty_rows(rows, self._dimensions))
        elif row >= len(self._vectors[block]):
            rows = len(self._vectors[block])
            larger = _empty_rows(2 * rows if rows < _SMALL_ROWS else BLOCK, self._dimensions)
            larger[:rows] = self._vectors[block]
            self._vectors[block] = larger


def _empty_rows(rows: int, dimensions: int) -> Any:
    if rows < BLOCK:
        return np.zeros((rows, dimensions), dtype=np.float32)
    # Whole blocks of small pages: numpy asks for huge ones, and the first touch of each stands still for 5 ms.
    memory = mmap.mmap(-1, rows * dimensions * 4)
    with suppress(AttributeError, OSError):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=np.float32).reshape(rows, dimensions)
