"""The nearest vectors of one scope: all of them compared while they are few, candidates by their signs when they are many.

Idea. The signs of a vector's components are a code of one bit each, and of two vectors at an angle t the share of bits that
differ tends to t / pi (Charikar 2002, similarity by random hyperplanes; the components of an embedding serve as well as
drawn ones). A code is a thirty-second of the vector, so going through a hundred thousand takes a third of a millisecond;
those with the fewest differing bits are then compared by the vectors themselves. How many must be, for the nearest to be
among them, grows with how many there are; see `CANDIDATES`. There is nothing to build and nothing to wait for: a vector that
is put in is found by the next search.

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
_SMALL_ROWS: Final = 512
"""So far a block doubles; then it becomes whole, which costs no memory before it is used."""
MANY: Final = 4_096
"""From so many on codes are used: to compare all would take longer."""
_CODES_AHEAD: Final = 8
"""Codes are begun when there are so many times fewer: those of all that are there are made in one go."""
CANDIDATES: Final = 256
"""About so many at most are compared by their vectors, which lie far apart in memory: the dearest part of a search. Fewer while
fewer than 20,480 are there: one in `_ONE_OF`, and `_FEWEST`. All that are as near as a sample says are taken, half as many to
twice as many. On CLINC150, by how many questions were kept and in which order, the nearest was left
out for one or two of 1000 (five at most), and for hardly any that had one with a cosine of 0.5."""
_ONE_OF: Final = 80
_FEWEST: Final = 128
_SAMPLED: Final = 8
"""Where the limit of distance lies is told by one place of so many."""
BLOCKS_A_STEP: Final = 4
"""Between two pauses, with `_WORDS_A_STEP` in a code; fewer where codes are longer."""
_WORDS_A_STEP: Final = 4
_WORD_BITS: Final = 64
_BYTE: Final = 256


class Nearest:
    """Vectors by number. All methods belong to one thread."""

    def __init__(
        self,
        dimensions: int,
        *,
        many: int = MANY,
        candidates: int = CANDIDATES,
        blocks_a_step: int = BLOCKS_A_STEP,
    ) -> None:
        self._dimensions = dimensions
        self._many = many
        self._candidates = candidates
        self._words = -(-dimensions // _WORD_BITS)
        self._blocks_a_step = max(1, blocks_a_step * _WORDS_A_STEP // max(_WORDS_A_STEP, self._words))
        # All 256 bits may differ, and that counts as none in a byte: its very opposites are candidates, too.
        self._distance_type = np.uint8 if dimensions <= _BYTE else np.uint16
        self._vectors: list[Any] = []
        self._codes: list[Any] = []
        """By block, one row for each 64 components; of use from ``many`` on."""
        self._numbers: list[int] = []
        """By place."""
        self._places: PartedDict[int, int] = PartedDict(lambda number: number >> 12)
        self._xor: Any = None
        self._bits: Any = None

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
        """Search like `search`, and pause after some tenths of a millisecond each. What is put in or taken out in a pause is
        found or not."""
        wanted = np.frombuffer(vector, dtype="<f4")
        rows = len(self._numbers)
        if rows < self._many or not self._codes:
            return self._best(range(rows), self._all(wanted), count)
        distances: Any = np.empty(rows, dtype=self._distance_type)
        code = self._code_of(wanted)
        for number, block in enumerate(self._codes[: -(-rows // BLOCK)]):
            if number and number % self._blocks_a_step == 0:
                yield
            self._measure(block, code, distances[number * BLOCK : (number + 1) * BLOCK])
        if rows > self._blocks_a_step * BLOCK:
            yield
        places = self._closest(distances[: len(self._numbers)], count)
        return self._best(places, self._cosines(places, wanted), count)

    # inside

    def _all(self, wanted: Any) -> Any:
        rows = len(self._numbers)
        blocks = self._vectors[: -(-rows // BLOCK)]  # there may be more: none is given back
        parts = [block[: rows - index * BLOCK] @ wanted for index, block in enumerate(blocks)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def _cosines(self, places: Any, wanted: Any) -> Any:
        """Compare the vectors at some places, which are in order."""
        if len(self._vectors) == 1:
            return self._vectors[0].take(places, 0) @ wanted
        ends = places.searchsorted(np.arange(BLOCK, (len(self._vectors) + 1) * BLOCK, BLOCK)).tolist()
        parts, start = [], 0
        for number, end in enumerate(ends):
            parts.append(self._vectors[number].take(places[start:end] - number * BLOCK, 0) @ wanted)
            start = end
        return np.concatenate(parts)

    def _best(self, places: Any, cosines: Any, count: int) -> list[tuple[int, float]]:
        count = min(count, len(cosines))
        if not count:
            return []
        best = cosines.argpartition(-count)[-count:]
        best = best[(-cosines[best]).argsort(kind="stable")]
        return [
            (self._numbers[places[at]], cosine)
            for at, cosine in zip(best.tolist(), cosines[best].tolist(), strict=True)
        ]

    def _measure(self, block: Any, code: Any, distances: Any) -> None:
        """Count the bits in which each code of a block differs."""
        if self._xor is None:
            self._xor = np.empty(BLOCK, dtype=np.uint64)
            self._bits = np.empty(BLOCK, dtype=np.uint8)
        rows = len(distances)
        differing, bits = self._xor[:rows], self._bits[:rows]
        for word in range(self._words):
            np.bitwise_xor(block[word, :rows], code[word], differing)
            np.bitwise_count(differing, bits)
            if word:
                np.add(distances, bits, distances)
            else:
                distances[:] = bits

    def _closest(self, distances: Any, count: int) -> Any:
        """Give the places with the least distances, in order: about as many as are wanted."""
        rows = len(distances)
        wanted = max(count, min(self._candidates, max(_FEWEST, rows // _ONE_OF)))
        if wanted >= rows:
            return np.arange(rows)
        near: Any = (distances <= _limit(distances[::_SAMPLED], wanted // _SAMPLED)).nonzero()[0]
        if max(count, wanted // 2) <= len(near) <= 2 * wanted:
            return near
        # The sample was not like the rest, or very many are equally far: count all, and take the first of those at the limit.
        limit = _limit(distances, wanted)
        near = (distances < limit).nonzero()[0]
        return np.sort(np.concatenate((near, (distances == limit).nonzero()[0][: wanted - len(near)])))

    def _write(self, place: int, vector: Any) -> None:
        block, row = divmod(place, BLOCK)
        self._make_room(block, row)
        self._vectors[block][row] = vector
        if self._codes:
            if block == len(self._codes):
                self._codes.append(np.zeros((self._words, BLOCK), dtype=np.uint64))
            self._codes[block][:, row] = self._code_of(vector)

    def _begin_codes(self) -> None:
        for index, vectors in enumerate(self._vectors):
            used = vectors[: len(self._numbers) - index * BLOCK]
            codes: Any = np.zeros((self._words, BLOCK), dtype=np.uint64)
            codes[:, : len(used)] = self._code_of(used).T
            self._codes.append(codes)

    def _code_of(self, rows: Any) -> Any:
        """Give the words of one vector, or of each of some."""
        packed = np.packbits(rows > 0, axis=-1)
        if self._dimensions % _WORD_BITS:
            whole: Any = np.zeros((*packed.shape[:-1], self._words * _WORD_BITS // 8), dtype=np.uint8)
            whole[..., : packed.shape[-1]] = packed
            packed = whole
        return packed.view(np.uint64)

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


def _limit(distances: Any, count: int) -> int:
    """Give the least distance up to which more than ``count`` lie, or all."""
    return int(np.bincount(distances).cumsum().searchsorted(min(count, len(distances) - 1), "right"))


def _empty_rows(rows: int, dimensions: int) -> Any:
    if rows < BLOCK:
        return np.zeros((rows, dimensions), dtype=np.float32)
    # Whole blocks of small pages: numpy asks for huge ones, and the first touch of each stands still for 5 ms.
    memory = mmap.mmap(-1, rows * dimensions * 4)
    with suppress(AttributeError, OSError):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=np.float32).reshape(rows, dimensions)
