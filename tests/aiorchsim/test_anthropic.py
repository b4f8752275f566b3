"""Messages as Anthropic answers them, over real HTTP."""

import json
from datetime import UTC, datetime

import pytest

VERSION = {"anthropic-version": "2023-06-01", "x-api-key": "sk-ant"}
MOON = "Who was the first man on the moon?"


def message(asker, prompt="What is 6*7?", model="m", headers=None, **more):
    body = {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": prompt}], **more}
    return asker.request("POST", "/v1/messages", body, VERSION | (headers or {}))


def events(answered):
    parts = answered.body.decode().split("\n\n")
    assert parts.pop() == ""
    told = []
    for part in parts:
        named, data = part.split("\n")
        decoded = json.loads(data.removeprefix("data: "))
        assert named == f"event: {decoded['type']}"
        told.append(decoded)
    return told


def test_a_whole_answer(quick, ask):
    answered = message(ask(quick))
    assert answered.status == 200
    assert answered.headers["request-id"].startswith("req_")
    assert "x-request-id" not in answered.headers
    body = answered.json
    assert (body["type"], body["role"], body["model"]) == ("message", "assistant", "m")
    assert body["content"] == [{"type": "text", "text": "42"}]
    assert (body["stop_reason"], body["stop_sequence"]) == ("end_turn", None)
    usage = body["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (10, 1)
    assert usage["cache_read_input_tokens"] == usage["cache_creation_input_tokens"] == 0


def test_the_same_words_as_in_the_other_dialects(quick, ask):
    said = message(ask(quick), MOON, system="Answer in a sentence.").json["content"][0]["text"]
    chat = ask(quick).request(
        "POST",
        "/v1/chat/completions",
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Answer in a sentence."}, {"role": "user", "content": MOON}],
        },
    )
    assert said == chat.text


def test_a_stream(quick, ask):
    whole = message(ask(quick), MOON).json
    answered = message(ask(quick), MOON, stream=True)
    assert answered.headers["content-type"].startswith("text/event-stream")
    told = events(answered)
    kinds = [event["type"] for event in told]
    assert kinds[:3] == ["message_start", "content_block_start", "ping"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert told[0]["message"]["content"] == []
    assert told[0]["message"]["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    said = "".join(event["delta"]["text"] for event in told if event["type"] == "content_block_delta")
    assert said == whole["content"][0]["text"]
    assert told[-2]["delta"]["stop_reason"] == "end_turn"
    assert told[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def test_why_it_ended(quick, ask):
    cut = message(ask(quick), MOON, max_tokens=2).json
    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 2)
    stopped = message(ask(quick), MOON, stop_sequences=["man"]).json
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "man")


TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


def test_tool_calls_plain_and_streamed_are_the_same(quick, ask):
    more = {"tools": [TOOL], "tool_choice": {"type": "any"}}
    plain = message(ask(quick), "The weather in Paris", **more).json
    assert plain["stop_reason"] == "tool_use"
    (call,) = plain["content"]
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "look", {"city": "Paris"})
    told = events(message(ask(quick), "The weather in Paris", stream=True, **more))
    (begun,) = [event["content_block"] for event in told if event["type"] == "content_block_start"]
    assert (begun["id"], begun["name"], begun["input"]) == (call["id"], "look", {})
    written = "".join(event["delta"]["partial_json"] for event in told if event["type"] == "content_block_delta")
    assert json.loads(written) == call["input"]


def test_the_result_of_a_tool_is_the_last_word(quick, ask):
    messages = [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "What is 1+1?"}]},
    ]
    assert message(ask(quick), messages=messages).json["content"][0]["text"] == "2"


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_structured_output(quick, ask, place):
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    wanted = {"type": "json_schema", "schema": schema}
    said = message(ask(quick), **{place: {"format": wanted} if place == "output_config" else wanted}).json
    assert json.loads(said["content"][0]["text"]) == {"answer": "42"}


@pytest.mark.parametrize(
    ("body", "status", "kind", "word"),
    [
        (b"{", 400, "invalid_request_error", "JSON"),
        ({"model": "m", "messages": [{"role": "user", "content": "hi"}]}, 400, "invalid_request_error", "max_tokens"),
        ({"model": "m", "max_tokens": 1, "messages": []}, 400, "invalid_request_error", "messages"),
        ({"model": "m", "max_tokens": 1, "messages": [{"role": "system", "content": "x"}]}, 400, "invalid_request_error", "role"),
        ({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": 3}]}, 400, "invalid_request_error", "content"),
        ({"model": 3, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}, 400, "invalid_request_error", "model"),
        ({"model": "m" * 300, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}, 404, "not_found_error", "model"),
    ],
)  # fmt: skip
def test_what_it_cannot_work_on(quick, ask, body, status, kind, word):
    answered = ask(quick).request("POST", "/v1/messages", body, VERSION)
    assert answered.status == status
    assert answered.json["type"] == "error"
    assert answered.error["type"] == kind
    assert word in answered.error["message"]


def test_the_version_has_to_be_said(quick, ask):
    answered = ask(quick).request("POST", "/v1/messages", {"model": "m"})
    assert answered.status == 400
    assert "anthropic-version" in answered.error["message"]


def test_limits_are_told_as_moments(start, ask):
    asker = ask(start("[[models]]\nlatency_s = 0\nrequests_per_minute = 6\nburst_s = 10\ntokens_per_minute = 60000\n"))
    good, refused = message(asker), message(asker)
    assert (good.status, refused.status) == (200, 429)
    assert refused.error["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    for kind, limit in (("requests", "6"), ("tokens", "60000")):
        assert good.headers[f"anthropic-ratelimit-{kind}-limit"] == limit
        assert int(good.headers[f"anthropic-ratelimit-{kind}-remaining"]) < int(limit)
        reset = datetime.fromisoformat(good.headers[f"anthropic-ratelimit-{kind}-reset"])
        assert -1 <= (reset - datetime.now(UTC)).total_seconds() <= 12
    assert not any(name.startswith("x-ratelimit") for name in good.headers)


def test_errors_in_its_words(quick, ask):
    for fault, status, kind in (
        ("error_500", 500, "api_error"),
        ("error_503", 503, "overloaded_error"),
        ("error_529", 529, "overloaded_error"),
        ("auth", 401, "authentication_error"),
        ("rate_limited", 429, "rate_limit_error"),
        ("no_credit", 400, "invalid_request_error"),
        ("error_in_200", 200, "api_error"),
    ):
        answered = message(ask(quick), model=f"m+{fault}")
        assert (answered.status, answered.error["type"]) == (status, kind), fault
        assert ("retry-after" in answered.headers) == (fault == "rate_limited")


def test_faults_within_its_streams(quick, ask):
    told = events(message(ask(quick), MOON, stream=True, model="m+stream_error"))
    assert told[-1]["error"]["type"] == "api_error"
    assert told[0]["type"] == "message_start"
    filtered = events(message(ask(quick), MOON, stream=True, model="m+content_filter"))
    assert [event["type"] for event in filtered] == ["message_start", "message_delta", "message_stop"]
    assert filtered[1]["delta"]["stop_reason"] == "refusal"
    assert "usage" not in events(message(ask(quick), MOON, stream=True, model="m+missing_usage"))[-2]
    broken = message(ask(quick), MOON, stream=True, model="m+malformed_line").body
    assert broken.endswith(b'{"type":"message_stop"}\n\n')
    with pytest.raises(ValueError):
        events(message(ask(quick), MOON, stream=True, model="m+malformed_line"))
    assert message(ask(quick), model="m+empty_choices").json["content"] == []


def test_its_models(start, ask):
    asker = ask(start('[[models]]\nname = "a"\n[[models]]\nname = "b"\n'))
    body = asker.request("GET", "/v1/models", headers=VERSION).json
    assert [model["id"] for model in body["data"]] == ["a", "b"]
    assert (body["first_id"], body["last_id"], body["has_more"]) == ("a", "b", False)


def test_its_keys(start, ask):
    simulator = start('[sim]\napi_keys = ["sk-ant"]\n[[models]]\nlatency_s = 0\n')
    assert message(ask(simulator)).status == 200
    refused = message(ask(simulator), headers={"x-api-key": "sk-other"})
    assert (refused.status, refused.error["type"]) == (401, "authentication_error")
    assert simulator.stats()["by_endpoint"]["/v1/messages"]["received"] == 2
