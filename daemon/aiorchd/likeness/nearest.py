"""The nearest vectors of one scope: exact by numpy while they are few, by a graph (usearch, int8) when they are many.

Rows lie in blocks, so that growing copies nothing; a search goes through them all. From `MANY` on that takes longer than
a lookup may, and a graph is built, in a worker thread, by `Nearest.grow`; what is added meanwhile is in the blocks and is
added to the graph at the end. Until then, and where usearch is not installed, the blocks go on serving. The graph finds
candidates; their likeness is computed from the vectors themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BLOCK = 2048
_FIRST_ROWS = 8
MANY = 20_000
_WIDER = 4
"""Of a graph so many times the wanted number are asked for, since it sees them coarsely."""


class Nearest:
    """Vectors by number. All methods belong to one thread, but for the function that `grow` gives."""

    def __init__(self, dimensions: int, *, many: int = MANY) -> None:
        self._dimensions = dimensions
        self._many = many
        self._blocks: list[Any] = []
        self._numbers: list[Any] = []
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        self._graph: Any = None
        self._growing = False
        self._since: dict[int, bool] = {}
        """While a graph is built: what was added (True) and removed (False) meanwhile."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def graph(self) -> bool:
        """Whether a graph is searched."""
        return self._graph is not None

    @property
    def wants_graph(self) -> bool:
        """Whether there are so many that one should be built now."""
        return self._graph is None and not self._growing and len(self._places) >= self._many

    @property
    def growing(self) -> bool:
        """Whether one is being built."""
        return self._growing

    def add(self, number: int, vector: bytes) -> None:
        """Put one in; ``vector`` is float32 of length 1."""
        if number in self._places:
            self.remove(number)
        place = self._free.pop() if self._free else len(self._places)
        block, row = divmod(place, BLOCK)
        self._make_room(block, row)
        self._blocks[block][row] = np.frombuffer(vector, dtype="<f4")
        self._numbers[block][row] = number
        self._places[number] = place
        if self._growing:
            self._since[number] = True
        elif self._graph is not None:
            self._graph.add(number, self._blocks[block][row], threads=1)

    def remove(self, number: int) -> None:
        """Take one out; nothing happens when it is not there."""
        place = self._places.pop(number, None)
        if place is None:
            return
        block, row = divmod(place, BLOCK)
        self._blocks[block][row] = 0.0
        self._numbers[block][row] = -1
        self._free.append(place)
        if self._growing:
            self._since[number] = False
        elif self._graph is not None:
            self._graph.remove(number)

    def search(self, vector: bytes, count: int) -> list[tuple[int, float]]:
        """Give the numbers and cosines of the nearest, the nearest first."""
        if not self._places:
            return []
        wanted = np.frombuffer(vector, dtype="<f4")
        if self._graph is not None:
            matches = self._graph.search(wanted, min(count * _WIDER, len(self._places)), threads=1)
            found = [int(number) for number in matches.keys if int(number) in self._places]
            scored = [(number, float(self._vector(number) @ wanted)) for number in found]
            return sorted(scored, key=lambda each: (-each[1], each[0]))[:count]
        likeness = np.concatenate([block @ wanted for block in self._blocks])
        numbers = np.concatenate(self._numbers) if len(self._numbers) > 1 else self._numbers[0]
        likeness[numbers < 0] = -2.0
        count = min(count, len(self._places))
        best = np.argpartition(likeness, -count)[-count:]
        best = best[np.argsort(-likeness[best], kind="stable")]
        return [(int(numbers[place]), float(likeness[place])) for place in best]

    def grow(self) -> Any:
        """Begin to build a graph: gives a function for a worker thread, whose result goes to `grown`."""
        self._growing = True
        self._since = {}
        numbers = np.concatenate(self._numbers)
        # Views: a row that is overwritten meanwhile is added anew at the end.
        return _Building(self._dimensions, list(self._blocks), numbers)

    def grown(self, graph: Any) -> None:
        """Take the graph (None: there is none, and none is tried again)."""
        self._growing = False
        since, self._since = self._since, {}
        if graph is None:
            self._many = 1 << 62
            return
        for number, there in since.items():
            if number in graph:
                graph.remove(number)
            if there and number in self._places:
                graph.add(number, self._vector(number), threads=1)
        self._graph = graph

    def _make_room(self, block: int, row: int) -> None:
        """Most scopes are small, so a block begins so and doubles until it is whole."""
        if block == len(self._blocks):
            rows = _FIRST_ROWS if block == 0 else BLOCK
            self._blocks.append(np.zeros((rows, self._dimensions), dtype=np.float32))
            self._numbers.append(np.full(rows, -1, dtype=np.int64))
        elif row >= len(self._numbers[block]):
            rows = len(self._numbers[block])
            self._blocks[block] = np.concatenate((self._blocks[block], np.zeros_like(self._blocks[block])))
            self._numbers[block] = np.concatenate((self._numbers[block], np.full(rows, -1, dtype=np.int64)))

    def _vector(self, number: int) -> Any:
        block, row = divmod(self._places[number], BLOCK)
        return self._blocks[block][row]


class _Building:
    """The work of a thread."""

    def __init__(self, dimensions: int, blocks: Sequence[Any], numbers: Any) -> None:
        self._dimensions = dimensions
        self._blocks = blocks
        self._numbers = numbers

    def __call__(self) -> Any:
        try:
            from usearch.index import Index
        except ImportError:
            return None
        graph = Index(ndim=self._dimensions, metric="cos", dtype="i8", connectivity=16, expansion_add=64)
        for index, block in enumerate(self._blocks):
            numbers = self._numbers[index * BLOCK : (index + 1) * BLOCK]
            there = numbers >= 0
            if there.any():
                graph.add(numbers[there], block[there], threads=1)
        return graph
