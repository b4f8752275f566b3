"""Vectors in either form, in any order, one for each input."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from aiorchd.providers.answer import Unreadable
from aiorchd.providers.openai.embeddings import read_vectors


def packed(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def text(*values: float) -> str:
    return base64.b64encode(packed(*values)).decode()


def test_base64_and_numbers_are_the_same() -> None:
    data = [{"index": 1, "embedding": [0.5, -1, 2]}, {"index": 0, "embedding": text(0.25, 0, 1e-3)}]
    assert read_vectors({"data": data}, 2, None) == (packed(0.25, 0, 1e-3), packed(0.5, -1, 2))
    assert read_vectors({"data": data}, 2, 3) == (packed(0.25, 0, 1e-3), packed(0.5, -1, 2))


def test_without_indexes_the_order_is_the_inputs() -> None:
    assert read_vectors({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}, 2, None) == (packed(1), packed(2))


def test_nothing_asked_nothing_answered() -> None:
    assert read_vectors({"data": []}, 0, None) == ()


@pytest.mark.parametrize(
    ("payload", "dimensions", "words"),
    [
        (None, None, "without any vectors"),
        ({"data": {}}, None, "without any vectors"),
        ({"data": [{"embedding": [1.0]}]}, None, "1 vectors for 2 inputs"),
        ({"data": [7, 8]}, None, "not an object"),
        ({"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}, None, "indexes"),
        ({"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]}, None, "indexes"),
        ({"data": [{"index": 0, "embedding": [1.0]}, {"index": -1, "embedding": [1.0]}]}, None, "indexes"),
        ({"data": [{"index": True, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}, None, "indexes"),
        ({"data": [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}]}, None, "2 dimensions where 1 were due"),
        ({"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]}, 2, "1 dimensions where 2 were due"),
        ({"data": [{"embedding": []}, {"embedding": [1.0]}]}, None, "empty"),
        ({"data": [{"embedding": None}, {"embedding": [1.0]}]}, None, "empty"),
        ({"data": [{"embedding": ["x"]}, {"embedding": [1.0]}]}, None, "numbers"),
        ({"data": [{"embedding": "not base64!"}, {"embedding": [1.0]}]}, None, "not base64"),
        ({"data": [{"embedding": base64.b64encode(b"12345").decode()}, {"embedding": [1.0]}]}, None, "cut off"),
        ({"data": [{"embedding": ""}, {"embedding": [1.0]}]}, None, "cut off"),
    ],
)
def test_nonsense(payload: Any, dimensions: int | None, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read_vectors(payload, 2, dimensions)
