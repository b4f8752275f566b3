"""The schema of a batch's answer takes exactly the answers that the single schema takes, wherever that refers to."""

from __future__ import annotations

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.core.batch_schema import batch_schema

LABEL = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]}
DEFS = {"$defs": {"word": {"type": "string", "minLength": 2}}, "type": "array", "items": {"$ref": "#/$defs/word"}}
OLD = {"definitions": {"word": {"type": "string"}}, "type": "array", "items": {"$ref": "#/definitions/word"}}
TREE = {
    "type": "object",
    "properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "n": {"type": "integer"}},
    "required": ["n"],
}
INNER = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}}}
MIXED = {
    **TREE,
    "$defs": {"answer": {"type": "string"}},
    "properties": {**TREE["properties"], "name": {"$ref": "#/$defs/answer"}},
}
DATA = {"const": {"$ref": "#", "$id": "x"}}
PROPERTY = {"type": "object", "properties": {"$ref": {"type": "integer"}, "id": {"type": "string"}}}
HEADED = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://x.example/y", **DEFS}

VALUES = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["a", "b", "word", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["label", "children", "n", "a", "b", "name", "$ref", "$id", "id"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def accepts(schema, value):
    return jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    "schema", [LABEL, DEFS, OLD, TREE, INNER, MIXED, DATA, PROPERTY, HEADED, {}, True],
    ids=["plain", "$defs", "definitions", "root", "inner", "mixed", "data", "property", "headed", "empty", "true"],
)  # fmt: skip
def test_it_takes_the_same_answers(schema):
    whole = batch_schema(schema)
    assert whole is not None
    jsonschema.Draft202012Validator.check_schema(whole)

    @settings(deadline=None, max_examples=60)
    @given(VALUES)
    def check(value):
        assert accepts(whole, {"answers": [{"id": "k7qd", "answer": value}]}) == accepts(schema, value)

    check()
    assert not accepts(whole, {"answers": [{"id": "k7qd"}]})
    assert not accepts(whole, {"answers": [], "more": 1})
    assert not accepts(whole, [])


def test_answers_of_text():
    whole = batch_schema(None)
    assert accepts(whole, {"answers": [{"id": "k", "answer": "x"}]})
    assert not accepts(whole, {"answers": [{"id": "k", "answer": 1}]})
    assert not accepts(whole, {"answers": [{"id": "k", "answer": "x", "why": ""}]})


def test_definitions_stand_at_the_root_where_providers_look_for_them():
    whole = batch_schema(DEFS)
    assert whole is not None
    assert set(whole["$defs"]) == {"word"}
    assert "$defs" not in whole["properties"]["answers"]["items"]["properties"]["answer"]


@pytest.mark.parametrize(
    "schema",
    [
        False,
        [],
        "text",
        {"$ref": "https://elsewhere.example/schema"},
        {"properties": {"a": {"$id": "x"}}},
        {"$dynamicRef": "#a"},
        {"$anchor": "a"},
        {"$ref": 1},
    ],
)
def test_what_cannot_be_moved(schema):
    assert batch_schema(schema) is None


def test_a_schema_that_is_very_deep_is_not_moved():
    deep: dict = {}
    for _ in range(500):
        deep = {"items": deep}
    assert batch_schema(deep) is None
