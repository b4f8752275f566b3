"""Chat completions as OpenAI answers them, over real HTTP."""

import json

import pytest

PROMPT = [{"role": "user", "content": "What is 6*7?"}]


def test_a_whole_answer(quick, ask):
    answered = ask(quick).chat()
    assert answered.status == 200
    assert answered.headers["content-type"] == "application/json"
    body = answered.json
    assert body["object"] == "chat.completion"
    assert body["model"] == "m"
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "42"
    assert choice["finish_reason"] == "stop"
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3 + 4 + 3, 1, 11)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


def test_the_same_question_has_the_same_answer_but_its_own_ids(quick, ask):
    first, second = ask(quick).chat(), ask(quick).chat()
    assert first.text == second.text
    assert first.json["id"] != second.json["id"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_a_stream_without_usage(quick, ask):
    answered = ask(quick).chat("Who was the first man on the moon?", stream=True)
    assert answered.headers["content-type"].startswith("text/event-stream")
    assert answered.headers["transfer-encoding"] == "chunked"
    *events, done = answered.events
    assert done == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks[:-1])
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == ask(quick).chat("Who was the first man on the moon?").text
    assert len(chunks) > 3


def test_a_stream_with_usage(quick, ask):
    plain = ask(quick).chat("Who was the first man on the moon?")
    answered = ask(quick).chat(
        "Who was the first man on the moon?", stream=True, stream_options={"include_usage": True}
    )
    *events, usage, done = answered.events
    assert done == "[DONE]"
    assert all(json.loads(event)["usage"] is None for event in events)
    assert json.loads(usage)["choices"] == []
    assert json.loads(usage)["usage"] == plain.json["usage"]


def test_limits_of_tokens_and_stop_sequences(quick, ask):
    whole = ask(quick).chat("Who was the first man on the moon?")
    cut = ask(quick).chat("Who was the first man on the moon?", max_tokens=2)
    assert cut.text == whole.text[:8]
    assert cut.json["choices"][0]["finish_reason"] == "length"
    assert cut.json["usage"]["completion_tokens"] == 2
    assert ask(quick).chat("Who was the first man on the moon?", max_completion_tokens=2).text == cut.text
    stopped = ask(quick).chat("Who was the first man on the moon?", stop=["man", ":"])
    assert stopped.text == "About first"
    assert stopped.json["choices"][0]["finish_reason"] == "stop"


def test_several_choices(quick, ask):
    answered = ask(quick).chat(n=3)
    assert [choice["index"] for choice in answered.json["choices"]] == [0, 1, 2]
    assert answered.json["usage"]["completion_tokens"] == 3
    *events, _ = ask(quick).chat(n=2, stream=True).events
    assert {json.loads(event)["choices"][0]["index"] for event in events} == {0, 1}


TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def test_tool_calls_plain_and_streamed_are_the_same(quick, ask):
    more = {"tools": [TOOL], "tool_choice": "required"}
    plain = ask(quick).chat("The weather in Paris", **more)
    (choice,) = plain.json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    *events, _ = ask(quick).chat("The weather in Paris", stream=True, **more).events
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert pieces[0]["id"] == call["id"]
    assert pieces[0]["function"]["name"] == "look"
    assert "".join(piece["function"]["arguments"] for piece in pieces) == call["function"]["arguments"]
    assert json.loads(events[-1])["choices"][0]["finish_reason"] == "tool_calls"


def test_structured_output(quick, ask):
    schema = {
        "type": "object",
        "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["tags"],
    }
    wrapped = {"type": "json_schema", "json_schema": {"name": "tags", "strict": True, "schema": schema}}
    answered = ask(quick).chat("Give two tags for this page:\ncats like milk", response_format=wrapped)
    assert json.loads(answered.text) == {"tags": ["cats", "milk"]}


def test_any_unicode_comes_back_as_valid_json(quick, ask):
    answered = ask(quick).chat("Ünï \U0001f600 \ud800 \u2028 \x00 ok?")
    assert answered.status == 200
    assert "\U0001f600" in answered.text
    answered.body.decode("ascii")


def refused(quick, ask, body, status=400):
    answered = ask(quick).request("POST", "/v1/chat/completions", body)
    assert answered.status == status
    error = answered.error
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"", None, None),
        (b"{", None, None),
        (b"\xff\xfe", None, None),
        (b"[" * 100_000, None, None),
        (b'{"model": NaN}', None, None),
        (b'{"model": 1' + b"0" * 5000 + b"}", None, None),
        (b"[]", "body", "invalid_type"),
        ({"messages": PROMPT}, None, None),
        ({"model": 5, "messages": PROMPT}, "model", "invalid_type"),
        ({"model": "m"}, "messages", "missing_required_parameter"),
        ({"model": "m", "messages": "hi"}, "messages", "invalid_type"),
        ({"model": "m", "messages": []}, "messages", "empty_array"),
        ({"model": "m", "messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"model": "m", "messages": [{"role": "king", "content": ""}]}, "messages[0].role", "invalid_value"),
        ({"model": "m", "messages": [{"role": [], "content": ""}]}, "messages[0].role", "invalid_value"),
        ({"model": "m", "messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"model": "m", "messages": PROMPT, "stream": "yes"}, "stream", "invalid_type"),
        ({"model": "m", "messages": PROMPT, "max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"model": "m", "messages": PROMPT, "max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"model": "m", "messages": PROMPT, "n": 99}, "n", "integer_above_max_value"),
        ({"model": "m", "messages": PROMPT, "stop": [5]}, "stop", "invalid_type"),
        ({"model": "m", "messages": PROMPT, "tools": {}}, "tools", "invalid_type"),
        ({"model": "m", "messages": PROMPT, "tool_choice": 5}, "tool_choice", "invalid_type"),
        ({"model": "m", "messages": PROMPT, "response_format": "json"}, "response_format", "invalid_type"),
        ({"model": "m", "messages": PROMPT, "stream_options": {"include_usage": True}}, "stream_options", None),
    ],
)
def test_bad_requests_are_told_what_is_wrong(quick, ask, body, param, code):
    error = refused(quick, ask, body)
    assert (error["param"], error["code"]) == (param, code)


def test_unknown_models_and_paths_and_methods(start, ask):
    simulator = start('[[models]]\nname = "small"\nlatency_s = 0\n')
    asker = ask(simulator)
    error = asker.chat(model="large").error
    assert error["code"] == "model_not_found"
    assert "`large`" in error["message"]
    assert asker.chat(model="").status == 404
    assert asker.chat(model="small").text == "42"
    listed = asker.request("GET", "/v1/models").json
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["small"]
    unknown = asker.request("POST", "/v1/completions", {})
    assert unknown.status == 404
    assert unknown.error["code"] == "unknown_url"
    wrong = asker.request("GET", "/v1/chat/completions")
    assert wrong.status == 405
    assert wrong.headers["allow"] == "POST"
    compressed = asker.request("POST", "/v1/chat/completions", b"x", {"Content-Encoding": "gzip"})
    assert compressed.status == 415


def test_prompts_beyond_the_context_are_refused(start, ask):
    asker = ask(start("[[models]]\nlatency_s = 0\ncontext_tokens = 20\n"))
    assert asker.chat("What is 6*7?").status == 200
    answered = asker.chat("x" * 100)
    assert answered.status == 400
    assert answered.error["code"] == "context_length_exceeded"
    assert "maximum context length is 20 tokens" in answered.error["message"]


def test_keys_are_checked_when_there_are_any(start, ask):
    asker = ask(start('[sim]\napi_keys = ["sk-right"]\n[[models]]\nlatency_s = 0\n'))
    for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "Basic sk-right"}):
        answered = asker.chat(headers=headers)
        assert answered.status == 401
        assert answered.error["code"] == "invalid_api_key"
        assert "sk-" not in answered.error["message"]
    assert asker.chat(headers={"Authorization": "Bearer sk-right"}).text == "42"


def test_quality_follows_seed_and_model(start, ask):
    profile = "[[models]]\nlatency_s = 0\nquality = 0.5\n"
    prompts = [f"What is {number}+1?" for number in range(30)]

    def answers(seed, model="m"):
        asker = ask(start(profile, seed=seed))
        return [asker.chat(prompt, model=model).text for prompt in prompts]

    first = answers(1)
    right = [str(number + 1) for number in range(30)]
    assert first == answers(1)
    assert first != answers(2)
    assert first != answers(1, "other")
    assert 5 < sum(a == b for a, b in zip(first, right, strict=True)) < 25


def test_recorded_answers(start, ask, tmp_path):
    rows = [
        {
            "model": "a",
            "prompt": "What is 6*7?",
            "answer": "forty-two",
            "input_tokens": 11,
            "output_tokens": 22,
            "latency_s": 0.0,
        },
        {"model": "b", "prompt": "x", "answer": "y"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tmp_path / "p.toml"
    config.write_text('[sim]\nreplay = "rows.jsonl"\n[[models]]\nlatency_s = 0\n')
    asker = ask(start(config=config))
    answered = asker.chat(model="a")
    assert answered.text == "forty-two"
    assert (answered.json["usage"]["prompt_tokens"], answered.json["usage"]["completion_tokens"]) == (11, 22)
    system = [{"role": "system", "content": "Be short."}, *PROMPT]
    assert asker.request("POST", "/v1/chat/completions", {"model": "a", "messages": system}).text == "forty-two"
    missing = asker.chat(model="b")
    assert missing.status == 404
    assert missing.error["code"] == "replay_missing"
    assert [model["id"] for model in asker.request("GET", "/v1/models").json["data"]] == ["a", "b"]
    config.write_text('[sim]\nreplay = "rows.jsonl"\nreplay_missing = "compute"\n[[models]]\nlatency_s = 0\n')
    asker = ask(start(config=config))
    assert asker.chat(model="a").text == "forty-two"
    assert asker.chat(model="b").text == "42"
