"""Vectors of short texts from the files that the package wordllama brings: one row for each token, and their mean.

The package itself is not imported: it costs 180 ms, and its own loader wants the network. A question takes some 20
microseconds, the files 16 MB of memory. Mean pooling was better than weighting by rarity.

The code of wordllama is under the MIT licence; its vectors were distilled from the token embeddings of models of the Llama
family, whose licence is their maker's (docs/semantic-cache.md).
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS = 256
_WEIGHTS = "wordllama/weights/l2_supercat_256.safetensors"
_TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
_MOST_CHARACTERS = 8000
_MOST_HEADER_BYTES = 1_000_000
_READ_BYTES = 1024 * 1024


class EmbedderMissing(Exception):
    """What is needed is not installed; the text tells what to install."""


class Embedder:
    """Turns a text into a vector of length 1, as float32. Opening it takes some 100 ms: not on Trio's thread."""

    def __init__(self, weights: Path, tokenizer: Path) -> None:
        self._rows = _read_rows(weights)
        self._tokenizer = _read_tokenizer(tokenizer)
        if self._tokenizer.get_vocab_size() > len(self._rows):
            raise ValueError("there are tokens without a vector")

    def vector(self, text: str) -> bytes | None:
        """Give `DIMENSIONS` little-endian float32; None for a text that has no tokens."""
        # A lone surrogate is nothing that the tokenizer takes.
        plain = text[:_MOST_CHARACTERS].casefold().encode("utf-8", "replace").decode("utf-8")
        # The tokens only, and not where they stood: half the time.
        (found,) = self._tokenizer.encode_batch_fast([plain], add_special_tokens=False)
        numbers = found.ids
        if not numbers:
            return None
        # A sum points where the mean points.
        return _of_length_one(self._rows.take(numbers, 0).sum(0, np.float32))


def _read_tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # barrier: the library raises nothing narrower for a file that it cannot read
        raise ValueError(str(error)) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # It would keep ten thousand texts, to find again what is never asked again, and prompts are not to be kept.
    tokenizer.model._resize_cache(0)  # noqa: SLF001 - in public only whoever has no file may say it
    return tokenizer


def _read_rows(path: Path) -> Any:
    """Read the one array of a file in the format safetensors: the length of a JSON header, the header, the numbers. Its own
    library would keep all threads from running meanwhile."""
    with path.open("rb", buffering=0) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MOST_HEADER_BYTES:
            raise ValueError("no header where one should be")
        (array,) = [told for name, told in json.loads(file.read(length)).items() if name != "__metadata__"]
        begin, end = array["data_offsets"]
        if array["dtype"] != "F16" or array["shape"][1] != DIMENSIONS:
            raise ValueError(f"holds {array['dtype']} {array['shape']}")
        file.seek(8 + length + begin)
        held = mmap.mmap(-1, end - begin)  # comes with zeros as it is touched; a bytearray is filled with them at once
        view = memoryview(held)
        while view:
            read = file.readinto(view[:_READ_BYTES])
            if not read:
                raise ValueError("ends too soon")
            view = view[read:]
    return np.frombuffer(held, dtype="<f2").reshape(array["shape"])


def unit(vector: bytes) -> bytes | None:
    """Give a vector (float32) the length 1; None for one that has no direction."""
    return _of_length_one(np.frombuffer(vector[: len(vector) // 4 * 4], dtype="<f4"))


def _of_length_one(row: Any) -> bytes | None:
    length = math.sqrt(row @ row)
    if not 0 < length < math.inf:
        return None
    packed: bytes = (row / np.float32(length)).tobytes()
    return packed


def open_embedder() -> Embedder:
    """Find the files where the package is installed. Raises `EmbedderMissing`."""
    remedy = "install the extra: pip install 'aiorch[daemon,semantic]'"
    try:
        listed = {str(file): file for file in files("wordllama") or ()}
    except PackageNotFoundError:
        raise EmbedderMissing(f"the package wordllama is not installed; {remedy}") from None
    places = [Path(str(listed[name].locate())) if name in listed else None for name in (_WEIGHTS, _TOKENIZER)]
    weights, tokenizer = places
    if weights is None or tokenizer is None or not (weights.is_file() and tokenizer.is_file()):
        raise EmbedderMissing(f"this release of wordllama does not bring {_WEIGHTS} and {_TOKENIZER}; {remedy}")
    try:
        return Embedder(weights, tokenizer)
    except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise EmbedderMissing(
            f"the files of wordllama cannot be read ({type(error).__name__}: {error}); {remedy}"
        ) from None
