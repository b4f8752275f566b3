"""What is read in one go is read as the walk through it would; all else is left to that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.providers.answer import DEEPEST, ChatAnswer, parse_json
from aiorchd.providers.errors import complaint_in
from aiorchd.providers.openai.answer import read_chat
from aiorchd.providers.openai.usual_answer import read_usual

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
USUAL = {"deepseek_old", "gemini_compatible_thinking", "no_usage", "ollama", "openai"}
USUAL |= {"openai_cache_write", "openai_reasoning", "qwen", "vllm_cached"}

count = st.none() | st.integers(-1, 20) | st.sampled_from([2**53 - 1, 2**53, 2**64, 5.0, 0.5, True, "3"])
text = st.none() | st.text(max_size=5) | st.sampled_from(["", "\ud800", 7, [], {}, ["x"]])
nothing = st.none() | st.sampled_from([[], {}, "x", ["x"], 0])


def some_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


usages = some_of(
    prompt_tokens=count,
    completion_tokens=count,
    total_tokens=count,
    prompt_tokens_details=st.none()
    | some_of(cached_tokens=count, cache_write_tokens=count, audio_tokens=count, x=count),
    completion_tokens_details=st.none() | some_of(reasoning_tokens=count, audio_tokens=count, x=count),
    prompt_cache_hit_tokens=count,
    prompt_cache_miss_tokens=count,
    queue_time=st.just(0.1),
)
messages = some_of(
    role=text, content=text, tool_calls=nothing, refusal=text, annotations=nothing, audio=nothing, function_call=nothing
)
choices = st.fixed_dictionaries(
    {"message": st.none() | messages | messages},
    optional={"index": count, "finish_reason": text, "logprobs": nothing, "stop_reason": text, "x": nothing},
)
payloads = st.fixed_dictionaries(
    {"choices": st.lists(choices, min_size=1, max_size=1) | st.lists(choices, max_size=2)},
    optional={
        "object": st.just("chat.completion") | text | st.just("error"),
        "id": text,
        "created": count,
        "model": text,
        "usage": st.none() | usages | usages,
        "service_tier": text,
        "system_fingerprint": text,
        "error": text,
        "x": nothing,
    },
)


def as_it_walks(body: bytes) -> ChatAnswer:
    payload = parse_json(body)
    assert complaint_in(payload, None) is None
    return read_chat(payload)


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden_answers(path: Path) -> None:
    body = json.dumps(json.loads(path.read_text(encoding="utf-8"))["response"]).encode()
    usual = read_usual(body)
    assert (usual is not None) == (path.stem in USUAL)
    assert usual is None or usual == as_it_walks(body)


@given(payload=payloads)
def test_what_is_taken_is_read_as_the_walk_would(payload: Any) -> None:
    body = json.dumps(payload).encode()
    usual = read_usual(body)
    assert usual is None or usual == as_it_walks(body)


@given(usage=usages, content=st.none() | st.text(max_size=5), fingerprint=st.none() | st.text(max_size=5))
def test_so_are_nearly_usual_ones(usage: Any, content: str | None, fingerprint: str | None) -> None:
    message = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    payload = {"object": "chat.completion", "choices": [choice], "usage": usage, "system_fingerprint": fingerprint}
    body = json.dumps(payload).encode()
    usual = read_usual(body)
    assert usual is None or usual == as_it_walks(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"choices":[]}',
        b"[" * 100_000,
        b'{"x":' + b"[" * DEEPEST + b"]" * DEEPEST + b"}",
    ],
)
def test_what_is_no_answer_is_not_taken(body: bytes) -> None:
    assert read_usual(body) is None
