"""What goes into a request's body, and what may not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from harness import a_target
from hypothesis import given
from hypothesis import strategies as st

from aiorch.errors import InvalidRequest
from aiorchd.providers.openai import OpenAiOptions
from aiorchd.providers.openai.request import encode_chat, encode_embeddings, max_tokens_field, strict_is_possible

OPTIONS = OpenAiOptions("https://api.example.com/v1")
MESSAGES = [{"role": "user", "content": "How many moons?", "unknown": [1, {"kept": True}], "name": "müller"}]


def chat(request: dict[str, Any], *, stream: bool = False, options: OpenAiOptions = OPTIONS, **target: Any) -> Any:
    request = {"messages": MESSAGES, **request}
    return json.loads(encode_chat(request, a_target(**target), options, stream=stream))


def test_the_least() -> None:
    assert chat({}) == {"model": "small-1", "messages": MESSAGES}


def test_everything() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    body = chat(
        {
            "tools": tools,
            "tool_choice": "auto",
            "temperature": 0,
            "max_tokens": 10,
            "seed": 7,
            "stop": ["x"],
            "extra": {"top_p": 0.5, "logprobs": True},
        },
        stream=True,
    )
    assert body == {
        "model": "small-1",
        "messages": MESSAGES,
        "tools": tools,
        "tool_choice": "auto",
        "temperature": 0,
        "max_tokens": 10,
        "seed": 7,
        "stop": ["x"],
        "top_p": 0.5,
        "logprobs": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_is_null_is_left_out() -> None:
    assert chat({"temperature": None, "tools": None, "extra": None, "max_tokens": None}) == {
        "model": "small-1",
        "messages": MESSAGES,
    }


def test_order_of_precedence() -> None:
    body = chat(
        {"temperature": 0.5, "extra": {"seed": 3, "service_tier": "flex"}},
        extra={"temperature": 1, "seed": 1, "service_tier": "default", "reasoning_effort": "low", "model": "evil"},
    )
    assert body["model"] == "small-1"
    assert (body["temperature"], body["seed"], body["service_tier"], body["reasoning_effort"]) == (
        0.5,
        3,
        "flex",
        "low",
    )


def test_usage_is_always_asked_for_in_a_stream() -> None:
    body = chat({"extra": {"stream_options": {"include_usage": False, "other": 1}}}, stream=True)
    assert body["stream_options"] == {"include_usage": True, "other": 1}


@pytest.mark.parametrize("name", ["model", "messages", "stream", "input"])
def test_extra_may_not_change_what_is_asked(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        chat({"extra": {name: "x"}})
    with pytest.raises(InvalidRequest, match="extra"):
        chat({"extra": ["x"]})


@pytest.mark.parametrize("value", [b"bytes", math.nan, math.inf, {1, 2}, 1j])
def test_what_json_cannot_say(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        chat({"extra": {"x": value}})


def test_nesting_without_end() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        chat({"extra": {"x": nested}})


def test_text_is_sent_as_utf_8_and_half_a_surrogate_as_its_escape() -> None:
    target = a_target()
    body = encode_chat({"messages": [{"role": "user", "content": "grüß 🌍"}]}, target, OPTIONS, stream=False)
    assert "grüß 🌍".encode() in body
    body = encode_chat({"messages": [{"role": "user", "content": "x\ud83d"}]}, target, OPTIONS, stream=False)
    assert json.loads(body)["messages"][0]["content"] == "x\ud83d"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "max_tokens"),
        ("gpt-4.1-mini", "max_tokens"),
        ("gpt-3.5-turbo", "max_tokens"),
        ("gpt-oss-120b", "max_tokens"),
        ("llama3.2", "max_tokens"),
        ("o1js", "max_tokens"),
        ("olmo", "max_tokens"),
        ("o1", "max_completion_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("o4-mini-2025-04-16", "max_completion_tokens"),
        ("openai/o3", "max_completion_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("gpt-5.1-chat", "max_completion_tokens"),
        ("GPT-5-nano", "max_completion_tokens"),
        ("gpt-10", "max_completion_tokens"),
        ("ft:o4-mini:org::id", "max_completion_tokens"),
    ],
)
def test_the_bound_on_the_answer_by_the_model_s_name(model: str, name: str) -> None:
    assert max_tokens_field(a_target(provider_model=model), OPTIONS) == name


def test_the_bound_on_the_answer_by_configuration() -> None:
    options = OpenAiOptions("https://x.example", max_tokens_field="max_completion_tokens")
    assert chat({"max_tokens": 5}, options=options)["max_completion_tokens"] == 5


STRICT = {
    "title": "A tag list!",
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}}, "of": {"$ref": "#/$defs/page"}},
    "required": ["of", "tags"],
    "additionalProperties": False,
    "$defs": {"page": {"type": "object", "properties": {}, "required": [], "additionalProperties": False}},
}


def test_a_schema_is_passed_on() -> None:
    body = chat({"output_schema": STRICT})
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "A_tag_list", "schema": STRICT, "strict": True},
    }
    loose = {"type": "object", "properties": {"tags": {}}}
    body = chat({"output_schema": loose})
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": loose, "strict": False}


def test_the_caller_s_own_response_format_wins() -> None:
    body = chat({"output_schema": STRICT, "extra": {"response_format": {"type": "text"}}})
    assert body["response_format"] == {"type": "text"}


def test_any_json() -> None:
    asked = [{"role": "user", "content": "Give JSON."}]
    assert chat({"output_schema": {}, "messages": asked})["response_format"] == {"type": "json_object"}
    assert chat({"output_schema": True, "messages": asked})["response_format"] == {"type": "json_object"}
    # Without the word in the messages OpenAI answers 400.
    assert "response_format" not in chat({"output_schema": {}})


def test_servers_that_know_no_schemas() -> None:
    older = OpenAiOptions("https://x.example", structured_output="json_object")
    asked = [{"role": "user", "content": "Give JSON."}]
    assert chat({"output_schema": STRICT, "messages": asked}, options=older)["response_format"] == {
        "type": "json_object"
    }
    oldest = OpenAiOptions("https://x.example", structured_output="none")
    assert "response_format" not in chat({"output_schema": STRICT, "messages": asked}, options=oldest)


@pytest.mark.parametrize(
    ("schema", "possible"),
    [
        (STRICT, True),
        ({**STRICT, "required": ["tags"]}, False),
        ({**STRICT, "additionalProperties": True}, False),
        ({"type": "array", "items": STRICT}, False),
        ({"anyOf": [STRICT]}, False),
        ({**STRICT, "anyOf": [STRICT]}, False),
        ({**STRICT, "allOf": [STRICT]}, False),
        ({**STRICT, "properties": {"tags": {"type": "object"}, "of": {}}}, False),
        ({**STRICT, "properties": {"tags": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "of": {}}}, True),
        ({**STRICT, "properties": {"tags": {"anyOf": [{"type": "object"}]}, "of": {}}}, False),
        ({**STRICT, "properties": {"tags": {"type": ["object", "null"]}, "of": {}}}, False),
        ({**STRICT, "properties": {"tags": True, "of": {}}}, False),
        ({**STRICT, "$defs": {"page": {"not": {}}}}, False),
        ({}, False),
        (True, False),
    ],
)
def test_when_strict_is_possible(schema: Any, possible: bool) -> None:
    assert strict_is_possible(schema) is possible


def test_a_schema_without_end_is_not_strict() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(10_000):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    assert strict_is_possible(schema) is False


def test_embeddings() -> None:
    target = a_target(extra={"user": "x"})
    body = json.loads(encode_embeddings({"input": ["a", "b"]}, target, OPTIONS))
    assert body == {"model": "small-1", "input": ["a", "b"], "encoding_format": "base64", "user": "x"}
    plain = OpenAiOptions("https://x.example", embedding_encoding="none")
    body = json.loads(encode_embeddings({"input": ["a"], "dimensions": 8, "extra": {"truncate": True}}, target, plain))
    assert body == {"model": "small-1", "input": ["a"], "dimensions": 8, "user": "x", "truncate": True}
    floats = OpenAiOptions("https://x.example", embedding_encoding="float")
    assert json.loads(encode_embeddings({"input": []}, target, floats))["encoding_format"] == "float"
    with pytest.raises(InvalidRequest):
        encode_embeddings({"input": ["a"], "extra": {"input": ["b"]}}, target, OPTIONS)


def test_what_serves_the_providers_prompt_cache_passes_untouched() -> None:
    mark = {"type": "ephemeral"}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "long", "cache_control": mark}]},
        {"role": "user", "content": "x", "cache_control": mark},
    ]
    extra = {"prompt_cache_key": "session-7", "prompt_cache_retention": "24h"}
    body = chat({"messages": messages, "extra": extra})
    assert body["messages"] == messages
    assert {name: body[name] for name in extra} == extra


@given(
    messages=st.lists(st.fixed_dictionaries({"role": st.text(), "content": st.text()}), min_size=1),
    stream=st.booleans(),
)
def test_texts_alone_are_written_as_everything_else_is(messages: Any, stream: bool) -> None:
    target = a_target()
    quick = encode_chat({"messages": messages}, target, OPTIONS, stream=stream)
    slow = encode_chat({"messages": messages, "seed": 1}, target, OPTIONS, stream=stream)
    assert quick == slow.replace(b',"seed":1', b"", 1)


@pytest.mark.parametrize("content", [b"bytes", {1, 2}, [b"bytes"]])
def test_what_is_no_text_is_not_written_as_one(content: Any) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        encode_chat({"messages": [{"role": "user", "content": content}]}, a_target(), OPTIONS, stream=False)
