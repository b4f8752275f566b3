"""Vectors as we keep them: little-endian float32. Pure."""

from __future__ import annotations

import array
import sys
from typing import Any

from aiorchd.providers.answer import Unreadable


def packed_vector(raw: Any) -> bytes:
    """Pack a list of numbers; raises `Unreadable`."""
    if not isinstance(raw, list) or not raw:
        raise Unreadable("with an empty vector")
    try:
        values = array.array("f", raw)
    except (TypeError, OverflowError) as error:
        raise Unreadable("with a vector that does not hold numbers") from error
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def same_length(vectors: tuple[bytes, ...], dimensions: int | None) -> tuple[bytes, ...]:
    """Give the vectors if all are of one length: the one that was asked for, when one was; raises `Unreadable`."""
    length = dimensions * 4 if dimensions is not None else len(vectors[0]) if vectors else 0
    for vector in vectors:
        if len(vector) != length:
            raise Unreadable(f"with a vector of {len(vector) // 4} dimensions where {length // 4} were due")
    return vectors
