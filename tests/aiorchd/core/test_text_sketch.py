"""Sketches of questions: what they keep, what they compare, and what no model may overrule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.text_sketch import MAX_WORDS, TextSketch, difference, sketch


def apart(one: str, other: str):
    first, second = sketch(one), sketch(other)
    assert first is not None and second is not None
    return difference(first, second)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("move 50 dollars to savings", "move 60 dollars to savings", "number"),
        ("wake me at 7:30", "wake me at 7:35", "number"),
        ("set the volume to eight", "set the volume to 9", "number"),
        ("how much is 20 km", "how much is 20 miles", "unit"),
        ("what will the weather be on monday", "what will the weather be on friday", "unit"),
        ("can i take my dog on the train", "can i not take my dog on the train", "negates"),
        ("do you accept visa", "don't you accept visa", "negates"),
        ("flights with a stop in rome", "flights without a stop in rome", "negates"),
        ("turn on the kitchen light", "turn off the kitchen light", "opposite"),
        ("how do i enable two factor login", "how do i disable two factor login", "opposite"),
        ("what is the cheapest plan", "what is the most expensive plan", "opposite"),
        ("flight from boston to denver", "flight from denver to boston", "order"),
        ("is python faster than ruby", "is ruby faster than python", "order"),
        ("convert euros to dollars", "convert dollars to euros", "order"),
        ("what is the capital of france", "what is the capital of germany", "one thing"),
        ("who wrote the book emma", "who wrote the book ulysses", "one thing"),
    ],
)
def test_small_changes_of_great_meaning_are_vetoed(one: str, other: str, why: str) -> None:
    assert why in (apart(one, other).vetoed or "nothing")
    assert why in (apart(other, one).vetoed or "nothing")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what is my balance", "please tell me what my balance is"),
        ("how do I reset my password?", "How can I reset my password"),
        ("set an alarm for 7", "could you set an alarm for seven please"),
        ("what's the weather in paris today", "what is the weather in paris today"),
        ("i lost my card", "hi, i think i lost my card"),
    ],
)
def test_the_same_in_other_words_is_not(one: str, other: str) -> None:
    assert apart(one, other).vetoed is None


def test_what_is_nothing_or_too_long_has_no_sketch() -> None:
    assert sketch("") is None
    assert sketch(" ?! ") is None
    assert sketch("word " * MAX_WORDS) is not None
    assert sketch("word " * (MAX_WORDS + 1)) is None


@given(st.text(max_size=200))
def test_any_text_is_like_itself_and_survives_the_disk(text: str) -> None:
    found = sketch(text)
    if found is not None:
        same = difference(found, found)
        assert same.vetoed is None
        assert (same.token_jaccard, same.bigram_jaccard, same.length_ratio) == (1.0, 1.0, 1.0)
        assert TextSketch.from_bytes(found.to_bytes()) == found


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_difference_is_symmetric(one: str, other: str) -> None:
    first, second = sketch(one), sketch(other)
    if first is not None and second is not None:
        assert difference(first, second) == difference(second, first)


@given(st.binary(max_size=60))
def test_what_is_no_sketch_is_refused_in_one_way(packed: bytes) -> None:
    try:
        TextSketch.from_bytes(packed)
    except ValueError:
        return
    assert len(packed) >= 12
