"""What a text quotes of somebody's words goes; everything else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.quoting import MOST_CHARACTERS, REMOVED, SHORTEST_RUN, content_of, texts_in, unquote

PROMPT = "My account number is 4711-0815 and my mother's name was Marguerite. What do I owe?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the request was malformed (400)", "the request was malformed (400)"),
        ("", ""),
        (f"Invalid value: '{PROMPT}'", "Invalid value: '[...]'"),
        (f"Invalid value: '{PROMPT[:40]}...'", "Invalid value: '[...]...'"),
        (f"bad:{PROMPT[2:30]}/{PROMPT[50:80]}!", "bad:[...]/[...]!"),
        (PROMPT, REMOVED),
    ],
)
def test_what_is_quoted_goes(text: str, expected: str) -> None:
    assert unquote(text, [PROMPT]) == expected


def test_short_content_goes_where_it_stands_whole() -> None:
    assert unquote("cannot read 'Bearer 12' here, Bearer 12", ["Bearer 12"]) == "cannot read '[...]' here, [...]"
    assert unquote("no such thing", ["no"]) == "no such thing"


def test_several_pieces_of_content() -> None:
    told = unquote("one two three four five / six seven eight nine", ["two three four five", "seven eight nine"])
    assert told == "one [...] / six [...]"


def test_too_much_content_keeps_nothing() -> None:
    assert unquote("anything at all", ["x" * (MOST_CHARACTERS + 1)]) == REMOVED


def test_a_window_that_stands_everywhere_is_not_followed_for_ever() -> None:
    assert unquote("aaaaaaaa is what it says", ["aaaaaaaa" * 30_000]) == "aaaaaaaa is what it says"


@given(st.text(min_size=SHORTEST_RUN, max_size=60), st.text(max_size=40), st.text(max_size=40), st.data())
def test_no_long_run_is_left(content: str, before: str, after: str, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(content) - SHORTEST_RUN))
    quoted = content[begin : begin + data.draw(st.integers(SHORTEST_RUN, 60))]
    told = unquote(before + quoted + after, [content])
    assert quoted not in told.replace(REMOVED, "\ue000\ue001")


@given(st.text(alphabet="abcdef ", max_size=200), st.text(alphabet="uvwxyz", max_size=200))
def test_strangers_words_stay(text: str, content: str) -> None:
    assert unquote(text, [content]) == text


def test_texts_in_plain_data() -> None:
    value = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "seed": 7,
        "stop": ("a", None),
    }
    assert sorted(texts_in(value)) == ["a", "hi", "text", "user"]
    deep: list[object] = ["x"]
    for _ in range(5000):
        deep = [deep]
    assert list(texts_in(deep)) == ["x"]


def test_whose_words_a_request_holds() -> None:
    request = {
        "messages": [{"role": "user", "content": "hello"}],
        "user": "anna",
        "extra": {"note": "mine"},
        "output_schema": {"title": "public"},
        "stop": ["end"],
    }
    assert sorted(content_of(request)) == ["anna", "hello", "mine", "user"]
    assert list(content_of({"input": ["one", "two"]})) == ["one", "two"]
