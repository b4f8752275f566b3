"""Anthropic's answers, whole and streamed: the same is read from both, however the bytes are cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from golden import cases_of, check, sse
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.providers.answer import ChatAnswer, Unreadable
from aiorchd.providers.anthropic.answer import read_chat
from aiorchd.providers.anthropic.stream import ChatAssembler
from aiorchd.providers.secret import Secret
from aiorchd.providers.sse import Event, EventParser
from aiorchd.providers.streaming import Delta, ProviderComplaint

CASES = cases_of(Path(__file__).parent / "golden")
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
START = {"type": "message_start", "message": {"id": "m", "model": "c", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}}}  # fmt: skip
STOP = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
LAST = {"type": "message_stop"}


def piece(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def by_tool(case: dict[str, Any]) -> bool:
    return "aiorch_answer" in json.dumps(case["response"])


def read(chunks: list[bytes], *, answer_tool: bool = False) -> tuple[ChatAssembler, list[Delta]]:
    assembler, parser = ChatAssembler(Secret("sk-ant-hunter2"), answer_tool=answer_tool), EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()
    return assembler, [delta for event in events if (delta := assembler.take(event)) is not None]


def added_up(deltas: list[Delta]) -> tuple[str, list[dict[str, Any]]]:
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for part in delta.tool_calls or ():
            call = calls.setdefault(part["index"], {"function": {"arguments": ""}})
            function = {**part["function"], "arguments": call["function"]["arguments"] + part["function"]["arguments"]}
            call.update({**{name: part[name] for name in ("id", "type") if name in part}})
            call["function"] = {**call["function"], **function}
    return "".join(delta.text or "" for delta in deltas), [calls[index] for index in sorted(calls)]


@pytest.mark.parametrize("case", CASES)
def test_golden_answers(case: dict[str, Any]) -> None:
    check(read_chat(case["response"]), case)


@pytest.mark.parametrize("case", CASES)
def test_golden_streams_cut_at_every_byte(case: dict[str, Any]) -> None:
    body = sse(case["stream"], named=True)
    for chunks in ([body], [body[at : at + 1] for at in range(len(body))], *([body[:at], body[at:]] for at in range(0, len(body), 7))):  # fmt: skip
        assembler, deltas = read(chunks, answer_tool=by_tool(case))
        assert assembler.done
        assert assembler.complete
        assert assembler.malformed == 0
        answer = assembler.answer()
        check(answer, case)
        text, calls = added_up(deltas)
        assert text == answer.text
        assert [{**call, "function": {**call["function"], "arguments": call["function"]["arguments"] or "{}"}} for call in calls] == list(answer.tool_calls)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_beginning_of_a_stream_looks_whole(case: dict[str, Any]) -> None:
    events = case["stream"]
    for count in range(len(events)):
        assembler, _ = read([sse(events[:count], named=True)], answer_tool=by_tool(case))
        assert assembler.complete == any(event["type"] == "message_delta" for event in events[:count])
        assert not assembler.done


def test_a_malformed_line_is_survived_and_counted() -> None:
    body = sse([START, TEXT, piece("a")], named=True) + b"event: content_block_delta\ndata: {oops\n\ndata: []\n\n"
    assembler, deltas = read([body, sse([piece("b"), STOP, LAST], named=True)])
    assert added_up(deltas) == ("ab", [])
    assert (assembler.malformed, assembler.complete) == (2, True)
    assert assembler.answer().usage is not None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 5, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_delta", "index": -1, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_delta", "index": True, "delta": {}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 7}},
        {"type": "content_block_delta", "index": 0, "delta": None},
        {"type": "content_block_start", "index": 1, "content_block": "x"},
        {"type": "content_block_start", "index": 10**9, "content_block": {"type": "text"}},
        {"type": "message_start", "message": 7},
    ],
)
def test_events_that_make_no_sense_are_counted(event: Any) -> None:
    assembler, deltas = read([sse([START, TEXT, piece("a"), event, piece("b"), STOP], named=True)])
    assert assembler.malformed == 1
    assert added_up(deltas)[0] == assembler.answer().text == "ab"


def test_what_is_new_is_ignored() -> None:
    events = [START, TEXT, {"type": "new_event", "x": 1}, piece("a"), {"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta"}}, STOP]  # fmt: skip
    assembler, _ = read([sse(events, named=True)])
    assert (assembler.malformed, assembler.answer().text) == (0, "a")


@pytest.mark.parametrize(("kind", "status"), [("overloaded_error", 529), ("rate_limit_error", 429), ("api_error", 0)])
def test_an_error_inside_the_stream(kind: str, status: int) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "no sk-ant-hunter2"}, "request_id": "req_1"}
    assembler = ChatAssembler(Secret("sk-ant-hunter2"))
    with pytest.raises(ProviderComplaint) as caught:
        assembler.take(Event("error", json.dumps(error)))
    assert (caught.value.complaint.kind, caught.value.complaint.status) == (kind, status)
    assert "hunter2" not in str(caught.value)


def test_halves_of_characters_wait_for_each_other() -> None:
    assembler, deltas = read([sse([START, TEXT, piece("a")], named=True), b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d"}}\n\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ude00"}}\n\n', sse([STOP], named=True)])  # fmt: skip
    assert added_up(deltas)[0] == assembler.answer().text == "a😀"


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (None, "not an object"),
        ([], "not an object"),
        ({}, "without any content"),
        ({"content": "x"}, "without any content"),
        ({"content": ["x"]}, "without any content"),
        ({"content": [{"type": "text", "text": 7}]}, "text that is none"),
        ({"content": [{"type": "tool_use", "input": {}}]}, "without id or name"),
    ],
)
def test_nonsense(payload: Any, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read_chat(payload)


def test_little_is_enough() -> None:
    assert read_chat({"content": []}) == ChatAnswer("", (), None, None, None)


def test_why_an_answer_was_withheld() -> None:
    payload = {"content": [], "stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "bio"}}
    answer = read_chat(payload)
    assert (answer.finish_reason, answer.withheld) == ("content_filter", "bio")


NAMES = "content type text tool_use id name input stop_reason usage input_tokens thinking model".split()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(NAMES) | st.text(max_size=5),
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


EVENTS = ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "ping"]


@given(
    events=st.lists(
        st.builds(
            lambda kind, index, body: {
                "type": kind,
                "index": index,
                "message": body,
                "content_block": body,
                "delta": body,
            },
            st.sampled_from(EVENTS),
            st.integers(-1, 2) | st.none(),
            json_values,
        ),
        max_size=8,
    )
)
def test_any_events_are_an_answer_or_unreadable(events: list[Any]) -> None:
    assembler, _ = read([sse(events, named=False)])
    try:
        msgpack.packb(assembler.answer().extra)
    except Unreadable:
        pass
