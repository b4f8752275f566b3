"""Read an embeddings answer: vectors as numbers or as base64 of little-endian float32, in any order. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from aiorchd.providers.answer import Unreadable
from aiorchd.providers.vectors import packed_vector, same_length


def read_vectors(payload: Any, count: int, dimensions: int | None) -> tuple[bytes, ...]:
    """Give one vector per input in the order of the inputs, as little-endian float32; raises `Unreadable`.

    Every input must have exactly one vector, all of one length: the one that was asked for, when one was.
    """
    data = payload.get("data") if isinstance(payload, Mapping) else None
    if not isinstance(data, list):
        raise Unreadable("without any vectors")
    if len(data) != count:
        raise Unreadable(f"with {len(data)} vectors for {count} inputs")
    vectors: list[bytes | None] = [None] * count
    for position, entry in enumerate(data):
        if not isinstance(entry, Mapping):
            raise Unreadable("with a vector that is not an object")
        index = entry.get("index", position)
        if (
            not isinstance(index, int)
            or isinstance(index, bool)
            or not 0 <= index < count
            or vectors[index] is not None
        ):
            raise Unreadable("with vectors whose indexes do not fit the inputs")
        vectors[index] = _vector(entry.get("embedding"))
    complete = tuple(vector for vector in vectors if vector is not None)
    return same_length(complete, dimensions)


def _vector(raw: Any) -> bytes:
    if isinstance(raw, str):
        try:
            data = base64.b64decode(raw, validate=True)
        except ValueError as error:
            raise Unreadable("with a vector that is not base64") from error
        if not data or len(data) % 4:
            raise Unreadable("with a vector that is cut off")
        return data
    return packed_vector(raw)
