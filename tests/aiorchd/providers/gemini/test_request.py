"""What is sent to Gemini for a question in our normal form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import a_target

from aiorch.errors import InvalidRequest
from aiorchd.providers.dialect import WireRequest
from aiorchd.providers.gemini import GeminiDialect, GeminiOptions

USER = {"role": "user", "content": "Hi"}
HI = {"role": "user", "parts": [{"text": "Hi"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it", "parameters": SCHEMA}}


def call(id_: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}, **more}


def written(request: dict[str, Any], *, stream: bool = False, extra: Any = None, model: str = "gemini-2.5-flash", **options: Any) -> WireRequest:  # fmt: skip
    target = a_target(extra=extra or {}, provider_model=model)
    return GeminiDialect(GeminiOptions(**options)).chat_request({"messages": [USER], **request}, target, stream=stream)


def body(request: dict[str, Any], **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(written(request, **options).body)
    return made


def url_of(asked: WireRequest) -> str:
    return f"{asked.endpoint.origin.scheme}://{asked.endpoint.origin.authority}{asked.endpoint.target.decode()}"


@pytest.mark.parametrize(
    ("base_url", "model", "url"),
    [
        ("https://g.example/v1beta", "gemini-2.5-flash", "https://g.example/v1beta/models/gemini-2.5-flash"),
        ("https://g.example", "models/gemini-2.5-flash", "https://g.example/v1beta/models/gemini-2.5-flash"),
        ("https://g.example/v1/", "tunedModels/mine", "https://g.example/v1/tunedModels/mine"),
        (
            "https://v.example/v1/projects/p/locations/l/publishers/google",
            "gemini-2.5-pro",
            "https://v.example/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro",
        ),
    ],
)
def test_addresses(base_url: str, model: str, url: str) -> None:
    assert url_of(written({}, base_url=base_url, model=model)) == f"{url}:generateContent"
    streamed = written({}, base_url=base_url, model=model, stream=True)
    assert url_of(streamed) == f"{url}:streamGenerateContent?alt=sse"


def test_an_address_that_cannot_work() -> None:
    with pytest.raises(ValueError):
        GeminiDialect(GeminiOptions("no address"))


def test_every_field() -> None:
    assert body({}) == {"contents": [HI]}
    request = {
        "messages": [{"role": "system", "content": "Be brief."}, USER],
        "temperature": 0.5,
        "max_tokens": 10,
        "stop": ["a"],
        "seed": 7,
        "extra": {"generationConfig": {"topK": 3}, "safetySettings": [], "cachedContent": "cachedContents/x"},
    }
    assert body(request, extra={"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}, "seed": 1}}) == {
        "contents": [HI],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {
            "thinkingConfig": {"thinkingBudget": 0},
            "temperature": 0.5,
            "maxOutputTokens": 10,
            "stopSequences": ["a"],
            "seed": 7,
            "topK": 3,
        },
        "safetySettings": [],
        "cachedContent": "cachedContents/x",
    }


def test_parts() -> None:
    parts = [
        {"type": "text", "text": "See", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": "https://x.example/a.jpg?b=c"},
        {"type": "image_url", "image_url": {"url": "https://x.example/what"}},
        {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:text/plain,a%20b"}},
        {"fileData": {"fileUri": "gs://b/c"}},
    ]
    assert body({"messages": [{"role": "user", "content": parts}]})["contents"][0]["parts"] == [
        {"text": "See"},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.example/a.jpg?b=c"}},
        {"fileData": {"fileUri": "https://x.example/what"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "BBBB"}},
        {"inlineData": {"mimeType": "text/plain", "data": "YSBi"}},
        {"fileData": {"fileUri": "gs://b/c"}},
    ]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (["x"], r"messages\[0\]: must be a map"),
        ([{"role": "function"}], r"messages\[0\].role: must be"),
        ([{"role": "system", "content": "x"}], "needs one from the user"),
        ([{"role": "user", "content": [{"type": "thinking"}]}], r"content\[0\].type: Gemini's dialect knows"),
        ([{"role": "tool", "content": "x"}], "tool_call_id: must name the call"),
        ([USER, {"role": "tool", "tool_call_id": "t9", "content": "x"}], "no call of this id stands before it"),
    ],
)
def test_messages_that_cannot_be_sent_are_named(messages: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        body({"messages": messages})


def test_tools_there_and_back() -> None:
    signed = {"extra_content": {"google": {"thought_signature": "sig"}}}
    messages = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call("fc_1", **signed), call("call_gemini_1")]},
        {"role": "tool", "tool_call_id": "fc_1", "content": '{"rain": true}'},
        {"role": "tool", "tool_call_id": "call_gemini_1", "content": [{"type": "text", "text": "Rain"}]},
        {"role": "tool", "tool_call_id": "by_name", "name": "weather", "content": "3"},
        USER,
    ]
    assert body({"messages": messages})["contents"] == [
        HI,
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "fc_1", "name": "weather", "args": {"a": 1}}, "thoughtSignature": "sig"},
                {"functionCall": {"name": "weather", "args": {"a": 1}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "fc_1", "name": "weather", "response": {"rain": True}}},
                {"functionResponse": {"name": "weather", "response": {"output": "Rain"}}},
                {"functionResponse": {"id": "by_name", "name": "weather", "response": {"output": 3}}},
            ],
        },
        HI,
    ]


def test_what_an_answer_held_goes_back_as_it_was() -> None:
    parts = [
        {"text": "Hm", "thought": True},
        {"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "s"},
    ]
    message = {"role": "assistant", "content": parts, "tool_calls": [call("call_gemini_0")]}
    assert body({"messages": [USER, message]})["contents"][1] == {"role": "model", "parts": parts}


def test_tools_and_choices() -> None:
    native = {"googleSearch": {}}
    made = body(
        {"tools": [WEATHER, native, {"type": "function", "function": {"name": "bare"}}], "tool_choice": "required"}
    )
    declared = [{"name": "weather", "description": "Tells it", "parametersJsonSchema": SCHEMA}, {"name": "bare"}]
    assert made["tools"] == [{"functionDeclarations": declared}, native]
    assert made["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    for given, expected in (
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ({"type": "function", "function": {"name": "weather"}}, {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ):
        assert body({"tools": [WEATHER], "tool_choice": given})["toolConfig"] == {"functionCallingConfig": expected}
    own = {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert body({"tools": [WEATHER], "tool_choice": own})["toolConfig"] == own
    assert "toolConfig" not in body({"tool_choice": "auto"})
    with pytest.raises(InvalidRequest, match="tools: must be a list"):
        body({"tools": {"a": 1}})


def test_structured_output() -> None:
    schema = {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    assert body({"output_schema": SCHEMA})["generationConfig"] == schema
    assert body({"output_schema": True})["generationConfig"] == {"responseMimeType": "application/json"}
    wish = body({"output_schema": SCHEMA}, structured_output="json_object")
    assert wish["generationConfig"] == {"responseMimeType": "application/json"}
    assert "generationConfig" not in body({"output_schema": SCHEMA}, structured_output="none")
    both = {"output_schema": SCHEMA, "tools": [WEATHER]}
    assert "generationConfig" not in body(both, model="gemini-2.5-pro"), "that would be a 400"
    assert body(both, model="gemini-3-pro-preview")["generationConfig"] == schema


def test_what_has_no_field_is_left_out_and_told() -> None:
    asked = written({"extra": {"prompt_cache_key": "k", "user": "u", "metadata": {"a": 1}}})
    assert json.loads(asked.body) == {"contents": [HI]}
    assert asked.not_sent == ("prompt_cache_key", "user", "metadata")


@pytest.mark.parametrize("name", ["model", "contents", "systemInstruction", "stream"])
def test_what_extra_may_not_set(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"extra may not set '{name}'"):
        body({"extra": {name: 1}})


def test_embeddings() -> None:
    dialect = GeminiDialect(GeminiOptions("https://g.example"))
    target = a_target(provider_model="gemini-embedding-001", extra={"taskType": "RETRIEVAL_QUERY"})
    asked = dialect.embed_request({"input": ["a", "b"], "dimensions": 4, "extra": {"title": "t"}}, target)
    assert url_of(asked) == "https://g.example/v1beta/models/gemini-embedding-001:batchEmbedContents"
    each = {
        "model": "models/gemini-embedding-001",
        "outputDimensionality": 4,
        "taskType": "RETRIEVAL_QUERY",
        "title": "t",
    }
    assert json.loads(asked.body) == {
        "requests": [{**each, "content": {"parts": [{"text": "a"}]}}, {**each, "content": {"parts": [{"text": "b"}]}}]
    }
