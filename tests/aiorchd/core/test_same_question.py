"""Questions that differ in how they are written alone are one; everything else is two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.same_question import question_form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How many moons has Mars?", "how many  moons has mars"),
        ("Tag this page.", "tag this page"),
        ("Tag this page!", "Tag this page."),
        ("WHAT IS IT?", "what is it"),
        (" cats ", "Cats"),
    ],
)
def test_the_same(one, other):
    assert question_form(one) == question_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is 5 mm long", "It is 5 cm long"),
        ("It is 5 mm long", "It is 6 mm long"),
        ("1.5 metres", "15 metres"),
        ("1,5 metres", "15 metres"),
        ("-5 degrees", "5 degrees"),
        ("Is it not open?", "Is it open?"),
        ("Do you trust US banks?", "Do you trust us banks?"),
        ("You are coming.", "You are coming?"),
        ("Let's eat, grandma", "Let's eat grandma"),
        ("from A to B", "from B to A"),
        ("re-sign", "resign"),
        ('{"a": "X"}', '{"a": "x"}'),
        ("one\ntwo", "one two"),
        ("x = A", "x = a"),
        ("https://x.example/A", "https://x.example/a"),
        ("...", "!!!"),
        ("word " * 100, "Word " * 100),
    ],
)
def test_not_the_same(one, other):
    assert question_form(one) != question_form(other)


@given(st.text(), st.text())
def test_a_form_is_no_other_text(one, other):
    if question_form(one) == question_form(other):
        assert "".join(one.split()).casefold().rstrip(".!?") == "".join(other.split()).casefold().rstrip(".!?")
