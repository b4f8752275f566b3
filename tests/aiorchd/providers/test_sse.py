"""Server-sent events: the same bytes give the same events, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.providers.sse import Event, EventParser, EventTooLarge


def parse(*chunks: bytes, finish: bool = True) -> list[Event]:
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.finish() if finish else events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\n", [Event("", "a")]),
        (b"data: a\r\n\r\n", [Event("", "a")]),
        (b"data: a\r\r", [Event("", "a")]),
        (b"data: a\r\n\ndata: b\n\r\n", [Event("", "a"), Event("", "b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("", "a")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [Event("", "a")]),
        (b"data:a\n\n", [Event("", "a")]),
        (b"data:  a\n\n", [Event("", " a")]),
        (b"data: a\ndata: b\n\n", [Event("", "a\nb")]),
        (b"data: a\r\ndata: b\r\n\r\n", [Event("", "a\nb")]),
        (b"data: a\rdata: b\r\r", [Event("", "a\nb")]),
        (b"data\n\n", [Event("", "")]),
        (b"data: a: b\n\n", [Event("", "a: b")]),
        (b": keep-alive\n\n: again\ndata: a\n\n", [Event("", "a")]),
        (b"event: error\ndata: a\n\ndata: b\n\n", [Event("error", "a"), Event("", "b")]),
        (b"event: lost\n\ndata: b\n\n", [Event("", "b")]),
        (b"id: 1\nretry: 10\nunknown: x\ndata: a\n\n", [Event("", "a")]),
        (b"\n\n\n\n", []),
        (b"", []),
        (b"data: gr\xc3\xbc\xc3\x9f\n\n", [Event("", "grüß")]),
        (b"data: \xff\xfe\n\n", [Event("", "��")]),
        (b"data: no empty line\n", [Event("", "no empty line")]),
        (b"data: not even a line", [Event("", "not even a line")]),
    ],
)
def test_what_is_read(text: bytes, events: list[Event]) -> None:
    assert parse(text) == events
    assert parse(*(bytes([byte]) for byte in text)) == events


def test_an_event_is_given_as_soon_as_it_is_complete() -> None:
    assert parse(b"data: a\n\ndata: b\n", finish=False) == [Event("", "a")]
    assert parse(b"data: a\r", b"\n\r", finish=False) == [Event("", "a")]


lines = st.sampled_from(
    [b"data: x", b"data: \xc3\xbc", b"data:", b"event: e", b": comment", b"", b"", b"id: 1", b"junk", b'data: {"a": 1}']
)  # fmt: skip
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(
    parts=st.lists(st.tuples(lines, ends), max_size=20),
    tail=st.sampled_from([b"", b"data: t", b"\r"]),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_any_cutting_gives_the_same(parts: list[tuple[bytes, bytes]], tail: bytes, cuts: list[int]) -> None:
    text = b"".join(line + end for line, end in parts) + tail
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    chunks = [text[places[n] : places[n + 1]] for n in range(len(places) - 1)]
    assert parse(*chunks) == parse(text)


@given(parts=st.lists(lines, max_size=20), end=st.sampled_from([b"\r\n", b"\r"]))
def test_the_kind_of_line_end_does_not_matter(parts: list[bytes], end: bytes) -> None:
    assert parse(end.join(parts) + end) == parse(b"\n".join(parts) + b"\n")


@pytest.mark.parametrize("chunk", [b"x", b"data: x\n", b"event: xxxxxxx\ndata: x\n", b": comment without end"])
def test_one_event_has_a_limit(chunk: bytes) -> None:
    parser = EventParser(max_event_bytes=1000)
    with pytest.raises(EventTooLarge):
        for _ in range(2000):
            parser.feed(chunk)


def test_many_events_have_none() -> None:
    parser = EventParser(max_event_bytes=20)
    for _ in range(1000):
        assert parser.feed(b"data: 0123456789\n\n: comment\n") == [Event("", "0123456789")]


def test_a_long_line_in_single_bytes_takes_linear_time() -> None:
    parser = EventParser()
    for _ in range(200_000):
        parser.feed(b"x")
    assert parser.feed(b"\n\n") == []
