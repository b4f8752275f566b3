"""Several questions in one prompt."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork.items import Item, find_items


def found(text):
    batch = find_items(text)
    return None if batch is None else [(item.id, item.text) for item in batch.items]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("Answer each question:\n1. What is 2+2?\n2. Who\nare you?", [("1", "What is 2+2?"), ("2", "Who\nare you?")]),
        ("1) one\n2) two", [("1", "one"), ("2", "two")]),
        ("Tag these pages.\n\nPage 1: cats\nPage 2: dogs", [("1", "cats"), ("2", "dogs")]),
        ("Tag each item.\n[1] cats\n[2] dogs", [("1", "cats"), ("2", "dogs")]),
        ("Tag each item.\n[a7] cats\n[id: q2] dogs", [("a7", "cats"), ("q2", "dogs")]),
        ("Tag all of them:\nItem a7: cats\nItem q2: dogs", [("a7", "cats"), ("q2", "dogs")]),
        ('<item id="a7">cats\n</item>\n<item id=q2>dogs</item>', [("a7", "cats"), ("q2", "dogs")]),
        ('<doc id="x.1">1. one\n2. two</doc>', [("x.1", "1. one\n2. two")]),
        ('[{"id": "a7", "text": "cats"}, {"id": 2, "title": "dogs"}]', [("a7", "cats"), ("2", '{"title": "dogs"}')]),
        ('Tag each item.\n{"a7": "cats", "q2": {"text": "dogs"}}', [("a7", "cats"), ("q2", "dogs")]),
    ],
)
def test_questions_are_found(text, items):
    assert found(text) == items


@pytest.mark.parametrize(
    "text",
    [
        "What is 2+2?",
        "Give three tags for this page:\nHow to install\n1. download\n2. unpack",
        "Give three tags for this page:\n1. download\n2. unpack",
        "Answer each question:\n1. only one",
        "Tag this record:\n" + json.dumps({"title": "cats", "body": "dogs"}),
        '<item id="a">x</item><item id="a">y</item>',
        '<item id="a">never closed',
        "Each of [this] and [that]",
        "",
    ],
)
def test_one_question_is_one_question(text):
    assert found(text) is None


def test_what_is_asked_of_each_is_kept_apart():
    batch = find_items('Tag each page.\n<page id="a">cats</page>\n<page id="b">dogs</page>\nReply in JSON.')
    assert batch is not None
    assert "Tag each page." in batch.instruction
    assert "Reply in JSON." in batch.instruction
    assert "cats" not in batch.instruction
    assert not batch.numbered


IDS = st.from_regex(r"[a-z][a-z0-9]{3,8}", fullmatch=True)
TEXTS = st.text(st.characters(blacklist_characters="<>", blacklist_categories=("Cs",)), max_size=60)


@settings(deadline=None)
@given(st.dictionaries(IDS, TEXTS, min_size=1, max_size=8))
def test_elements_hold_any_text(texts):
    prompt = "Tag each.\n" + "\n".join(f'<item id="{key}">{text}</item>' for key, text in texts.items())
    batch = find_items(prompt)
    assert batch is not None
    assert batch.items == tuple(Item(key, text.strip()) for key, text in texts.items())


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_can_be_searched(text):
    batch = find_items(text)
    assert batch is None or batch.items


def test_nothing_takes_long_on_nasty_text():
    import time

    began = time.process_time()
    for text in ("<a id=1>" * 50_000, "[" * 100_000, '{"' * 50_000, "\n1. x" * 30_000, "<" * 200_000, "[a]\n" * 50_000):
        find_items(text)
    assert time.process_time() - began < 3.0
