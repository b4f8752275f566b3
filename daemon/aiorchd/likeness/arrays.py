"""All that needs arrays, in one object, opened when the semantic cache is first used."""

from __future__ import annotations

import os
from typing import Any

from aiorchd.core.semantic_model import Weights


class Arrays:
    """Satisfies `calls.ports.Arrays`; without an embedder it makes no vectors."""

    def __init__(self, embedder: Any, unit: Any, nearest: Any, fit: Any) -> None:
        self._embedder = embedder
        self._unit = unit
        self._nearest = nearest
        self._fit = fit

    def vector(self, text: str) -> bytes | None:
        """Give the vector of a text as little-endian float32 of length 1."""
        found: bytes | None = None if self._embedder is None else self._embedder.vector(text)
        return found

    def unit(self, vector: bytes) -> bytes | None:
        """Give a vector the length 1; None for one without direction, or that is none."""
        found: bytes | None = self._unit(vector)
        return found

    def nearest(self, dimensions: int) -> Any:
        """Make an empty index."""
        return self._nearest(dimensions)

    def fit(self, rows: bytes, labels: bytes) -> Weights:
        """Fit the model; for a worker thread."""
        fitted: Weights = self._fit(rows, labels)
        return fitted


def open_arrays(bundled: bool = True) -> Arrays:
    """Load the libraries and, when ``bundled``, the embedder that is installed; for a worker thread, some 200 ms. Raises
    `LookupError` with a sentence that says what to install."""
    # One text at a time is taken apart here, and one vector multiplied: more threads would only wait for each other, and
    # for the rest of the host.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import numpy as np  # noqa: F401 - whether it is there, before anything else of the room is imported

        from aiorchd.likeness.embedder import EmbedderMissing, open_embedder, unit
        from aiorchd.likeness.nearest import Nearest
        from aiorchd.likeness.regression import fit
    except ImportError as error:
        raise LookupError(
            f"{error.name} is not installed; install the extra: pip install 'aiorch[daemon,semantic]'"
        ) from None
    try:
        embedder = open_embedder() if bundled else None
    except EmbedderMissing as error:
        raise LookupError(str(error)) from None
    return Arrays(embedder, unit, Nearest, fit)
