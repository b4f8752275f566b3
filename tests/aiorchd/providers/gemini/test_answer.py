"""Gemini's answers, whole and streamed: the same is read from both, however the bytes are cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from golden import cases_of, check, sse
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.providers.answer import Unreadable
from aiorchd.providers.gemini.answer import read_chat
from aiorchd.providers.gemini.stream import ChatAssembler
from aiorchd.providers.secret import Secret
from aiorchd.providers.sse import Event, EventParser
from aiorchd.providers.streaming import Delta, ProviderComplaint

CASES = cases_of(Path(__file__).parent / "golden")


def said(text: str, finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}}
    return {"candidates": [candidate if finish is None else {**candidate, "finishReason": finish}]}


def read(*chunks: bytes) -> tuple[ChatAssembler, list[Delta]]:
    assembler, parser = ChatAssembler(Secret("AIza-hunter2")), EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()
    return assembler, [delta for event in events if (delta := assembler.take(event)) is not None]


@pytest.mark.parametrize("case", CASES)
def test_golden_answers(case: dict[str, Any]) -> None:
    check(read_chat(case["response"]), case)


@pytest.mark.parametrize("case", CASES)
def test_golden_streams_cut_at_every_byte(case: dict[str, Any]) -> None:
    body = sse(case["stream"], named=False)
    for chunks in ([body], [body[at : at + 1] for at in range(len(body))], *([body[:at], body[at:]] for at in range(0, len(body), 7))):  # fmt: skip
        assembler, deltas = read(*chunks)
        assert (assembler.complete, assembler.malformed) == (True, 0)
        answer = assembler.answer()
        if not any(part.get("text") == "" for one in case["stream"] for part in _parts(one)):
            check(answer, case)
        assert "".join(delta.text or "" for delta in deltas) == answer.text
        calls = [call for delta in deltas for call in delta.tool_calls or ()]
        assert calls == [{**call, "index": index} for index, call in enumerate(answer.tool_calls)]


def _parts(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for one in chunk.get("candidates", []) for part in one.get("content", {}).get("parts", [])]


@pytest.mark.parametrize("case", CASES)
def test_no_beginning_of_a_stream_looks_whole(case: dict[str, Any]) -> None:
    for count in range(len(case["stream"])):
        assembler, _ = read(sse(case["stream"][:count], named=False))
        assert not assembler.complete


def test_malformed_lines_are_survived_and_counted() -> None:
    body = sse([said("a")], named=False) + b'data: {oops\n\ndata: []\n\ndata: {"candidates": ["x"]}\n\n'
    call = {"candidates": [{"content": {"parts": [{"text": "lost"}, {"functionCall": {"args": {}}}]}}]}
    assembler, deltas = read(body, sse([call, said("b", "STOP")], named=False))
    assert assembler.malformed == 4
    assert "".join(delta.text or "" for delta in deltas) == assembler.answer().text == "ab"


def test_an_error_inside_the_stream() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded AIza-hunter2", "status": "UNAVAILABLE"}}
    for data in (error, [error]):
        assembler = ChatAssembler(Secret("AIza-hunter2"))
        with pytest.raises(ProviderComplaint) as caught:
            assembler.take(Event("", json.dumps(data)))
        assert (caught.value.complaint.status, caught.value.complaint.kind) == (503, "UNAVAILABLE")
        assert "hunter2" not in str(caught.value)


def test_texts_are_joined_and_signed_parts_stay_apart() -> None:
    signed = {"candidates": [{"content": {"parts": [{"text": "c", "thoughtSignature": "s"}]}}]}
    assembler, _ = read(sse([said("a"), said("b"), signed, said("d"), said("e", "STOP")], named=False))
    answer = assembler.answer()
    assert answer.text == "abcde"
    assert answer.extra["content"] == [{"text": "ab"}, {"text": "c", "thoughtSignature": "s"}, {"text": "de"}]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (None, "not an object"),
        ([], "not an object"),
        ({}, "without any candidate"),
        ({"candidates": []}, "without any candidate"),
        ({"candidates": ["x"]}, "without any candidate"),
        ({"candidates": [{"content": "x"}]}, "not made of parts"),
        ({"candidates": [{"content": {"parts": ["x"]}}]}, "not made of parts"),
        ({"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}, "no name"),
        ({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}, "could not finish"),
    ],
)
def test_nonsense(payload: Any, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read_chat(payload)


def test_why_an_answer_was_withheld() -> None:
    blocked = {"promptFeedback": {"blockReason": "BLOCKLIST", "blockReasonMessage": "A word."}}
    assert read_chat(blocked).withheld == "BLOCKLIST: A word."
    stopped = {"candidates": [{"finishReason": "SPII", "finishMessage": "A number."}]}
    assert read_chat(stopped).withheld == "SPII: A number."
    assert read_chat(said("x", "STOP")).withheld is None


NAMES = "candidates content parts text functionCall name args finishReason usageMetadata promptTokenCount thought promptFeedback blockReason".split()  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(payload=json_values)
def test_any_json_is_an_answer_or_unreadable(payload: Any) -> None:
    try:
        answer = read_chat(payload)
    except Unreadable:
        return
    assert isinstance(answer.text, str)
    msgpack.packb([answer.extra, answer.tool_calls])


@given(events=st.lists(json_values, max_size=5))
def test_any_events_are_an_answer_or_unreadable(events: list[Any]) -> None:
    try:
        assembler, _ = read(sse(events, named=False))
        msgpack.packb(assembler.answer().extra)
    except (Unreadable, ProviderComplaint):
        pass
