"""What is sent to Anthropic for a question in our normal form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import a_target

from aiorch.errors import InvalidRequest, UnknownModel
from aiorchd.providers.anthropic import AnthropicDialect, AnthropicOptions
from aiorchd.providers.anthropic.request import DEFAULT_MAX_TOKENS, encode_chat
from aiorchd.providers.dialect import WireRequest

USER = {"role": "user", "content": "Hi"}
TAGS = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 3}},
    "required": ["tags"],
}
CLOSED = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["tags"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it", "parameters": {"type": "object", "properties": {}}},
}
ASKED_FOR_WEATHER = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}],
}


def written(
    request: dict[str, Any], *, stream: bool = False, extra: Any = None, most: int | None = None, **options: Any
) -> WireRequest:
    dialect = AnthropicDialect(AnthropicOptions(**options))
    target = a_target(extra=extra or {}, max_output_tokens=most)
    return dialect.chat_request({"messages": [USER], **request}, target, stream=stream)


def body(request: dict[str, Any], **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(written(request, **options).body)
    return made


def sent(*messages: Any) -> tuple[Any, Any]:
    made = body({"messages": list(messages)})
    return made["messages"], made.get("system")


def test_the_plainest() -> None:
    assert body({}) == {"model": "small-1", "messages": [USER], "max_tokens": DEFAULT_MAX_TOKENS}


def test_every_field() -> None:
    request = {
        "temperature": 0.5,
        "max_tokens": 10,
        "stop": ["a", "b"],
        "extra": {"top_k": 5, "thinking": {"type": "adaptive"}},
    }
    assert body(request, stream=True) == {
        "model": "small-1",
        "messages": [USER],
        "temperature": 0.5,
        "max_tokens": 10,
        "stop_sequences": ["a", "b"],
        "top_k": 5,
        "thinking": {"type": "adaptive"},
        "stream": True,
    }


def test_the_bound_of_the_answer() -> None:
    assert body({}, extra={"max_tokens": 32000})["max_tokens"] == 32000
    assert body({"max_tokens": 5}, extra={"max_tokens": 32000})["max_tokens"] == 5
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert body({"extra": thinking})["max_tokens"] == DEFAULT_MAX_TOKENS + 2000
    assert body({}, most=4096)["max_tokens"] == 4096
    assert body({}, most=64000)["max_tokens"] == DEFAULT_MAX_TOKENS
    assert body({"extra": thinking}, most=9000)["max_tokens"] == 9000
    assert body({"extra": {"thinking": {"budget_tokens": True}}})["max_tokens"] == DEFAULT_MAX_TOKENS


def test_system_messages_go_to_their_field() -> None:
    assert sent({"role": "system", "content": "Be brief."}, USER) == ([USER], "Be brief.")
    two = ({"role": "system", "content": "A"}, USER, {"role": "developer", "content": [{"type": "text", "text": "B"}]})
    assert sent(*two) == ([USER], [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}])
    marked = {"role": "system", "content": "A", "cache_control": {"type": "ephemeral"}}
    assert sent(marked, USER)[1] == [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}]
    with pytest.raises(InvalidRequest, match="needs one from the user"):
        sent({"role": "system", "content": "A"})


def test_cache_control_stays_where_it_is() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    parts = [{"type": "text", "text": "long", "cache_control": mark}, {"type": "text", "text": "short"}]
    assert sent({"role": "user", "content": parts})[0] == [{"role": "user", "content": parts}]
    assert sent({"role": "user", "content": "x", "cache_control": mark})[0][0]["content"] == [
        {"type": "text", "text": "x", "cache_control": mark}
    ]
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}, "cache_control": mark}
    assert sent({"role": "user", "content": [image]})[0][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}, "cache_control": mark}
    ]
    assert body({"tools": [{**WEATHER, "cache_control": mark}]})["tools"][0]["cache_control"] == mark
    called = sent(USER, {**ASKED_FOR_WEATHER, "cache_control": mark})[0][1]["content"]
    assert called[-1]["cache_control"] == mark
    assert body({"extra": {"cache_control": mark}})["cache_control"] == mark


def test_images_and_files() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "as it is"}},
    ]
    assert sent({"role": "user", "content": parts})[0][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
        parts[2],
    ]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("x", r"messages\[0\]: must be a map"),
        ({"role": "function", "content": "x"}, r"messages\[0\].role: must be"),
        ({"role": "user", "content": 7}, r"messages\[0\].content: must be text or"),
        ({"role": "user", "content": ["x"]}, r"messages\[0\].content\[0\]: must be a map"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]}, "not audio/wav"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "input_audio.data: must be base64"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://hunter2"}}]}, "image_url.url: must be a data URL"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:nonsense"}}]}, "is no data URL"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "must be a data URL or an address"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, "ids of files belong to one provider"),
        ({"role": "tool", "content": "x"}, "tool_call_id: must name the call"),
        ({"role": "assistant", "tool_calls": "x"}, "tool_calls: must be a list"),
        ({"role": "assistant", "tool_calls": [{}]}, r"tool_calls\[0\].function.name: must be text"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{hunter2"}}]}, "this is not JSON"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, "must be a JSON object"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be_sent_are_named(message: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        sent(message)
    assert "hunter2" not in caught.value.message


def test_tools_there_and_back() -> None:
    answers = [
        {"role": "tool", "tool_call_id": "t1", "content": "Rain"},
        {"role": "tool", "tool_call_id": "t2", "content": "", "is_error": True},
        {"role": "user", "content": "And tomorrow?"},
    ]
    messages, _ = sent(USER, {**ASKED_FOR_WEATHER, "content": "Let me see."}, *answers)
    assert messages == [
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "Rain"},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": True},
                {"type": "text", "text": "And tomorrow?"},
            ],
        },
    ]


def test_what_an_answer_held_goes_back_as_it_was() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
    ]
    messages, _ = sent(USER, {**ASKED_FOR_WEATHER, "content": content})
    assert messages[1] == {"role": "assistant", "content": [content[0], content[2]]}
    assert sent(USER, {"role": "assistant", "content": ""}, USER)[0] == [USER, USER]


def test_tools_and_choices() -> None:
    native = {"type": "web_search_20250305", "name": "web_search"}
    made = body({"tools": [WEATHER, native], "tool_choice": "required"})
    assert made["tools"] == [
        {"name": "weather", "description": "Tells it", "input_schema": {"type": "object", "properties": {}}},
        native,
    ]
    assert made["tool_choice"] == {"type": "any"}
    strict = {"type": "function", "function": {"name": "f", "strict": True}}
    assert body({"tools": [strict]})["tools"] == [
        {"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True}
    ]
    for given, expected in (
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"type": "any", "disable_parallel_tool_use": True}),
    ):
        assert body({"tools": [WEATHER], "tool_choice": given})["tool_choice"] == expected
    assert "tool_choice" not in body({"tool_choice": "auto"})
    parallel = {"tools": [WEATHER], "extra": {"parallel_tool_calls": False}}
    assert body(parallel)["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    for bad in ("sometimes", {"type": "function"}):
        with pytest.raises(InvalidRequest, match="tool_choice: must be"):
            body({"tools": [WEATHER], "tool_choice": bad})
    for tools in (
        {"a": 1},
        ["x"],
        [{"type": "function", "function": {}}],
        [{"type": "function", "function": {"name": "f", "parameters": 1}}],
    ):
        with pytest.raises(InvalidRequest, match="tools"):
            body({"tools": tools})


# --- structured output -----------------------------------------------------------------------------------------------


def test_a_schema_is_passed_on_in_the_part_that_anthropic_takes() -> None:
    made = body({"output_schema": TAGS})
    assert made["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}}
    made = body({"output_schema": TAGS, "extra": {"output_config": {"effort": "low"}}})
    assert made["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": CLOSED}}
    own = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert body({"output_schema": TAGS, "extra": {"output_config": own}})["output_config"] == own
    assert "output_config" not in body({"output_schema": TAGS}, structured_output="none")


NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "array", "items": {"type": "string"}},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "number"}},
        {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": True}}},
        {"type": "object", "properties": {"a": {"not": {"type": "string"}}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"$ref": "https://elsewhere.example/s"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": NODE}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
    ],
)
def test_what_anthropic_cannot_say_is_asked_for_by_a_tool(schema: Any) -> None:
    asked = written({"output_schema": schema})
    made = json.loads(asked.body)
    assert asked.answer_tool
    assert "output_config" not in made
    [tool] = made["tools"]
    assert made["tool_choice"] == {"type": "tool", "name": tool["name"]}
    if tool["name"] == "aiorch_answer":
        assert tool["input_schema"] == schema
    else:
        assert tool["input_schema"]["required"] == ["answer"]
        assert tool["input_schema"]["properties"]["answer"] == (schema if isinstance(schema, dict) else {})


def test_definitions_stay_at_the_root_of_the_tool() -> None:
    schema = {"type": "array", "items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"type": "string"}}}
    [tool] = body({"output_schema": schema})["tools"]
    assert tool["input_schema"]["$defs"] == {"x": {"type": "string"}}
    assert tool["input_schema"]["properties"]["answer"] == {"type": "array", "items": {"$ref": "#/$defs/x"}}


def test_the_answer_tool_beside_others() -> None:
    made = body({"output_schema": TAGS}, structured_output="tool")
    assert made["tools"][0]["input_schema"] == TAGS
    both = body({"output_schema": TAGS, "tools": [WEATHER]}, structured_output="tool")
    assert [tool["name"] for tool in both["tools"]] == ["weather", "aiorch_answer"]
    assert both["tool_choice"] == {"type": "any"}
    none = body({"output_schema": TAGS, "tools": [WEATHER], "tool_choice": "none"}, structured_output="tool")
    assert [tool["name"] for tool in none["tools"]] == ["aiorch_answer"]
    chosen = {"type": "function", "function": {"name": "weather"}}
    asked = written({"output_schema": TAGS, "tools": [WEATHER], "tool_choice": chosen}, structured_output="tool")
    assert not asked.answer_tool
    thinks = {"extra": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
    assert body({"output_schema": TAGS, **thinks}, structured_output="tool")["tool_choice"] == {"type": "auto"}


# --- what is kept for others ----------------------------------------------------------------------------------------

KEPT = {"cache_control": {"type": "ephemeral"}}
SYSTEM = {"role": "system", "content": "Be brief."}


def recurring(request: dict[str, Any], **options: Any) -> Any:
    asked = {"messages": [SYSTEM, USER], **request}
    return json.loads(encode_chat(asked, a_target(), AnthropicOptions(**options), stream=False, recurring=True).body)


def test_a_beginning_that_recurs_is_marked_at_the_end_of_the_system_prompt() -> None:
    made = recurring({"tools": [WEATHER]})
    assert made["system"] == [{"type": "text", "text": "Be brief.", **KEPT}]
    assert "cache_control" not in json.dumps([made["tools"], made["messages"]])
    two = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    made = recurring({"messages": [{"role": "system", "content": two}, USER]})
    assert made["system"] == [two[0], {**two[1], **KEPT}]
    assert recurring({}, prompt_cache="none")["system"] == "Be brief."


def test_without_a_system_prompt_the_last_tool_is_marked() -> None:
    made = recurring({"messages": [USER], "tools": [WEATHER, WEATHER]})
    assert ["cache_control" in tool for tool in made["tools"]] == [False, True]
    assert "cache_control" not in json.dumps(recurring({"messages": [USER]}))


@pytest.mark.parametrize(
    "own",
    [
        {"messages": [{**SYSTEM, **KEPT}, USER]},
        {"messages": [SYSTEM, {"role": "user", "content": [{"type": "text", "text": "Hi", **KEPT}]}]},
        {"tools": [{**WEATHER, **KEPT}]},
        {"extra": KEPT},
    ],
)
def test_whoever_marks_something_himself_is_left_alone(own: dict[str, Any]) -> None:
    assert json.dumps(recurring(own)).count("cache_control") == 1


# --- what others have ------------------------------------------------------------------------------------------------


def test_what_has_no_field_is_left_out_and_told() -> None:
    asked = written({"seed": 7, "extra": {"prompt_cache_key": "k", "store": False, "metadata": {"a": "b"}}})
    assert json.loads(asked.body) == {"model": "small-1", "messages": [USER], "max_tokens": DEFAULT_MAX_TOKENS}
    assert asked.not_sent == ("seed", "prompt_cache_key", "store", "metadata")
    asked = written({"extra": {"user": "u-1", "metadata": {"user_id": "m-1"}}})
    assert (json.loads(asked.body)["metadata"], asked.not_sent) == ({"user_id": "m-1"}, ())
    assert body({"extra": {"user": "u-1"}})["metadata"] == {"user_id": "u-1"}
    assert body({"extra": {"reasoning_effort": "low"}})["output_config"] == {"effort": "low"}
    assert body({"extra": {"something_new": [1]}})["something_new"] == [1]


def test_beta_features_travel_in_a_header() -> None:
    for given in ("a-2025, b-2025", ["a-2025", "b-2025"]):
        for name in ("anthropic-beta", "betas"):
            asked = written({"extra": {name: given}})
            assert asked.headers == ((b"anthropic-beta", b"a-2025,b-2025"),)
            assert name not in json.loads(asked.body)
    configured = {"Anthropic-Beta": "c-2025,a-2025"}
    assert written({"extra": {"betas": ["a-2025"]}}, headers=configured).headers == (
        (b"anthropic-beta", b"c-2025,a-2025"),
    )
    assert written({}, extra={"betas": ["a-2025"]}).headers == ((b"anthropic-beta", b"a-2025"),)
    for bad in (7, ["a b"], ["é"], ["a\r\nx: y"], [7]):
        with pytest.raises(InvalidRequest, match="names of beta features"):
            written({"extra": {"betas": bad}})


@pytest.mark.parametrize("name", ["model", "messages", "stream", "system"])
def test_what_extra_may_not_set(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"extra may not set '{name}'"):
        body({"extra": {name: 1}})


def test_there_are_no_embeddings() -> None:
    with pytest.raises(UnknownModel, match="has no embeddings"):
        AnthropicDialect(AnthropicOptions()).embed_request({"input": ["a"]}, a_target())


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.deepseek.com/anthropic/", "https://api.deepseek.com/anthropic/v1/messages"),
    ],
)
def test_addresses(base_url: str, url: str) -> None:
    endpoint = written({}, base_url=base_url).endpoint
    assert f"{endpoint.origin.scheme}://{endpoint.origin.authority}{endpoint.target.decode()}" == url


def test_an_address_that_cannot_work() -> None:
    with pytest.raises(ValueError):
        AnthropicDialect(AnthropicOptions("no address"))


def test_a_request_as_large_as_it_gets_is_written() -> None:
    nested: Any = "x"
    for _ in range(50):
        nested = [nested]
    assert encode_chat({"messages": [USER], "extra": {"x": nested}}, a_target(), AnthropicOptions(), stream=False).body
