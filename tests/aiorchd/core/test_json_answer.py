"""Finding the one JSON value in an answer: wrapping is undone and told, nothing is guessed."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.json_answer import MAX_DEPTH, JsonAnswer, NotOneJsonValueError, read_json_answer

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
containers = st.lists(json_values, max_size=3) | st.dictionaries(st.text(max_size=5), json_values, max_size=3)
prose = st.text(string.ascii_letters + " .,:;!?'\n")


@given(json_values, st.sampled_from(["", " ", "\n\t", "\ufeff"]))
def test_plain_json_is_read_as_it_is(value: Any, space: str) -> None:
    assert read_json_answer(space + json.dumps(value)) == JsonAnswer(value)


@given(json_values, prose, prose, st.sampled_from(["", "json", "JSON5", "c++"]))
def test_a_code_fence_is_taken_off_and_told(value: Any, before: str, after: str, language: str) -> None:
    text = f"{before}\n```{language}\n{json.dumps(value, indent=1)}\n```\n{after}"
    assert read_json_answer(text) == JsonAnswer(value, ("code_fence",))


@given(containers, prose.filter(str.strip), prose)
def test_prose_around_is_left_aside_and_told(value: Any, before: str, after: str) -> None:
    assert read_json_answer(f"{before} {json.dumps(value)} {after}") == JsonAnswer(value, ("surrounding_text",))


@pytest.mark.parametrize(
    ("text", "value", "repaired"),
    [
        ("42", 42, ()),
        ('"just text"', "just text", ()),
        ("null", None, ()),
        ('```\n{"a": 1}\n```', {"a": 1}, ("code_fence",)),
        ('```json {"a": 1} ```', {"a": 1}, ("surrounding_text",)),
        ('```json\n{"a": 1}', {"a": 1}, ("surrounding_text",)),
        ('{"a": "```json\\n1\\n```"}', {"a": "```json\n1\n```"}, ()),
        ('Sure:\n```json\n{"a": "use ``` here"}\n```', {"a": "use ``` here"}, ("surrounding_text",)),
        ('Fill {name} in, like {"a": 1}.', {"a": 1}, ("surrounding_text",)),
        ('Code:\n```python\nx = {}\n```\nand\n```json\n{"a": 1}\n```', {"a": 1}, ("code_fence",)),
        ('{"a": 1}\n{"a":', {"a": 1}, ("surrounding_text",)),
        ('{"a": "\\ud83d"}', {"a": "\ufffd"}, ("lone_surrogate",)),
        ('Here: ["\\udc80", {"\\ud800": 1}]', ["\ufffd", {"\ufffd": 1}], ("surrounding_text", "lone_surrogate")),
        ('["\\ud83c\\udf0d"]', ["\U0001f30d"], ()),
        ("[1e400, 1]".replace("1e400", "1e40"), [1e40, 1], ()),
        (f"[{2**63 - 1}, {-(2**63)}, {2**63}, {-(2**63) - 1}]", [2**63 - 1, -(2**63), 2.0**63, -(2.0**63)], ()),
    ],
)
def test_by_example(text: str, value: Any, repaired: tuple[str, ...]) -> None:
    answer = read_json_answer(text)
    assert answer == JsonAnswer(value, repaired)


def test_integers_beyond_64_bits_become_doubles() -> None:
    value = read_json_answer(f"[{2**63}, {10**30}, -{10**18}]").value
    assert [type(number) for number in value] == [float, float, int]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the answer is empty"),
        ("  \n", "the answer is empty"),
        ("I cannot do that.", "no JSON value (Expecting value at line 1 column 1)"),
        ('{"a": 1} or {"a": 2}', "2 JSON values"),
        ("See [1] and {}", "2 JSON values"),
        ("```\n1\n```\n```\n2\n```", "2 JSON values"),
        ('{"a": [1, 2], "b": oops}', "no JSON value (Expecting value at line 1 column 20)"),
        ('Here: {"a": [1, 2], "b": oops}', "no JSON value"),
        ('{"a": "}", "b": [1], oops}', "no JSON value"),
        ('{"a": [1, 2], "b": "cut of', "no JSON value"),
        ('[{"a": 1}, {"a": 2}, {"a"', "no JSON value"),
        ("[NaN]", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e400]", "a number out of range"),
        (f"[{'9' * 400}]", "a number out of range"),
        ("{'a': 1}", "no JSON value"),
        ('{"a": 1,}', "no JSON value"),
    ],
)
def test_what_is_not_one_value_is_refused(text: str, said: str) -> None:
    with pytest.raises(NotOneJsonValueError) as caught:
        read_json_answer(text)
    assert said in str(caught.value)


def test_the_reason_does_not_quote_the_answer() -> None:
    with pytest.raises(NotOneJsonValueError) as caught:
        read_json_answer("secret " * 100)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_depth_is_bounded(brackets: str) -> None:
    def nested(levels: int) -> str:
        return "[" * levels + "]" * levels if brackets == "[]" else '{"a":' * levels + "1" + "}" * levels

    read_json_answer(nested(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 50_000):
        with pytest.raises(NotOneJsonValueError, match="nested deeper than 64 levels"):
            read_json_answer(nested(levels))


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, "{" * 200_000, '{"' * 100_000, '"' * 200_000, "[}" * 100_000, '["' + "\\" * 200_000, "```\n" * 50_000, "{x}" * 60_000],
    ids=lambda text: text[:4],
)  # fmt: skip
def test_hostile_text_takes_linear_time(text: str) -> None:
    with pytest.raises(NotOneJsonValueError):
        read_json_answer(text)


@given(st.text('[]{}",:\\ \n`1a', max_size=40))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        answer = read_json_answer(text)
    except NotOneJsonValueError:
        return
    assert json.loads(json.dumps(answer.value)) == answer.value
