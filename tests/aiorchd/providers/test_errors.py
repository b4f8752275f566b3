"""Errors as providers send them, and what they become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.errors import (
    CallError,
    ContentFiltered,
    ContextExceeded,
    InvalidRequest,
    ProviderAuth,
    ProviderError,
    RateLimited,
    UnknownModel,
)
from aiorch.protocol import Connection
from aiorchd.providers.errors import complaint_in, error_for, read_complaint
from aiorchd.providers.secret import Secret

KEY = Secret("sk-hunter2-0123456789")


def error_of(status: int, body: Any = b"", **headers: str) -> CallError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    complaint = read_complaint(status, raw, KEY)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_for(complaint, fields, provider="main", model="gpt-4o", wall_time=1_762_855_200.0)


def openai(message: str, kind: str | None = None, code: str | None = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


CASES: list[tuple[str, int, Any, type[CallError], bool]] = [
    ("rate limit", 429, openai("Rate limit reached", "tokens", "rate_limit_exceeded"), RateLimited, True),
    ("rate limit, no body", 429, b"", RateLimited, True),
    ("quota", 429, openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), RateLimited, False),
    ("credit", 429, openai("no credit", None, "credit_balance_exhausted"), RateLimited, False),
    ("Gemini's per-minute limit", 429, openai("You exceeded your current quota, please check your plan"), RateLimited, True),
    ("payment", 402, openai("Insufficient Balance"), RateLimited, False),
    ("too large for the limit", 429, openai("Request too large for gpt-4o", "tokens", "rate_limit_exceeded"), RateLimited, False),
    ("Groq's 413", 413, openai("Request too large for model `x` on tokens per minute", "tokens", "rate_limit_exceeded"),
     RateLimited, False),
    ("nginx's 413", 413, b"<html><head><title>413 Request Entity Too Large</title></head></html>", ContextExceeded, False),
    ("slow down", 503, openai("slow down", None, "slow_down"), RateLimited, True),
    ("flex capacity", 498, b"", RateLimited, True),
    ("overloaded", 529, openai("Overloaded", "overloaded_error"), RateLimited, True),
    ("overloaded 503", 503, openai("The engine is currently overloaded", "server_error", "server_is_overloaded"), RateLimited, True),
    ("unavailable", 503, b"", ProviderError, True),
    ("server error", 500, openai("The server had an error", "server_error"), ProviderError, True),
    ("bad gateway", 502, b"<html><title>502 Bad Gateway</title><body>cloudflare</body></html>", ProviderError, True),
    ("timeout", 408, b"", ProviderError, True),
    ("conflict", 409, b"", ProviderError, True),
    ("wrong key", 401, openai("Incorrect API key provided: sk-hunt****6789", "invalid_request_error", "invalid_api_key"),
     ProviderAuth, False),
    ("no key, Ollama proxy", 401, b"unauthorized", ProviderAuth, False),
    ("country", 403, openai("Country not supported", "request_forbidden", "unsupported_country"), ProviderAuth, False),
    ("Google's wrong key", 400, {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}},
     ProviderAuth, False),
    ("moderated", 403, openai("Input was flagged for: violence", None, None, metadata={"reasons": ["violence"]}),
     ContentFiltered, False),
    ("Azure's filter", 400, openai("The response was filtered", None, "content_filter",
     innererror={"code": "ResponsibleAIPolicyViolation"}), ContentFiltered, False),
    ("Qwen's filter", 400, openai("Input data may contain inappropriate content.", "data_inspection_failed",
     "data_inspection_failed"), ContentFiltered, False),
    ("context", 400, openai("This model's maximum context length is 8192 tokens", "invalid_request_error",
     "context_length_exceeded"), ContextExceeded, False),
    ("context, llama.cpp", 400, {"error": {"code": 400, "message": "the request exceeds the available context size",
     "type": "exceed_context_size_error"}}, ContextExceeded, False),
    ("context, vLLM", 400, {"object": "error", "message": "This model's maximum context length is 4096 tokens. However, …",
     "type": "BadRequestError", "param": None, "code": 400}, ContextExceeded, False),
    ("context, OpenRouter", 400, openai("This endpoint's maximum context length is 131072 tokens.", None, None),
     ContextExceeded, False),
    ("model", 404, openai("The model `gpt-9` does not exist", "invalid_request_error", "model_not_found"), UnknownModel, False),
    ("model, Ollama", 404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}},
     UnknownModel, False),
    ("model, old Ollama", 404, {"error": "model 'x' not found"}, UnknownModel, False),
    ("model, Azure", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment … does not exist"}},
     UnknownModel, False),
    ("model, Mistral", 400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
     UnknownModel, False),
    ("model, OpenRouter", 400, openai("x/y is not a valid model ID", None, None), UnknownModel, False),
    ("wrong address", 404, {"detail": "Not Found"}, ProviderError, False),
    ("wrong address, HTML", 404, b"<!DOCTYPE html><title>404</title>", ProviderError, False),
    ("wrong method", 405, b"", ProviderError, False),
    ("refused", 400, openai("Unsupported value: 'temperature'", "invalid_request_error", "unsupported_value"),
     InvalidRequest, False),
    ("refused, FastAPI", 422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}, InvalidRequest, False),
    ("gone", 410, b"", ProviderError, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status", "body", "kind", "retryable"), CASES, ids=[case[0] for case in CASES])
def test_errors(name: str, status: int, body: Any, kind: type[CallError], retryable: bool) -> None:
    error = error_of(status, body)
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.details["status"] == status
    assert error.details["provider"] == "main"
    assert error.message.startswith("main ")
    assert str(status) in error.message
    assert "<" not in error.message
    wire = json.dumps(error.to_wire())
    assert "hunt" not in wire


def test_what_the_provider_said_is_told_short_and_on_one_line() -> None:
    error = error_of(500, openai("It\nbroke.\r\n" + "x" * 10_000, "server_error", "boom"))
    assert error.message.startswith("main failed (500, boom): It broke. xxx")
    assert len(error.message) < 400
    assert error.details["provider_code"] == "boom"
    assert len(error.details["provider_message"]) == 300


def test_ids_and_limits_go_into_the_details() -> None:
    error = error_of(
        429, b"", x_request_id="req_1", x_ratelimit_limit_requests="500", x_ratelimit_remaining_requests="0",
        x_ratelimit_reset_requests="1m0s",
    )  # fmt: skip
    assert error.details["provider_request_id"] == "req_1"
    assert error.details["rate_limit"] == {"limit_requests": 500, "remaining_requests": 0, "reset_requests_s": 60.0}
    assert error.retry_after_s == 60.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after": "Tue, 11 Nov 2025 10:00:09 GMT"}, 9),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 500])
def test_when_to_come_back(status: int, headers: dict[str, str], seconds: float) -> None:
    assert error_of(status, **headers).retry_after_s == pytest.approx(seconds)


def test_when_to_come_back_is_said_in_the_body() -> None:
    assert error_of(429, openai("Please try again in 5.289s.")).retry_after_s == pytest.approx(5.289)
    assert error_of(400, openai("Please try again in 5.289s.")).retry_after_s is None


def test_the_provider_s_word_on_retrying_counts() -> None:
    assert error_of(429, x_should_retry="false").retryable is False
    assert error_of(500, x_should_retry="false").retryable is False
    assert error_of(404, b"{}", x_should_retry="true").retryable is True
    assert error_of(401, x_should_retry="true").retryable is False


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-hunter2-0123456789.",
        "Incorrect API key provided: sk-proj-********************hunter2A.",
        "Bad header: Authorization: Bearer hunter2hunter2",
        "key AIzahunter2SyA-123",
        "{'api_key': 'gsk_hunter2abc123'}",
    ],
)
def test_keys_are_taken_out(text: str) -> None:
    for body in (openai(text), text.encode(), {"detail": {"nested": text}}, {"error": text}):
        error = error_of(401, body)
        assert "hunter2" not in json.dumps(error.to_wire())
        assert "[key]" in error.message


def test_the_key_itself_is_taken_out_whatever_it_looks_like() -> None:
    complaint = read_complaint(401, json.dumps(openai("Wrong: correct-horse!")).encode(), Secret("correct-horse"))
    assert complaint.message == "Wrong: [key]!"


def test_words_with_key_are_not_keys() -> None:
    assert "key-value pairs and key_concepts" in error_of(400, openai("no key-value pairs and key_concepts")).message


def test_what_stands_in_a_200() -> None:
    assert complaint_in({"choices": []}, KEY) is None
    assert complaint_in({"error": None, "choices": []}, KEY) is None
    assert complaint_in([], KEY) is None
    assert complaint_in({"message": "hello"}, KEY) is None
    found = complaint_in({"error": {"message": "slow", "code": 429}}, KEY)
    assert found is not None
    error = error_for(found, {}, provider="main", model="m", wall_time=0)
    assert type(error) is RateLimited
    assert error.details["status"] == 429
    found = complaint_in({"error": {"message": "Overloaded", "type": "overloaded_error"}}, KEY)
    assert found is not None
    assert type(error_for(found, {}, provider="main", model="m", wall_time=0)) is RateLimited
    found = complaint_in({"error": {"message": "boom", "code": True, "status": 99}}, KEY)
    assert found is not None
    error = error_for(found, {}, provider="main", model="m", wall_time=0)
    assert type(error) is ProviderError
    assert error.retryable
    assert "status" not in error.details


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "type", "status", "detail", "object", "innererror", "details"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(status=st.integers(400, 599), body=st.one_of(json_values, st.binary(max_size=60)))
def test_any_body_becomes_an_error_of_the_closed_set(status: int, body: Any) -> None:
    error = error_of(status, body)
    assert type(error) in (
        RateLimited, ProviderError, ProviderAuth, ContextExceeded, ContentFiltered, UnknownModel, InvalidRequest,
    )  # fmt: skip
    json.dumps(error.to_wire())
    assert len(error.message) < 600


def test_half_a_surrogate_pair_is_no_text_and_is_not_passed_on() -> None:
    body = b'{"error": {"message": "bad \\ud800 half, \\ud83d\\ude00 whole", "code": "\\udc00x", "detail": "\\ud800"}}'
    complaint = read_complaint(500, body, None)
    assert complaint.message == "bad \ufffd half, \U0001f600 whole"
    assert complaint.code == "\ufffdx"
    error = error_for(complaint, {}, provider="main", model="m", wall_time=0.0)
    assert b"half" in Connection().pack_error(1, error.to_wire())


def test_a_message_that_is_no_text_is_told_in_its_own_letters() -> None:
    complaint = read_complaint(422, '{"detail": [{"msg": "too long", "input": "Привет"}]}'.encode(), None)
    assert complaint.message == '[{"msg": "too long", "input": "Привет"}]'
