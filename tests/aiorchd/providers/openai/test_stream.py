"""Streams put together: the same answer as whole, whatever the server's habits and however the bytes are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.calls.reply import Usage
from aiorchd.providers.answer import ChatAnswer
from aiorchd.providers.openai.stream import ChatAssembler, merge
from aiorchd.providers.secret import Secret
from aiorchd.providers.sse import Event, EventParser
from aiorchd.providers.streaming import Delta, ProviderComplaint


def chunk(
    delta: dict[str, Any] | None = None, *, index: int = 0, finish: str | None = None, **payload: Any
) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": index, "delta": delta or {}, "finish_reason": finish, "logprobs": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice], **payload}


USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "completion_tokens_details": {"reasoning_tokens": 1},
}
LAST = {"id": "c1", "model": "m-1", "choices": [], "usage": USAGE}


def read(*chunks: Any, done: bool = True) -> tuple[ChatAssembler, list[Delta]]:
    assembler = ChatAssembler(Secret("sk-hunter2"))
    deltas = []
    for one in chunks:
        data = one if isinstance(one, str) else json.dumps(one)
        delta = assembler.take(Event("", data))
        if delta is not None:
            deltas.append(delta)
    if done:
        assembler.take(Event("", "[DONE]"))
    return assembler, deltas


def test_a_plain_stream() -> None:
    assembler, deltas = read(
        chunk({"role": "assistant", "content": "", "refusal": None}, service_tier="default", system_fingerprint="fp"),
        chunk({"content": "Eight "}),
        chunk({"content": "moons."}, usage=None),
        chunk(finish="stop"),
        LAST,
    )
    assert deltas == [Delta("Eight "), Delta("moons.")]
    assert assembler.complete
    assert assembler.answer() == ChatAnswer(
        "Eight moons.", (), "stop", "m-1", Usage(9, 0, 0, 2, 1), {"service_tier": "default", "system_fingerprint": "fp"}
    )


@pytest.mark.parametrize(
    "ending",
    [
        [chunk(finish="stop"), LAST],
        [chunk(finish="stop", usage=USAGE)],
        [chunk({"content": ""}, finish="stop", usage=USAGE)],
        [chunk(usage=USAGE), chunk(finish="stop")],
        [chunk(finish="stop", x_groq={"id": "r", "usage": USAGE})],
        [LAST, chunk(finish="stop")],
    ],
    ids=["own chunk", "with the finish", "with empty content", "before the finish", "groq", "early"],
)
def test_usage_on_any_chunk(ending: list[dict[str, Any]]) -> None:
    assembler, _ = read(chunk({"content": "x"}), *ending)
    assert assembler.answer().usage == Usage(9, 0, 0, 2, 1)


def tool(index: int | None, **fields: Any) -> dict[str, Any]:
    part = {name: value for name, value in fields.items() if name in ("id", "type")}
    function = {name: value for name, value in fields.items() if name in ("name", "arguments")}
    if function:
        part["function"] = function
    return part if index is None else {"index": index, **part}


WHOLE = (
    {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}},
    {"id": "b", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
)


@pytest.mark.parametrize(
    "parts",
    [
        [
            [tool(0, id="a", type="function", name="get_weather", arguments="")],
            [tool(0, arguments='{"city"')],
            [tool(0, arguments=':"Oslo"}')],
            [tool(1, id="b", type="function", name="get_time", arguments="")],
            [tool(1, arguments="{}")],
        ],
        [
            [
                tool(0, id="a", type="function", name="get_weather", arguments='{"city":'),
                tool(1, id="b", type="function"),
            ],
            [tool(1, name="get_time", arguments="{"), tool(0, arguments='"Oslo"}')],
            [tool(1, arguments="}")],
        ],
        [
            [tool(0, id="a", type="function", name="get_weather", arguments='{"city"')],
            [tool(0, id="a", type="function", name="get_weather", arguments=':"Oslo"}')],
            [tool(1, id="b", type="function", name="get_time", arguments="{}")],
        ],
        [
            [tool(0, id="a", type="function", name="get_", arguments=None)],
            [tool(0, id="", type="function", name="weather", arguments='{"city":"Oslo"}')],
            [tool(1, id="b", type="function", name="get_time", arguments="{}")],
        ],
        [
            [tool(None, id="a", type="function", name="get_weather", arguments='{"city":"Oslo"}')],
            [tool(None, id="b", type="function", name="get_time", arguments="{}")],
        ],
        [
            [
                tool(None, id="a", type="function", name="get_weather", arguments='{"city":"Oslo"}'),
                tool(None, id="b", type="function", name="get_time", arguments="{}"),
            ],
        ],
        [
            [tool(None, id="a", type="function", name="get_weather", arguments='{"city"')],
            [tool(None, arguments=':"Oslo"}')],
            [tool(None, id="b", type="function", name="get_time")],
            [tool(None, id="b", arguments="{}")],
        ],
    ],
    ids=["openai", "interleaved", "repeated", "name in pieces", "no index", "all at once", "no index, continued"],
)
def test_tool_calls_are_merged(parts: list[list[dict[str, Any]]]) -> None:
    assembler, deltas = read(*(chunk({"tool_calls": part}) for part in parts), chunk(finish="tool_calls"))
    answer = assembler.answer()
    assert answer.tool_calls == WHOLE
    assert answer.finish_reason == "tool_calls"
    assert all(delta.text is None for delta in deltas)
    pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
    assert {piece["index"] for piece in pieces} == {0, 1}
    # Whoever adds up the pieces gets the same, as OpenAI's own clients do.
    again, _ = read(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk(finish="tool_calls"))
    assert again.answer().tool_calls == WHOLE


def test_unnamed_fields_are_kept_as_in_a_whole_answer() -> None:
    filters = {"hate": {"filtered": False, "severity": "safe"}}
    assembler, deltas = read(
        {"choices": [], "prompt_filter_results": [1]},
        chunk({"role": "assistant", "reasoning_content": "Let me "}),
        chunk({"role": "assistant", "reasoning_content": "count."}),
        chunk({"content": "Eight", "annotations": [{"a": 1}]}),
        chunk({"content": ".", "annotations": [{"b": 2}]}),
        chunk({"reasoning_details": [{"index": 0, "type": "reasoning.text", "text": "Let ", "format": "f"}]}),
        chunk({"reasoning_details": [{"index": 0, "type": "reasoning.text", "text": "me", "format": "f"}]}),
        {
            "choices": [
                {"index": 0, "delta": {}, "content_filter_results": filters, "logprobs": {"content": [{"t": 1}]}}
            ]
        },
        {
            "choices": [
                {"index": 0, "delta": {}, "content_filter_results": filters, "logprobs": {"content": [{"t": 2}]}}
            ]
        },
        chunk(finish="stop"),
    )
    assert [delta.text for delta in deltas] == ["Eight", "."]
    assert assembler.answer().extra == {
        "prompt_filter_results": [1],
        "reasoning_content": "Let me count.",
        "annotations": [{"a": 1}, {"b": 2}],
        "reasoning_details": [{"index": 0, "type": "reasoning.text", "text": "Let me", "format": "f"}],
        "content_filter_results": filters,
        "logprobs": {"content": [{"t": 1}, {"t": 2}]},
    }


def test_content_in_parts() -> None:
    assembler, deltas = read(
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]}),
        chunk({"content": [{"type": "text", "text": "Eight"}]}),
        chunk({"content": [{"type": "text", "text": "."}]}),
        chunk(finish="stop"),
    )
    assert [delta.text for delta in deltas] == ["Eight", "."]
    assert assembler.answer().text == "Eight."


def test_several_choices() -> None:
    assembler, deltas = read(
        chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({"content": "c"}),
        chunk(finish="stop", index=1), chunk(finish="stop"),
    )  # fmt: skip
    assert [delta.text for delta in deltas] == ["a", "c"]
    answer = assembler.answer()
    assert answer.text == "ac"
    assert [choice["message"]["content"] for choice in answer.extra["choices"]] == ["ac", "b"]


def test_a_whole_message_in_a_stream() -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Eight."}, "finish_reason": "stop"}]}
    assembler, deltas = read(whole)
    assert deltas == [Delta("Eight.")]
    assert assembler.answer().text == "Eight."


@pytest.mark.parametrize(
    "damage", ["{", "nonsense", "[1]", "7", '{"choices": [7]}', '{"choices": [{"index": "x"}]}', "[" * 100_000]
)
def test_a_damaged_event_is_survived_when_the_stream_ends_well(damage: str) -> None:
    assembler, _ = read(chunk({"content": "Eight"}), damage, chunk({"content": "."}), chunk(finish="stop"))
    assert assembler.malformed == 1
    assert assembler.complete
    assert assembler.answer().text == "Eight."
    assembler, _ = read(chunk({"content": "Eight"}), damage, done=False)
    assert not assembler.complete


def test_what_makes_an_answer_complete() -> None:
    assert not read(done=True)[0].complete
    assert not read(chunk({"content": "x"}), done=False)[0].complete
    assert read(chunk({"content": "x"}), done=True)[0].complete
    assert read(chunk({"content": "x"}), chunk(finish="stop"), done=False)[0].complete
    # Of several choices the first counts.
    assert not read(chunk({"content": "x"}), chunk(finish="stop", index=1), done=False)[0].complete


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (Event("", '{"error": {"message": "boom", "type": "server_error", "code": null}}'), 0, None),
        (Event("error", '{"message": "boom", "code": "overloaded"}'), 0, "overloaded"),
        (Event("error", '{"error": {"message": "boom", "code": 502}}'), 502, "502"),
        (Event("", '{"error": "boom"}'), 0, None),
        (Event("", '{"object": "error", "message": "boom", "code": 400}'), 400, "400"),
        (
            Event(
                "", '{"error": {"message": "boom"}, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}'
            ),
            0,
            None,
        ),
    ],
)
def test_errors_inside_a_stream(event: Event, status: int, code: str | None) -> None:
    assembler, _ = read(chunk({"content": "x"}), done=False)
    with pytest.raises(ProviderComplaint) as caught:
        assembler.take(event)
    assert caught.value.complaint.message == "boom"
    assert (caught.value.complaint.status, caught.value.complaint.code) == (status, code)


def test_no_error_at_all() -> None:
    assembler, _ = read(chunk({"content": "x"}, error=None), chunk(finish="stop", error={}))
    assert assembler.answer().text == "x"


def test_a_long_answer_takes_linear_time() -> None:
    assembler = ChatAssembler(None)
    one = Event("", json.dumps(chunk({"content": "0123456789" * 10, "reasoning_content": "x" * 100})))
    for _ in range(20_000):
        assembler.take(one)
    assembler.take(Event("", "[DONE]"))
    assert len(assembler.answer().text) == 2_000_000


# --- any cutting -----------------------------------------------------------------------------------------------------

texts = st.text(alphabet='aé🌍\n"\\ d:', max_size=6)
deltas_ = st.one_of(
    st.fixed_dictionaries({"content": texts}),
    st.fixed_dictionaries({"reasoning_content": texts}),
    st.fixed_dictionaries(
        {"tool_calls": st.lists(st.builds(lambda a: tool(0, id="a", name="f", arguments=a), texts), max_size=2)}
    ),
)
streams = st.lists(st.one_of(st.builds(chunk, deltas_), st.just(LAST), st.just("{damaged")), max_size=10)


@given(
    chunks=streams,
    end=st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"]),
    finished=st.booleans(),
    cuts=st.lists(st.integers(0, 3000), max_size=15),
)
def test_any_cutting_of_the_bytes_gives_the_same(chunks: list[Any], end: str, finished: bool, cuts: list[int]) -> None:
    every = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in chunks]
    every += [json.dumps(chunk(finish="stop")), "[DONE]"] if finished else []
    data = "".join(f"data: {one}{end}: keep-alive{end}" for one in every).encode()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]

    def run(pieces: list[bytes]) -> tuple[Any, ...]:
        parser, assembler = EventParser(), ChatAssembler(None)
        events = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
        deltas = [delta for event in events if (delta := assembler.take(event)) is not None]
        return deltas, assembler.malformed, assembler.complete, assembler.answer() if assembler.complete else None

    cut = run([data[places[n] : places[n + 1]] for n in range(len(places) - 1)])
    assert cut == run([data])
    deltas, _, complete, answer = cut
    assert complete is finished
    if answer is not None:
        assert answer.text == "".join(delta.text or "" for delta in deltas)


plain = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abi") | st.just("index"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(deltas=st.lists(st.dictionaries(st.sampled_from("abc"), plain, max_size=3), max_size=5))
def test_merging_never_changes_what_it_is_given(deltas: list[dict[str, Any]]) -> None:
    before = json.dumps(deltas)
    into: dict[str, Any] = {}
    for delta in deltas:
        merge(into, delta)
    assert json.dumps(deltas) == before


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        (["a\ud83d", "\ude00b"], ["a", "😀b"]),  # cut by UTF-16 units
        (["\ud83d", "\ude00"], ["😀"]),
        (["é\ud83d", "x"], ["é", "\ufffdx"]),
        (["\ude00é"], ["\ufffdé"]),
        (["a\ud83d"], ["a", "\ufffd"]),  # never completed
    ],
)
@pytest.mark.parametrize("finish", ["stop", None])
def test_halves_of_characters_are_joined_or_mended(pieces: list[str], told: list[str], finish: str | None) -> None:
    assembler = ChatAssembler(None)
    chunks = [chunk({"content": piece}) for piece in pieces] + ([chunk(finish=finish)] if finish else [])
    events = [*map(json.dumps, chunks), "[DONE]"]
    deltas = [delta for data in events if (delta := assembler.take(Event("", data))) is not None]
    assert [delta.text for delta in deltas] == told
    assert assembler.answer().text == "".join(told)


def test_a_half_in_a_tool_call_is_mended() -> None:
    parts = [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "\ud800"}}]
    assembler, deltas = read(chunk({"tool_calls": parts}), chunk(finish="tool_calls"))
    assert deltas[0].tool_calls is not None
    assert deltas[0].tool_calls[0]["function"]["arguments"] == "\ufffd"
    assert assembler.answer().tool_calls[0]["function"]["arguments"] == "\ufffd"
