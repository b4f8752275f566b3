"""All that needs arrays, in one object, opened when the semantic cache is first used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from aiorchd.core.semantic_model import Row, Weights


class Arrays:
    """Satisfies `calls.ports.Arrays`."""

    def __init__(self, embedder: Any, nearest: Any, fit: Any) -> None:
        self._embedder = embedder
        self._nearest = nearest
        self._fit = fit

    def vector(self, text: str) -> bytes | None:
        """Give the vector of a text as little-endian float32 of length 1."""
        found: bytes | None = self._embedder.vector(text)
        return found

    def nearest(self) -> Any:
        """Make an empty index."""
        return self._nearest()

    def fit(self, rows: Sequence[Row], labels: Sequence[bool]) -> Weights:
        """Fit the model; for a worker thread."""
        fitted: Weights = self._fit(rows, labels)
        return fitted


def open_arrays() -> Arrays:
    """Load the libraries and the embedder; for a worker thread, some 200 ms. Raises `LookupError` with a sentence that says
    what to install."""
    # One vector at a time is multiplied here: more threads would only wait for each other, and for the rest of the host.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import numpy as np  # noqa: F401 - whether it is there, before anything else of the room is imported

        from aiorchd.likeness.embedder import DIMENSIONS, EmbedderMissing, open_embedder
        from aiorchd.likeness.nearest import Nearest
        from aiorchd.likeness.regression import fit
    except ImportError as error:
        raise LookupError(
            f"{error.name} is not installed; install the extra: pip install 'aiorch[daemon,semantic]'"
        ) from None
    try:
        embedder = open_embedder()
    except EmbedderMissing as error:
        raise LookupError(str(error)) from None
    return Arrays(embedder, lambda: Nearest(DIMENSIONS), fit)
