"""Arguments are checked by name; what is wrong is told with its remedy, what other clients cannot help is taken."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.errors import CallError, InvalidRequest
from aiorchd.doors.arguments import named_arguments, parse_complete, parse_embed


def test_a_prompt_becomes_a_message() -> None:
    question = parse_complete({"prompt": "hi"})
    assert question.request == {"messages": [{"role": "user", "content": "hi"}]}
    assert question.kind == "chat"


@pytest.mark.parametrize("params", [[], [{}], [None], [[]]])
def test_no_arguments_come_in_several_forms(params: list[Any]) -> None:
    assert named_arguments(params) == {}


@pytest.mark.parametrize("params", [[1], ["x"], [{}, {}], [b"x"]])
def test_params_must_hold_one_map(params: list[Any]) -> None:
    with pytest.raises(InvalidRequest, match="params: "):
        named_arguments(params)


WRONG = [
    ({}, "prompt: missing"),
    ({"prompt": ""}, "prompt: must not be empty"),
    ({"prompt": 3}, "prompt: must be text"),
    ({"prompt": "x", "messages": []}, "not both"),
    ({"messages": []}, "messages: must be a list"),
    ({"messages": ["x"]}, r"messages\[0\]: must be a map"),
    ({"messages": [{"content": "x"}]}, r"messages\[0\].role"),
    ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\].content"),
    (
        {"messages": [{"role": "user", "content": [{"a": float("nan")}]}]},
        r"messages\[0\].content\[0\].a: must be a finite",
    ),
    ({"prompt": "x", "modle": "y"}, "modle: no such argument; did you mean model"),
    ({"prompt": "x", "temperature": "hot"}, "temperature: must be a finite number"),
    ({"prompt": "x", "temperature": float("inf")}, "temperature: must be a finite number"),
    ({"prompt": "x", "temperature": True}, "temperature: must be"),
    ({"prompt": "x", "temperature": -1}, "temperature: must be between"),
    ({"prompt": "x", "max_tokens": 0}, "max_tokens: must be a whole number"),
    ({"prompt": "x", "max_tokens": 1.5}, "max_tokens: must be a whole number"),
    ({"prompt": "x", "timeout_s": 0}, "timeout_s: must be more than 0"),
    ({"prompt": "x", "timeout_s": -3}, "timeout_s: must be more than 0"),
    ({"prompt": "x", "timeout_s": float("nan")}, "timeout_s: must be a finite"),
    ({"prompt": "x", "cache": "maybe"}, "cache: must be one of use, refresh, bypass, only"),
    ({"prompt": "x", "priority": 3}, "priority: must be one of"),
    ({"prompt": "x", "stream": True}, "call_id: a streamed call needs one"),
    ({"prompt": "x", "stream": "yes"}, "stream: must be true or false"),
    ({"prompt": "x", "call_id": [1]}, "call_id: must be text or an integer"),
    ({"prompt": "x", "notify": []}, "notify: must be an array"),
    ({"prompt": "x", "tags": "a"}, "tags: must be a list"),
    ({"prompt": "x", "tags": [""]}, r"tags\[0\]"),
    ({"prompt": "x", "model": "m" * 300}, "model: must have at most 256"),
    ({"prompt": "x", "tools": [3]}, r"tools\[0\]"),
    ({"prompt": "x", "output_schema": "s"}, "output_schema: must be a JSON Schema"),
    ({"prompt": "x", "extra": {"a": b"x"}}, "extra.a"),
    ({"prompt": "x", "extra": {b"a": 1}}, "extra: map keys must be text"),
    ({"prompt": "x", "stop": ["", "a"]}, "stop: must be"),
    ({"prompt": "x", "seed": 1.5}, "seed: must be a whole number"),
    ({"prompt": "x", "quality_threshold": 2}, "quality_threshold: must be between 0 and 1"),
    ({"prompt": "x", "cost_limit": -1}, "cost_limit: must not be negative"),
    ({"prompt": "x", "input": {}}, "input: belongs to an operation"),
    ({"operation": "tag_page"}, "input: missing"),
    ({"operation": "tag_page", "input": "x", "prompt": "y"}, "prompt: send prompt, or operation with input"),
    ({"operation": "tag_page", "input": "x", "messages": []}, "messages: send messages, or operation with input"),
    ({"operation": "tag_page", "input": {"a": math.nan}}, "input.a: must be a finite number"),
    ({"operation": "tag_page", "input": {"a": b"x"}}, "input.a: "),
    ({"operation": 7, "input": "x"}, "operation: must be text"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=[says for _, says in WRONG])
def test_what_is_wrong_is_named(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        parse_complete(arguments)


def test_an_operation_with_its_input() -> None:
    question = parse_complete({"operation": "tag_page", "input": {"a": [1, "\udcff"]}, "max_tokens": 5})
    assert (question.operation, question.input) == ("tag_page", {"a": [1, "\ufffd"]})
    assert question.request == {"max_tokens": 5}


def test_other_clients_types_are_taken() -> None:
    question = parse_complete(
        {
            "prompt": "x",
            "timeout_s": 3,
            "max_tokens": 5.0,
            "extra": [],
            "tools": [],
            "stream": 1,
            "call_id": 7,
            "stop": "a",
        }
    )
    assert (question.timeout_s, question.stream, question.call_id) == (3.0, True, 7)
    assert question.request["max_tokens"] == 5
    assert question.request["stop"] == ["a"]
    assert "extra" not in question.request
    assert "tools" not in question.request


def test_text_that_is_not_utf8_is_repaired_not_refused() -> None:
    broken = b"caf\xe9 \xed\xa0\x80 ok".decode(errors="surrogateescape")
    content = parse_complete({"prompt": broken}).request["messages"][0]["content"]
    content.encode()
    assert content.startswith("caf\N{REPLACEMENT CHARACTER}")
    assert content.endswith(" ok")
    assert parse_complete({"prompt": "a\ud800b"}).request["messages"][0]["content"].isprintable()


@pytest.mark.parametrize("name", ["partition", "key"])
def test_what_keeps_questions_apart_is_not_repaired(name: str) -> None:
    """Two partitions named in Latin-1 would become one."""
    for broken in (b"M\xfcller".decode(errors="surrogateescape"), "\ud800"):
        with pytest.raises(InvalidRequest, match=f"{name}: must be valid UTF-8"):
            parse_complete({"prompt": "x", name: broken})
    assert getattr(parse_complete({"prompt": "x", name: "M\u00fcller \ufffd"}), name) == "M\u00fcller \ufffd"
    with pytest.raises(InvalidRequest, match="partition: must be valid UTF-8"):
        parse_embed({"input": "x", "partition": "\ud800"})


def test_names_that_would_be_one_when_repaired_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"extra\.a: has two names that are one"):
        parse_complete({"prompt": "x", "extra": {"a": dict.fromkeys(("\ud800", "\ud801"), 1)}})


def test_user_and_metadata_travel_with_extra() -> None:
    question = parse_complete({"prompt": "x", "user": "u1", "metadata": {"a": 1}, "extra": {"top_p": 1}})
    assert question.request["extra"] == {"user": "u1", "metadata": {"a": 1}, "top_p": 1}


def test_deep_nesting_is_refused() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="nested deeper"):
        parse_complete({"prompt": "x", "extra": {"a": deep}})


def test_embed_takes_one_text_or_many() -> None:
    assert parse_embed({"input": "a"}).request == {"input": ["a"]}
    question = parse_embed({"input": ["a", "b"], "encoding": "bytes", "dimensions": 8})
    assert question.vectors_as_bytes
    assert question.request == {"input": ["a", "b"], "dimensions": 8}
    for wrong in ({}, {"input": []}, {"input": [1]}, {"input": [""]}, {"input": ["a"], "encoding": "csv"}):
        with pytest.raises(InvalidRequest):
            parse_embed(wrong)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.binary(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(
    "prompt messages operation input model task quality_threshold cost_limit timeout_s priority stream cache cache_ttl_s cache_samples "
    "batch session partition key call_id notify tags output_schema tools tool_choice temperature max_tokens seed stop extra".split()
)


@given(st.dictionaries(NAMES, ANYTHING, max_size=6))
def test_any_junk_is_taken_or_refused_by_name(arguments: dict[str, Any]) -> None:
    try:
        parse_complete(arguments)
    except CallError as error:
        assert ": " in str(error)


@given(
    st.dictionaries(
        st.sampled_from(["input", "model", "dimensions", "encoding", "tags", "cache"]), ANYTHING, max_size=6
    )
)
def test_any_junk_to_embed_is_taken_or_refused_by_name(arguments: dict[str, Any]) -> None:
    try:
        parse_embed(arguments)
    except CallError as error:
        assert ": " in str(error)


@pytest.mark.parametrize(("given", "batch"), [({}, True), ({"batch": True}, True), ({"batch": False}, False)])
def test_whether_it_may_be_asked_together_with_others(given: dict[str, Any], batch: bool) -> None:
    assert parse_complete({"prompt": "hi", **given}).batch is batch


def test_a_stream_is_not_asked_together_with_others() -> None:
    with pytest.raises(InvalidRequest, match="batch: a streamed call is never batched"):
        parse_complete({"prompt": "hi", "stream": True, "call_id": 1, "batch": True})
    with pytest.raises(InvalidRequest, match="batch: must be true or false"):
        parse_complete({"prompt": "hi", "batch": "yes"})
