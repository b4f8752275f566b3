"""The form in which equal things are given: the first, for as long as it is used, and never another owner's."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.first_forms import KEPT_S, MOST_CHARACTERS, MOST_FORMS, FirstForms

ONE = {"type": "function", "function": {"name": "a", "parameters": {"thought": 1, "answer": 2}}}
OTHER = {"function": {"parameters": {"answer": 2, "thought": 1}, "name": "a"}, "type": "function"}


def test_the_first_form_is_given_for_all_that_are_equal() -> None:
    forms = FirstForms()
    assert forms.settled("me", [ONE], 0.0) == [ONE]
    assert json.dumps(forms.settled("me", [OTHER], 1.0)) == json.dumps([ONE])
    assert len(forms) == 1


def test_the_order_of_a_list_and_every_value_count() -> None:
    forms = FirstForms()
    forms.settled("me", [1, 2], 0.0)
    assert forms.settled("me", [2, 1], 0.0) == [2, 1]
    assert forms.settled("me", [1, 2, 3], 0.0) == [1, 2, 3]
    assert forms.settled("me", [1, "2"], 0.0) == [1, "2"]


def test_another_owner_has_forms_of_his_own() -> None:
    forms = FirstForms()
    forms.settled(("me", ""), ONE, 0.0)
    assert list(forms.settled(("you", ""), OTHER, 0.0)) == ["function", "type"]


def test_a_form_is_forgotten_when_it_is_not_used() -> None:
    forms = FirstForms()
    forms.settled("me", ONE, 0.0)
    forms.settled("me", OTHER, KEPT_S)
    assert list(forms.settled("me", OTHER, 2 * KEPT_S)) == ["type", "function"]
    assert list(forms.settled("me", OTHER, 3 * KEPT_S + 1)) == ["function", "type"]
    assert len(forms) == 1


def test_it_is_bounded_by_number_and_by_length() -> None:
    forms = FirstForms()
    for number in range(MOST_FORMS + 10):
        forms.settled("me", {"b": number, "a": 0}, 0.0)
    assert len(forms) == MOST_FORMS
    assert list(forms.settled("me", {"a": 0, "b": 0}, 0.0)) == ["a", "b"]  # it was the oldest
    for number in range(10):
        forms.settled("me", [number, "x" * (MOST_CHARACTERS // 5)], 0.0)
    assert len(forms) < 6
    before = len(forms)
    long = ["x" * MOST_CHARACTERS]
    assert forms.settled("me", long, 0.0) is long
    assert len(forms) == before


def test_what_is_no_json_comes_back_as_it_is() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in ({1: 2, "a": 3}, b"bytes", endless, [object()]):
        assert FirstForms().settled("me", value, 0.0) is value
    forms = FirstForms()
    forms.settled("me", {"b": math.inf, "a": 1}, 0.0)
    assert list(forms.settled("me", {"a": 1, "b": math.inf}, 0.0)) == ["b", "a"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def turned(value: Any) -> Any:
    """The same with all maps the other way round."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(value)}
    return [turned(one) for one in value] if isinstance(value, list) else value


@given(st.lists(JSON, max_size=6))
def test_what_is_given_is_always_equal_to_what_came(values: list[Any]) -> None:
    forms = FirstForms()
    for value in [*values, *map(turned, values)]:
        given_form = forms.settled("me", value, 0.0)
        assert json.dumps(given_form, sort_keys=True) == json.dumps(value, sort_keys=True)
        assert json.dumps(forms.settled("me", turned(value), 0.0)) == json.dumps(given_form)
