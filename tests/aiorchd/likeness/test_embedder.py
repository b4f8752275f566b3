"""The embedder: the bundled files make vectors of length 1 in which likeness shows."""

from __future__ import annotations

import json
from array import array
from importlib.metadata import files
from math import hypot
from pathlib import Path

import pytest

from aiorchd.likeness.arrays import Arrays, open_arrays
from aiorchd.likeness.embedder import DIMENSIONS, EmbedderMissing, open_embedder


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


def release(folder: Path, weights: bytes, tokenizer: str) -> None:
    """Lay down what a release of wordllama looks like once installed."""
    contents = {
        "wordllama/weights/l2_supercat_256.safetensors": weights,
        "wordllama/tokenizers/l2_supercat_tokenizer_config.json": tokenizer.encode(),
        "wordllama-9.dist-info/METADATA": b"Metadata-Version: 2.1\nName: wordllama\nVersion: 9\n",
    }
    contents["wordllama-9.dist-info/RECORD"] = "".join(f"{name},,\n" for name in contents).encode()
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def table(rows: int) -> bytes:
    numbers = bytes(rows * DIMENSIONS * 2)
    array = {"dtype": "F16", "shape": [rows, DIMENSIONS], "data_offsets": [0, len(numbers)]}
    header = json.dumps({"a": array}).encode()
    return len(header).to_bytes(8, "little") + header + numbers


def installed_tokenizer() -> str:
    (found,) = (file for file in files("wordllama") or () if file.name == "l2_supercat_tokenizer_config.json")
    return Path(str(found.locate())).read_text()


OF_WORDS = json.dumps({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "added_tokens": []})


@pytest.mark.parametrize(
    ("weights", "tokenizer", "why"),
    [
        (table(1), "", "EOF while parsing"),
        (table(1), '{"model": 1}', "cannot be read"),
        (table(1), OF_WORDS, "_resize_cache"),
        (table(1), None, "tokens without a vector"),
        (b"\x02" + bytes(7) + b"[]", OF_WORDS, "AttributeError"),
        (b"", OF_WORDS, "cannot be read"),
    ],
)
def test_files_of_another_release_or_damaged_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bytes, tokenizer: str | None, why: str
) -> None:
    release(tmp_path, weights, installed_tokenizer() if tokenizer is None else tokenizer)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EmbedderMissing, match=why):
        open_embedder()
