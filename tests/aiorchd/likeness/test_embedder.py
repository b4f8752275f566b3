"""The embedder: the bundled files make vectors of length 1 in which likeness shows."""

from __future__ import annotations

from array import array
from math import hypot

import pytest

from aiorchd.likeness.arrays import Arrays, open_arrays
from aiorchd.likeness.embedder import DIMENSIONS, open_embedder


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return open_arrays()


def cosine(arrays: Arrays, one: str, other: str) -> float:
    first, second = (array("f", arrays.vector(text) or b"") for text in (one, other))
    return sum(a * b for a, b in zip(first, second, strict=True))


def test_vectors_are_of_length_one(arrays: Arrays) -> None:
    vector = array("f", arrays.vector("What is my balance?") or b"")
    assert len(vector) == DIMENSIONS
    assert hypot(*vector) == pytest.approx(1.0, abs=1e-5)


def test_what_is_alike_is_nearer(arrays: Arrays) -> None:
    near = cosine(arrays, "how do i reset my password", "I forgot my password, how can I reset it?")
    far = cosine(arrays, "how do i reset my password", "what is the weather in paris")
    assert near > 0.7 > far


def test_a_vector_is_the_mean_of_its_tokens() -> None:
    embedder = open_embedder()
    numbers = embedder._tokenizer.encode("what is my balance?", add_special_tokens=False).ids
    mean = embedder._rows[numbers].astype("<f8").mean(axis=0)
    expected = mean / hypot(*mean)
    assert list(array("f", embedder.vector("What is my balance?") or b"")) == pytest.approx(list(expected), abs=1e-6)


def test_bad_texts_have_no_vector_or_some_vector(arrays: Arrays) -> None:
    assert arrays.vector("") is None
    assert arrays.vector("\ud800 lone") is not None
    assert arrays.vector("x" * 10_000_000) is not None
