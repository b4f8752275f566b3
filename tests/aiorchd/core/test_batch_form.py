"""One prompt for several questions, and its answer: whatever the texts and the answer hold, no answer goes astray."""

from __future__ import annotations

import json
import random
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.core.batch_form import (
    INSTRUCTIONS,
    TEXT_MARK,
    answer_text,
    batch_request,
    common_parts,
    fits,
    new_ids,
    split_answer,
    system_text,
    user_text,
)

TEXTS = st.text(st.sampled_from('ab \n"{}[]\\:,1.é\ud800'), min_size=1, max_size=40).filter(str.strip)
WILD = st.text(max_size=60).filter(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def parts(*prompts):
    found = common_parts(prompts)
    return found.head, found.tail, list(found.texts)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (["Tag this:\ncats", "Tag this:\ndogs"], ("Tag this:\n", "", ["cats", "dogs"])),
        (["Tag this: the cat", "Tag this: the dog"], ("Tag this: the ", "", ["cat", "dog"])),
        # A line end goes before a later word's end: what is common by chance stays with its text.
        (["Tag this:\nthe cat", "Tag this:\nthe dog"], ("Tag this:\n", "", ["the cat", "the dog"])),
        (["Page: cats\nThree tags.", "Page: dogs\nThree tags."], ("Page: ", "\nThree tags.", ["cats", "dogs"])),
        (["Is cats plural?", "Is dogs plural?"], ("Is ", " plural?", ["cats", "dogs"])),
        (['{"title": "The cat", "n": 12}', '{"title": "The dog", "n": 13}'],
         ("", "", ['{"title": "The cat", "n": 12}', '{"title": "The dog", "n": 13}'])),
        (['Like {"a": 1}:\n{"t": "x y"}', 'Like {"a": 1}:\n{"t": "x z"}'],
         ('Like {"a": 1}:\n', "", ['{"t": "x y"}', '{"t": "x z"}'])),
        (["unforgettable", "unforgiven"], ("", "", ["unforgettable", "unforgiven"])),
        (["n 12345", "n 12399"], ("n ", "", ["12345", "12399"])),
        (["same", "same"], ("", "", ["same", "same"])),
        (["a b c", "a b"], ("a ", "", ["b c", "b"])),
        (["only one"], ("", "", ["only one"])),
    ],
)  # fmt: skip
def test_what_prompts_have_in_common(prompts, expected):
    assert parts(*prompts) == expected


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.text("ab \n", max_size=20), st.text("ab \n", max_size=20))
def test_the_parts_make_up_the_prompts(texts, before, after):
    prompts = [before + text + after for text in texts]
    found = common_parts(prompts)
    assert [found.head + text + found.tail for text in found.texts] == prompts
    assert all(text.strip() for text in found.texts)


@settings(deadline=None)
@given(st.lists(JSON.filter(lambda value: isinstance(value, dict | list)), min_size=2, max_size=5))
def test_no_json_document_is_cut(values):
    prompts = ["Look at this:\n" + json.dumps(value, indent=1) for value in values]
    found = common_parts(prompts)
    for text, value in zip(found.texts, values, strict=True):
        assert json.loads(text.removeprefix("Look at this:\n")) == value


@settings(deadline=None)
@given(st.lists(WILD, min_size=1, max_size=6))
def test_the_document_at_the_end_is_json_with_every_text(prompts):
    found = common_parts(prompts)
    ids = new_ids(len(prompts), found.texts, random.Random(1).choice)
    written = user_text(found, ids)
    document = json.loads(written[len(written) - len(_document(found, ids)) :])
    assert document == {"items": [{"id": one, "text": text} for one, text in zip(ids, found.texts, strict=True)]}


def _document(found, ids):
    items = [{"id": one, "text": text} for one, text in zip(ids, found.texts, strict=True)]
    return json.dumps({"items": items}, ensure_ascii=False, separators=(",", ":"))


def test_the_whole_prompt():
    found = common_parts(["Page: cats\nTags?", 'Page: "dogs"\nTags?'])
    assert user_text(found, ["k7qd", "m2xx"]) == (
        f'Page: {TEXT_MARK}\nTags?\n\n{{"items":[{{"id":"k7qd","text":"cats"}},{{"id":"m2xx","text":"\\"dogs\\""}}]}}'
    )
    assert system_text("You tag.", structured=False).startswith(f"You tag.\n\n{INSTRUCTIONS}")
    made = batch_request(
        {"messages": [], "output_schema": 1, "max_tokens": 10, "temperature": 0}, found, ["a", "b"],
        system=None, structured=True, schema={"type": "object"}, most_tokens=50,
    )  # fmt: skip
    assert (made["max_tokens"], made["temperature"], made["output_schema"]) == (50, 0, {"type": "object"})
    assert [message["role"] for message in made["messages"]] == ["system", "user"]


@settings(deadline=None)
@given(st.lists(st.text(string.ascii_lowercase + string.digits, max_size=200), max_size=4))
def test_ids_are_unlike_and_in_no_text(texts):
    ids = new_ids(12, texts, random.Random(7).choice)
    assert len(set(ids)) == 12
    assert not any(re.search(rf"(?i)(?<![A-Za-z0-9]){one}(?![A-Za-z0-9])", text) for one in ids for text in texts)
    assert all(len(one) == 1 or one not in text for one in ids for text in texts)


def test_ids_are_single_letters_where_no_text_has_them_as_words():
    texts = ["Is plan B or (c) better?", "KBytes, a 2K screen", "X-ray", "答案Z是"]
    ids = new_ids(10, texts, random.Random(3).choice)
    assert all(len(one) == 1 for one in ids)
    assert len(set(ids)) == 10
    assert not set(ids) & set("BCXZAEIOU")
    assert len(new_ids(17, texts, random.Random(3).choice)) == 17
    longer = new_ids(18, texts, random.Random(3).choice)
    assert {len(one) for one in longer} == {2}


def test_there_are_longer_ids_when_the_texts_hold_all_short_ones():
    rng = random.Random(3)
    ids = new_ids(
        2,
        ["bbbbcccc", "bbbcbbcc", *string.ascii_letters],
        lambda letters: rng.choice(letters[:1]) if rng.random() < 0.95 else "k",
    )
    assert len(set(ids)) == 2


IDS = ("aaaa", "bbbb", "cccc")


def said(*entries):
    return json.dumps({"answers": [{"id": one, "answer": answer} for one, answer in entries]})


@pytest.mark.parametrize(
    ("text", "answers", "wrong", "extra"),
    [
        (said(("bbbb", "2"), ("aaaa", "1"), ("cccc", "3")), {"aaaa": "1", "bbbb": "2", "cccc": "3"}, {}, 0),
        (f"```json\n{said(('aaaa', '1'), ('bbbb', '2'), ('cccc', '3'))}\n```",
         {"aaaa": "1", "bbbb": "2", "cccc": "3"}, {}, 0),
        (said(("aaaa", "1"), ("bbbb", "2")), {"aaaa": "1", "bbbb": "2"}, {"cccc": "missing"}, 0),
        (said(("aaaa", "1"), ("bbbb", "2"), ("aaaa", "1"), ("cccc", "3")), {"bbbb": "2", "cccc": "3"}, {"aaaa": "doubled"}, 0),
        (said(("aaaa", "1"), ("bbbb", "2"), ("cccc", "3"), ("dddd", "4")),
         {"aaaa": "1", "bbbb": "2", "cccc": "3"}, {}, 1),
        (said(("aaaa", 1), ("bbbb", ""), ("cccc", "\ud800")), {}, dict.fromkeys(IDS, "invalid"), 0),
        (said((["aaaa"], "1"), ("bbbb", "2"), ("cccc", "3")), {"bbbb": "2", "cccc": "3"}, {"aaaa": "missing"}, 1),
        ('{"answers": ["aaaa", {"id": "aaaa"}, {"id": "bbbb", "answer": "2", "note": ""}, {"id": "cccc", "id": "cccc", "answer": "3"}]}',
         {}, dict.fromkeys(IDS, "invalid"), 1),
        (said(("AAAA", "1"), (" bbbb", "2"), ("cccc", "3")), {"cccc": "3"}, {"aaaa": "missing", "bbbb": "missing"}, 2),
    ],
)  # fmt: skip
def test_answers_are_taken_apart(text, answers, wrong, extra):
    found = split_answer(text, IDS, structured=False)
    assert (dict(found.answers), dict(found.wrong), found.extra, found.broken) == (answers, wrong, extra, None)


def test_a_name_that_stands_twice_within_an_answer_is_invalid():
    text = '{"answers": [{"id": "aaaa", "answer": {"x": [{"y": 1, "y": 2}]}}, {"id": "bbbb", "answer": {"x": []}}]}'
    found = split_answer(text, IDS[:2], structured=True)
    assert (dict(found.answers), dict(found.wrong)) == ({"bbbb": {"x": []}}, {"aaaa": "invalid"})


@pytest.mark.parametrize(
    "text",
    ["", "no", "[]", "null", '{"answers": {}}', '{"answer": []}', '{"answers": [], "answers": []}', "[" * 100_000,
     '{"answers": [NaN]}', f"{said(('aaaa', '1'))} {said(('bbbb', '2'))}", said(("aaaa", "1"))[:-4]],
)  # fmt: skip
def test_what_cannot_be_read_is_broken_as_a_whole(text):
    found = split_answer(text, IDS, structured=False)
    assert found.broken
    assert not found.answers


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(IDS), JSON, min_size=1), st.randoms())
def test_answers_come_through_as_they_are(answers, rng):
    ids = list(answers)
    order = list(answers.items())
    rng.shuffle(order)
    found = split_answer(said(*order), ids, structured=True)
    assert dict(found.answers) == answers
    for value in found.answers.values():
        assert json.loads(answer_text(value, structured=True)) == value


@settings(deadline=None)
@given(st.text(max_size=200) | st.lists(st.dictionaries(st.sampled_from(["id", "answer", "x"]), st.sampled_from([*IDS, "z", 1]))).map(
    lambda entries: json.dumps({"answers": entries})))  # fmt: skip
def test_whatever_comes_every_id_is_answered_wrong_or_broken(text):
    found = split_answer(text, IDS, structured=False)
    if found.broken is None:
        assert set(found.answers) | set(found.wrong) == set(IDS)
        assert not set(found.answers) & set(found.wrong)


def test_limits_of_a_model():
    assert fits(200_000, 99, answer_tokens=10**6, context_tokens=None, output_tokens=None)
    assert not fits(200_001, 2, answer_tokens=1, context_tokens=None, output_tokens=None)
    assert not fits(100, 10, answer_tokens=100, context_tokens=None, output_tokens=1000)
    assert fits(100, 8, answer_tokens=100, context_tokens=None, output_tokens=1000)
    assert not fits(30_000, 2, answer_tokens=0, context_tokens=12_000, output_tokens=None)
    assert fits(27_000, 2, answer_tokens=0, context_tokens=12_000, output_tokens=None)


def test_nothing_takes_long_on_nasty_prompts():
    import time

    began = time.process_time()
    for text in ("{" * 100_000, '"' * 100_000, " " * 100_000, "\n" * 100_000, "\\" * 100_000, "a [ " * 30_000):
        common_parts([text + "x", text + "y"])
        common_parts(["x" + text, "y" + text])
    assert time.process_time() - began < 2.0
