"""Recorded answers."""

import json
import tracemalloc
from array import array

import pytest

from aiorchsim.replay import Recorded, Replay, ReplayError, _hash


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def opened():
    replays = []

    def opener(path):
        replays.append(Replay.open(path))
        return replays[-1]

    yield opener
    for replay in replays:
        replay.close()


def test_rows_are_found_by_model_and_prompt(tmp_path, opened):
    rows = [
        {"model": "a", "prompt": "one", "answer": "A1", "input_tokens": 11, "output_tokens": 12, "latency_s": 0.5},
        {"model": "b", "prompt": "one", "answer": "B1"},
        {"model": "a", "prompt": "zwei ü \ud83d\ude00", "answer": "A2", "latency_s": None},
        {"model": "a", "prompt": "one", "answer": "again"},
    ]
    path = written(tmp_path / "rows.jsonl", rows)
    path.write_text("\n" + path.read_text() + "  \n")
    replay = opened(path)
    assert len(replay) == 4
    assert replay.models == ["a", "b"]
    assert replay.find("a", "one") == Recorded("A1", 11, 12, 0.5)
    assert replay.find("b", "one") == Recorded("B1", None, 1, None)
    assert replay.find("a", "zwei ü \U0001f600") == Recorded("A2", None, 1, None)
    assert replay.find("c", "one") is None
    assert replay.find("a", "two") is None
    assert replay.find("a", "\ud800") is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: must be an object with model, prompt and answer"),
        ('{"model": "a", "prompt": "p"}', "line 2: answer must be a string"),
        ('{"model": 1, "prompt": "p", "answer": ""}', "line 2: model must be a string"),
        ('{"model": "a", "prompt": "p", "answer": "", "input_tokens": 1.5}', "line 2: input_tokens must be a number"),
        ('{"model": "a", "prompt": "p", "answer": "", "latency_s": -1}', "line 2: latency_s must be a number"),
        ('{"model": "a", "prompt": "p", "answer": "", "latency_s": NaN}', "line 2: latency_s must be a number"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"model": "a", "prompt": "x", "answer": "y"}\n' + line + "\n")
    with pytest.raises(ReplayError, match=message):
        Replay.open(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n")
    with pytest.raises(ReplayError, match="there is no line in it"):
        Replay.open(path)


def test_a_file_that_was_changed_is_told(tmp_path, opened):
    path = written(tmp_path / "rows.jsonl", [{"model": "a", "prompt": "one", "answer": "A1"}])
    replay = opened(path)
    path.write_text("gone")
    with pytest.raises(ReplayError, match="changed while in use"):
        replay.find("a", "one")


def test_another_prompt_with_the_same_hash_is_not_taken_for_it(tmp_path):
    path = written(tmp_path / "rows.jsonl", [{"model": "a", "prompt": "one", "answer": "A1"}])
    with path.open("rb") as file:
        replay = Replay(file, array("Q", [_hash("a", "two")]), array("Q", [0]), ["a"])
        assert replay.find("a", "two") is None


def test_many_rows_cost_little_memory(tmp_path, opened):
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for number in range(20_000):
            file.write(
                json.dumps({"model": "m", "prompt": f"question {number} " + "x" * 300, "answer": "y" * 100}) + "\n"
            )
    tracemalloc.start()
    try:
        replay = opened(path)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 20_000 * 20 + 100_000
    found = replay.find("m", "question 19999 " + "x" * 300)
    assert found is not None
    assert found.answer == "y" * 100
