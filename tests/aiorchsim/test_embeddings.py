"""Embeddings as OpenAI answers them, over real HTTP."""

import base64
import math
import struct

import pytest


def vectors(answered):
    assert answered.status == 200, answered.body
    body = answered.json
    assert [entry["index"] for entry in body["data"]] == list(range(len(body["data"])))
    return [entry["embedding"] for entry in body["data"]]


def test_numbers(quick, ask):
    answered = ask(quick).embed(["How do I reset my password?", "how can I reset the password", "Weather in Paris"])
    first, second, third = vectors(answered)
    assert len(first) == 256
    assert math.isclose(
        math.sumprod(first, first) if hasattr(math, "sumprod") else sum(x * x for x in first), 1.0, rel_tol=1e-5
    )
    near = sum(a * b for a, b in zip(first, second, strict=True))
    far = sum(a * b for a, b in zip(first, third, strict=True))
    assert near > 0.8 > 0.3 > far
    assert answered.json["usage"] == {"prompt_tokens": 7 + 7 + 4, "total_tokens": 18}
    assert answered.json["object"] == "list"


def test_base64_holds_the_same_numbers(quick, ask):
    (numbers,) = vectors(ask(quick).embed("cats like milk", dimensions=64))
    (encoded,) = vectors(ask(quick).embed("cats like milk", dimensions=64, encoding_format="base64"))
    assert list(struct.unpack("<64f", base64.b64decode(encoded))) == numbers


def test_dimensions_of_the_profile_and_of_the_request(start, ask):
    asker = ask(start("[[models]]\nlatency_s = 0\nembedding_dimensions = 8\n"))
    assert len(vectors(asker.embed("x"))[0]) == 8
    assert len(vectors(asker.embed("x", dimensions=16))[0]) == 16


def test_tokens_instead_of_text(quick, ask):
    single = ask(quick).embed([1, 2, 3])
    assert len(vectors(single)) == 1
    assert single.json["usage"]["prompt_tokens"] == 3
    assert len(vectors(ask(quick).embed([[1, 2], [3]]))) == 2


@pytest.mark.parametrize(
    ("given", "more", "param"),
    [
        (None, {}, "input"),
        ([], {}, "input"),
        ("", {}, "input"),
        (["a", ""], {}, "input"),
        (["a", 5], {}, "input"),
        ([[]], {}, "input"),
        (5, {}, "input"),
        ({"a": 1}, {}, "input"),
        (["x"] * 2049, {}, "input"),
        ("x", {"dimensions": 0}, "dimensions"),
        ("x", {"dimensions": 5000}, "dimensions"),
        ("x", {"encoding_format": "hex"}, "encoding_format"),
        ("x", {"encoding_format": []}, "encoding_format"),
    ],
)
def test_bad_requests(quick, ask, given, more, param):
    answered = ask(quick).embed(given, **more)
    assert answered.status == 400
    assert answered.error["param"] == param
