"""JSON by schema: valid, and about the text."""

import json
import time

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork.items import Item
from aiorchsim.textwork.schema import value_for, value_for_items
from aiorchsim.textwork.tasks import Kind, Task

PAGE = "asyncio is a library. On 2024-03-05 some 120 servers in Paris used asyncio, at a rate of 0.75 or 3.5."


def written(schema, task=None, text=PAGE, right=True):
    value = value_for(schema, task or Task(), text, right=right)
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)
    json.dumps(value, allow_nan=False)
    return value


@pytest.mark.parametrize(
    ("schema", "task", "value"),
    [
        ({"type": "array", "items": {"type": "string"}}, Task(Kind.TAGS, 2), ["asyncio", "library"]),
        (
            {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2}}},
            None,
            {"tags": ["asyncio", "library"]},
        ),
        ({"enum": ["cats", "servers", "dogs"]}, None, "servers"),
        ({"type": "integer", "minimum": 100, "maximum": 200}, None, 120),
        ({"type": "number", "exclusiveMinimum": 3.4, "maximum": 4}, None, 3.5),
        ({"type": "string", "format": "date"}, None, "2024-03-05"),
        ({"type": "object", "properties": {"city": {"type": "string"}}}, None, {"city": "Paris"}),
        ({"type": "object", "properties": {"label": {"enum": ["x", "asyncio"]}}}, None, {"label": "asyncio"}),
        ({"const": {"a": 1}}, None, {"a": 1}),
        ({"type": ["null", "integer"], "maximum": 5}, None, 3),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer", "multipleOf": 7, "minimum": 120}}}, None, 126),
    ],
)
def test_values_come_from_the_text(schema, task, value):
    got = written(schema, task)
    assert got == value or (isinstance(got, int) and value == 3)


def test_an_answer_is_the_answer_to_the_question():
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    assert written(schema, text="What is 6*7?") == {"answer": "42"}
    assert written(schema, text="What is 6*7?", right=False)["answer"] != "42"


def test_recursive_schemas_come_to_an_end():
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    }
    assert written(tree)["name"]


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}]},
        {"$ref": "#"},
        {"type": "array", "minItems": 1000, "items": {"$ref": "#"}},
        {"type": "object", "required": list("abcdefghij"), "additionalProperties": {"$ref": "#"}},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "pattern": "(a+)+$"},
        {"type": "number", "multipleOf": 5e-324},
        {"type": "number", "minimum": 1e308, "multipleOf": 0.001},
        {"type": "integer", "minimum": 10**400},
        {"type": "object", "minProperties": 10**9},
        {
            "properties": 5,
            "required": "x",
            "items": 3,
            "enum": 7,
            "type": 9,
            "allOf": {},
            "anyOf": [],
            "minimum": "low",
        },
        {"type": "array", "prefixItems": 3, "items": False, "minItems": True},
        {"$ref": "https://elsewhere.invalid/x"},
        {"$ref": "#/$defs/missing"},
        {"type": "enumeration"},
        True,
        False,
    ],
)
def test_hostile_schemas_take_little(schema):
    began = time.process_time()
    json.dumps(value_for(schema, Task(), PAGE, right=True))
    assert time.process_time() - began < 1.5


LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, span, step: {"type": "integer", "minimum": low, "maximum": low + span + step, "multipleOf": step},
        st.integers(-100, 100), st.integers(0, 50), st.integers(1, 9),
    ),
    st.builds(
        lambda low, span: {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + span},
        st.floats(-1e6, 1e6), st.floats(1, 1e6),
    ),
    st.builds(lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more}, st.integers(0, 300), st.integers(0, 20)),
    st.sampled_from(
        [
            {"type": "string", "pattern": r"^[A-Z]{2}\d{3}$"},
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "ipv6"},
            {"type": "string", "format": "uuid"},
            {"enum": ["servers", "cats", 3, None]},
            {"enum": ["servers", "cats"]},
            {"const": 5},
            {},
        ]
    ),
)  # fmt: skip


def _nested(inner):
    names = st.sampled_from(["tags", "summary", "title", "id", "answer", "score", "city", "label", "items"])
    return st.one_of(
        st.builds(
            lambda properties, required, closed: {
                "type": "object",
                "properties": properties,
                "required": sorted(set(required) & set(properties)),
                "additionalProperties": not closed,
            },
            st.dictionaries(names, inner, max_size=4), st.lists(names, max_size=4), st.booleans(),
        ),
        st.builds(
            lambda part, least, more: {"type": "array", "items": part, "minItems": least, "maxItems": least + more},
            inner, st.integers(0, 4), st.integers(0, 4),
        ),
        st.builds(lambda parts: {"type": "array", "prefixItems": parts, "items": False}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"$defs": {}, "allOf": [part]}, inner),
    )  # fmt: skip


SCHEMAS = st.recursive(LEAVES, _nested, max_leaves=12)


@settings(deadline=None)
@given(
    SCHEMAS,
    st.sampled_from([PAGE, "", "x", "What is 2+2?"]),
    st.booleans(),
    st.sampled_from([Task(), Task(Kind.TAGS, 3)]),
)
def test_every_value_is_valid(schema, text, right, task):
    value = value_for(schema, task, text, right=right)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    validator.validate(value)
    assert value == value_for(schema, task, text, right=right)


def test_unique_items_are_unique():
    for items in (
        {"type": "string"},
        {"type": "integer"},
        {"enum": ["a", "b", "c", "d"]},
        {"type": "number", "minimum": 0, "maximum": 1},
    ):
        schema = {"type": "array", "items": items, "uniqueItems": True, "minItems": 4, "maxItems": 4}
        assert len(written(schema, text="one two")) == 4
    assert len(written({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True})) <= 2


ITEMS = [Item("a7", "What is 1+1?"), Item("q2", "What is 2+2?")]
BOTH = {"a7": True, "q2": True}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {"type": "object", "properties": {"a7": {"type": "string"}, "q2": {"type": "string"}}, "required": ["a7", "q2"], "additionalProperties": False},
            {"a7": "2", "q2": "4"},
        ),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a7": "2", "q2": "4"}),
        ({"type": "object"}, {"a7": "2", "q2": "4"}),
        ({"type": "array", "items": {"type": "string"}}, ["2", "4"]),
        (
            {"type": "object", "properties": {"results": {"type": "array", "items": {
                "type": "object", "properties": {"id": {"type": "string"}, "answer": {"type": "string"}}, "required": ["id", "answer"]}}}},
            {"results": [{"id": "a7", "answer": "2"}, {"id": "q2", "answer": "4"}]},
        ),
        ({"type": "object", "additionalProperties": {"type": "object", "properties": {"answer": {"type": "string"}}}}, {"a7": {"answer": "2"}, "q2": {"answer": "4"}}),
        ({"type": "string"}, "2"),
    ],
)  # fmt: skip
def test_each_item_is_placed(schema, value):
    got = value_for_items(schema, Task(), ITEMS, BOTH)
    jsonschema.validate(got, schema)
    assert got == value


def test_numbered_ids_are_numbers_where_the_schema_wants_them():
    schema = {
        "type": "array",
        "items": {"type": "object", "properties": {"index": {"type": "integer"}, "answer": {"type": "string"}}},
    }
    got = value_for_items(
        schema, Task(), [Item("1", "What is 1+1?"), Item("2", "What is 2+2?")], {"1": True, "2": True}
    )
    assert got == [{"index": 1, "answer": "2"}, {"index": 2, "answer": "4"}]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "required": ["x_a"], "additionalProperties": False},
        {"type": "object", "patternProperties": {r"^[a-z]{3}$": {"type": "integer"}}, "additionalProperties": False, "minProperties": 1},
        {"type": "object", "patternProperties": {"(?=a)": {}}, "minProperties": 2},
        {"type": "object", "minProperties": 3},
        {"type": "object", "properties": {"a": {"type": "null"}}, "minProperties": 3, "additionalProperties": {"type": "integer"}},
        {"required": ["a", "b"]},
        {"allOf": [{"properties": {"a": {"minimum": 3}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b", "a"]}]},
        {"allOf": [{"type": "integer", "minimum": 3, "maximum": 50}, {"minimum": 10, "maximum": 20}]},
        {"allOf": [{"type": "string", "minLength": 3}, {"minLength": 40, "maxLength": 41}]},
        {"anyOf": [{"type": "null"}, {"type": "integer"}]},
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"},
        {"$defs": {"l": {"anyOf": [{"type": "boolean"}]}}, "$ref": "#/$defs/l/anyOf/0"},
        {"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n", "minimum": 500},
        {"type": "integer", "multipleOf": 2.5},
        {"type": "integer", "multipleOf": 0.5},
        {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7},
        {"type": "number", "exclusiveMaximum": -5},
        {"minimum": 7},
        {"minItems": 2},
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "boolean"}, "minItems": 3},
        {"type": "array", "maxItems": 0},
        {"type": "array", "items": False},
        {"type": "string", "pattern": "(?=a)|^", "minLength": 3},
        {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}, "uniqueItems": True, "minItems": 3},
    ],
)  # fmt: skip
@pytest.mark.parametrize("right", [True, False])
def test_many_kinds_of_schemas(schema, right):
    written(schema, right=right)
    written(schema, Task(Kind.LABEL, 1, ("a", "b")), right=right, text="no numbers here")


def test_forms_of_older_drafts():
    bounds = {"type": "number", "minimum": 3.5, "exclusiveMinimum": True, "maximum": 4}
    value = value_for(bounds, Task(), PAGE, right=True)
    jsonschema.validate(value, bounds, cls=jsonschema.Draft4Validator)
    pair = {"type": "array", "items": [{"type": "integer"}, {"type": "string"}], "additionalItems": False}
    value = value_for(pair, Task(), PAGE, right=True)
    assert len(value) == 2
    jsonschema.validate(value, pair, cls=jsonschema.Draft4Validator)


def test_labels_fill_lists_and_enumerations():
    task = Task(Kind.LABEL, 2, ("asyncio", "cats", "servers"))
    assert set(written({"type": "array", "items": {"type": "string"}}, task)) == {"asyncio", "servers"}
    assert written({"enum": [1, 2, 3]}, task) in (1, 2, 3)


def test_the_id_is_told_by_its_name_and_not_by_its_place():
    part = {"type": "object", "properties": {"number": {"type": "integer"}, "id": {"type": "string"}}}
    got = value_for_items({"type": "array", "items": part}, Task(), ITEMS, BOTH)
    assert [entry["id"] for entry in got] == ["a7", "q2"]
    assert [entry["number"] for entry in got] == [1, 2]
