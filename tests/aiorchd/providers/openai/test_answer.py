"""Whole answers of many providers, as they send them: text, usage, and every field without a name here kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.calls.reply import Usage
from aiorchd.providers.answer import Unreadable, parse_json
from aiorchd.providers.openai.answer import read_chat

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden_answers(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    response, expected = case["response"], case["expected"]
    answer = read_chat(response)
    assert answer.text == expected["text"]
    assert list(answer.tool_calls) == expected["tool_calls"]
    assert answer.finish_reason == expected["finish_reason"]
    assert answer.provider_model == response["model"]
    assert answer.extra == expected["extra"]
    assert answer.usage == (None if expected["usage"] is None else Usage(**expected["usage"]))
    if answer.usage is not None:
        assert answer.usage.total == response["usage"]["total_tokens"]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (None, "not an object"),
        ([], "not an object"),
        ("text", "not an object"),
        ({}, "without any choice"),
        ({"choices": []}, "without any choice"),
        ({"choices": None}, "without any choice"),
        ({"choices": "x"}, "without any choice"),
        ({"choices": [None]}, "without any choice"),
        ({"choices": [{}]}, "no message"),
        ({"choices": [{"message": "x"}]}, "no message"),
        ({"choices": [{"message": {"content": 7}}]}, "neither text nor parts"),
        ({"choices": [{"message": {"content": {"a": 1}}}]}, "neither text nor parts"),
        ({"choices": [{"message": {"content": "", "tool_calls": {"a": 1}}}]}, "tool calls"),
        ({"choices": [{"message": {"content": "", "tool_calls": ["x"]}}]}, "tool calls"),
    ],
)
def test_nonsense(payload: Any, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read_chat(payload)


def test_little_is_enough() -> None:
    answer = read_chat({"choices": [{"message": {"content": "x"}}]})
    assert (answer.text, answer.finish_reason, answer.provider_model, answer.usage) == ("x", None, None, None)
    assert read_chat({"choices": [{"message": {}}]}).text == ""


def test_arguments_that_came_as_an_object_become_text() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": [1, "é"]}}}
    answer = read_chat({"choices": [{"message": {"content": None, "tool_calls": [call]}}]})
    assert json.loads(answer.tool_calls[0]["function"]["arguments"]) == {"a": [1, "é"]}
    assert answer.tool_calls[0]["id"] == "1"


@pytest.mark.parametrize(
    "text",
    ["", "{", "nonsense", '{"a": 1', "[" * 100_000, "1" * 10_000, b"\xff\xfe\x00", b'{"a": "\xff"}', '{"a": 1} extra'],
)
def test_broken_json(text: str | bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 150


def nested(depth: int) -> str:
    return '{"a":[' * (depth // 2) + "1" + "]}" * (depth // 2)


def test_how_deep_an_answer_may_be() -> None:
    assert parse_json(nested(64))
    assert parse_json(nested(64).encode())
    assert parse_json("[" + "[]," * 500 + "{}]")
    for depth in (66, 200, 700):
        with pytest.raises(Unreadable, match="nested too deeply"):
            parse_json(nested(depth))
        with pytest.raises(Unreadable, match="nested too deeply"):
            parse_json(nested(depth).encode())
    assert parse_json("3") == 3


NAMES = """choices message content tool_calls usage prompt_tokens prompt_tokens_details cached_tokens function arguments
finish_reason model text type index""".split()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


def test_what_is_passed_on_can_be_packed() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}, "seed": -(2**70)}
    message = {"content": "x", "tool_calls": [call]}
    answer = read_chat({"choices": [{"message": message}], "big": [2**64, 2**63 - 1, {"a": True}], "none": None})
    assert answer.extra == {"big": [str(2**64), 2**63 - 1, {"a": True}]}
    assert answer.tool_calls[0]["seed"] == str(-(2**70))
    msgpack.packb([answer.extra, answer.tool_calls])


@given(payload=json_values)
def test_any_json_is_an_answer_or_unreadable(payload: Any) -> None:
    try:
        answer = read_chat(payload)
    except Unreadable:
        return
    assert isinstance(answer.text, str)
    assert answer.finish_reason is None or isinstance(answer.finish_reason, str)
    msgpack.packb([answer.extra, answer.tool_calls])


def test_halves_of_characters_are_mended_wherever_they_stand() -> None:
    half = json.loads('"a\\ud800b"')
    call = {"id": half, "type": "function", "function": {"name": "f", "arguments": half}}
    message = {"content": json.loads('"\\ud83d\\ude00 \\udc00"'), "tool_calls": [call]}
    payload = {"model": half, half: [half], "choices": [{"finish_reason": half, "message": message}]}
    answer = read_chat(payload)
    assert answer.text == "😀 \ufffd"
    assert answer.finish_reason == answer.provider_model == "a\ufffdb"
    assert answer.extra == {"a\ufffdb": ["a\ufffdb"]}
    assert answer.tool_calls[0]["id"] == answer.tool_calls[0]["function"]["arguments"] == "a\ufffdb"
