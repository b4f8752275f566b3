"""Vectors: of length one, the same for the same text, near for like texts."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork import embed


def cosine(left, right, dimensions=256):
    return sum(a * b for a, b in zip(embed(left, dimensions), embed(right, dimensions), strict=True))


def test_like_texts_are_near_and_unlike_ones_far():
    question = "How do I reset my password?"
    assert cosine(question, question) > 0.999
    assert cosine(question, "how can I reset the password") > 0.8
    assert cosine(question, "How do I reset my passwords?") > 0.65
    assert cosine(question, "What is the weather in Paris today?") < 0.3
    assert cosine(question, "how can I reset the password") > cosine(question, "where is my parcel")


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(1, 600))
def test_vectors_have_length_one(text, dimensions):
    vector = embed(text, dimensions)
    assert len(vector) == dimensions
    assert math.isclose(math.fsum(value * value for value in vector), 1.0, rel_tol=1e-9)
    assert vector == embed(text, dimensions)


def test_texts_without_words_differ_too():
    assert embed("!!!", 64) != embed("???", 64)
    assert embed("\ud800", 64)
