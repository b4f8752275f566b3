"""Content and embeddings as Gemini answers them, over real HTTP."""

import json

import pytest

MOON = "Who was the first man on the moon?"
KEY = {"x-goog-api-key": "AIza-key"}


def content(asker, prompt="What is 6*7?", model="m", stream=False, headers=None, **more):
    body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **more}
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return asker.request("POST", f"/v1beta/models/{model}:{method}", body, KEY | (headers or {}))


def chunks(answered):
    parts = answered.body.decode().split("\r\n\r\n")
    assert parts.pop() == ""
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def said(body):
    return "".join(part["text"] for part in body["candidates"][0]["content"]["parts"])


def test_a_whole_answer(quick, ask):
    answered = content(ask(quick))
    assert answered.status == 200
    body = answered.json
    (candidate,) = body["candidates"]
    assert candidate == {"content": {"parts": [{"text": "42"}], "role": "model"}, "finishReason": "STOP", "index": 0}
    usage = body["usageMetadata"]
    assert (usage["promptTokenCount"], usage["candidatesTokenCount"], usage["totalTokenCount"]) == (10, 1, 11)
    assert body["modelVersion"] == "m"


def test_the_same_words_as_in_the_other_dialects(quick, ask):
    system = {"parts": [{"text": "Answer in a sentence."}]}
    chat = ask(quick).request(
        "POST",
        "/v1/chat/completions",
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Answer in a sentence."}, {"role": "user", "content": MOON}],
        },
    )
    assert said(content(ask(quick), MOON, systemInstruction=system).json) == chat.text


def test_a_stream(quick, ask):
    whole = content(ask(quick), MOON).json
    told = chunks(content(ask(quick), MOON, stream=True))
    assert len(told) > 3
    assert "".join(said(chunk) for chunk in told) == said(whole)
    assert [chunk["candidates"][0].get("finishReason") for chunk in told] == [None] * (len(told) - 1) + ["STOP"]
    assert told[-1]["usageMetadata"] == whole["usageMetadata"]
    assert len({chunk["responseId"] for chunk in told}) == 1


def test_a_stream_that_is_no_stream_of_events(quick, ask):
    answered = ask(quick).request(
        "POST", "/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": "hi"}]}]}
    )
    assert answered.status == 400
    assert "alt=sse" in answered.error["message"]


def test_why_it_ended(quick, ask):
    cut = content(ask(quick), MOON, generationConfig={"maxOutputTokens": 2}).json
    assert cut["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert cut["usageMetadata"]["candidatesTokenCount"] == 2


TOOL = {
    "functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}]
}  # fmt: skip


@pytest.mark.parametrize("allowed", [[], ["look"]])
def test_function_calls(quick, ask, allowed):
    config = {"functionCallingConfig": {"mode": "ANY"} | ({"allowedFunctionNames": allowed} if allowed else {})}
    for stream in (False, True):
        answered = content(ask(quick), "The weather in Paris", stream=stream, tools=[TOOL], toolConfig=config)
        body = chunks(answered)[0] if stream else answered.json
        (part,) = body["candidates"][0]["content"]["parts"]
        assert part == {"functionCall": {"name": "look", "args": {"city": "Paris"}}}


@pytest.mark.parametrize("place", ["responseSchema", "responseJsonSchema"])
def test_structured_output(quick, ask, place):
    kinds = ("OBJECT", "STRING") if place == "responseSchema" else ("object", "string")
    schema = {"type": kinds[0], "properties": {"answer": {"type": kinds[1]}}, "required": ["answer"]}
    config = {"responseMimeType": "application/json", place: schema}
    assert json.loads(said(content(ask(quick), generationConfig=config).json)) == {"answer": "42"}


def test_vectors_are_those_of_the_other_dialects(quick, ask):
    plain = ask(quick).embed(["cats", "dogs"], dimensions=8).json["data"]
    one = {"content": {"parts": [{"text": "cats"}]}, "outputDimensionality": 8}
    two = {"content": {"parts": [{"text": "dogs"}]}, "outputDimensionality": 8}
    single = ask(quick).request("POST", "/v1beta/models/m:embedContent", one).json
    batch = ask(quick).request("POST", "/v1beta/models/m:batchEmbedContents", {"requests": [one, two]}).json
    assert single["embedding"]["values"] == plain[0]["embedding"]
    assert [vector["values"] for vector in batch["embeddings"]] == [one["embedding"] for one in plain]
    assert batch["usageMetadata"]["promptTokenCount"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("m:generateContent", b"{", 400, "INVALID_ARGUMENT"),
        ("m:generateContent", {}, 400, "INVALID_ARGUMENT"),
        ("m:generateContent", {"contents": [{"parts": []}]}, 400, "INVALID_ARGUMENT"),
        ("m:generateContent", {"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, 400, "INVALID_ARGUMENT"),
        ("m:batchEmbedContents", {"requests": []}, 400, "INVALID_ARGUMENT"),
        (f"{'m' * 300}:generateContent", {"contents": [{"parts": [{"text": "x"}]}]}, 404, "NOT_FOUND"),
        ("m:countTokens", {}, 404, "NOT_FOUND"),
    ],
)
def test_what_it_cannot_work_on(quick, ask, path, body, status, word):
    answered = ask(quick).request("POST", f"/v1beta/models/{path}", body)
    assert (answered.status, answered.error["code"], answered.error["status"]) == (status, status, word)


def test_limits_are_told_in_the_body_of_a_429_only(start, ask):
    asker = ask(start("[[models]]\nlatency_s = 0\nrequests_per_minute = 6\nburst_s = 10\n"))
    good, refused = content(asker), content(asker)
    assert (good.status, refused.status) == (200, 429)
    assert not any("ratelimit" in name or "retry" in name for name in {**good.headers, **refused.headers})
    assert refused.error["status"] == "RESOURCE_EXHAUSTED"
    (told,) = [detail for detail in refused.error["details"] if detail["@type"].endswith("RetryInfo")]
    assert 0 < float(told["retryDelay"].removesuffix("s")) <= 10


def test_errors_in_its_words(quick, ask):
    for fault, status, word in (
        ("error_500", 500, "INTERNAL"),
        ("error_503", 503, "UNAVAILABLE"),
        ("error_529", 503, "UNAVAILABLE"),
        ("auth", 400, "INVALID_ARGUMENT"),
        ("rate_limited", 429, "RESOURCE_EXHAUSTED"),
        ("rate_limited_no_hint", 429, "RESOURCE_EXHAUSTED"),
        ("no_credit", 429, "RESOURCE_EXHAUSTED"),
    ):
        answered = content(ask(quick), model=f"m+{fault}")
        assert (answered.status, answered.error["status"]) == (status, word), fault
        assert ("RetryInfo" in answered.body.decode()) == (fault == "rate_limited")


def test_faults_within_its_streams(quick, ask):
    told = chunks(content(ask(quick), MOON, stream=True, model="m+stream_error"))
    assert told[-1]["error"]["status"] == "INTERNAL"
    assert told[0]["candidates"]
    (filtered,) = chunks(content(ask(quick), MOON, stream=True, model="m%2Bcontent_filter"))
    assert filtered["candidates"] == [{"finishReason": "SAFETY", "index": 0}]
    assert "usageMetadata" not in content(ask(quick), model="m+missing_usage").json
    assert content(ask(quick), model="m+empty_choices").json["candidates"] == []
    early = chunks(content(ask(quick), MOON, stream=True, model="m+ends_early"))
    assert all("finishReason" not in chunk["candidates"][0] for chunk in early)


def test_its_models_and_keys(start, ask):
    simulator = start('[sim]\napi_keys = ["AIza-key"]\n[[models]]\nname = "a"\nlatency_s = 0\n')
    body = ask(simulator).request("GET", "/v1beta/models", headers=KEY).json
    assert [model["name"] for model in body["models"]] == ["models/a"]
    assert content(ask(simulator), model="a").status == 200
    assert content(ask(simulator), model="a", headers={"x-goog-api-key": "wrong"}).status == 400
    path = "/v1beta/models/a:generateContent?key=AIza-key"
    assert ask(simulator).request("POST", path, {"contents": [{"parts": [{"text": "hi"}]}]}).status == 200
    assert simulator.stats()["by_endpoint"]["/v1beta/models:generateContent"]["received"] == 3
