"""Schemas from anybody: wrong ones are refused by place, right ones tell what is wrong in a short line, none can hurt."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from aiorch.errors import InvalidRequest
from aiorchd.runtime.cpu_limit import CpuLimit
from aiorchd.stages.json_schema import JsonSchemas, JsonSchemasStatistics

TAGS = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    "required": ["tags"],
    "additionalProperties": False,
}


def wrong(schema: Any, value: Any, **options: Any) -> tuple[str, str] | None:
    return JsonSchemas(**options).check(schema, "output_schema")(value)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"tags": ["a"]}, None),
        ({"tags": ["a", 5]}, ("$.tags[1]", 'type must be "string", got 5')),
        ({"tags": []}, ("$.tags", "minItems must be 1, got []")),
        ({}, ("$", "'tags' is a required property")),
        ({"tags": ["a"], "b": 1}, ("$", "Additional properties are not allowed ('b' was unexpected)")),
        ("text", ("$", 'type must be "object", got "text"')),
    ],
)
def test_what_is_wrong_is_told_in_a_line(value: Any, expected: Any) -> None:
    assert wrong(TAGS, value) == expected


def test_the_answer_is_quoted_shortly() -> None:
    for schema, value in (
        ({"type": "string"}, {"secret": "x" * 1000}),
        ({"enum": ["x" * 500]}, "y" * 500),
        ({"additionalProperties": False}, {"name " * 100: 1}),
        ({"properties": {"n" * 1000: {"type": "string"}}}, {"n" * 1000: 1}),
    ):
        found = wrong(schema, value)
        assert found is not None
        assert len(found[0]) <= 200
        assert len(found[1]) <= 200


def test_the_telling_fault_of_several_alternatives() -> None:
    schema = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"a": {"type": "integer"}}}]}
    assert wrong(schema, {"a": "x"}) == ("$.a", 'type must be "integer", got "x"')


def test_no_value_at_all() -> None:
    found = wrong({"properties": {"a": False}}, {"a": 1})
    assert found is not None
    assert found[1] == "nothing is allowed here"


def test_a_schema_of_true_takes_anything() -> None:
    assert wrong(True, [1, "a", None]) is None
    assert wrong({}, [1]) is None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (False, "output_schema: must be a JSON Schema, as a map, that some answer can satisfy"),
        ([], "output_schema: must be a JSON Schema"),
        ("object", "output_schema: must be a JSON Schema"),
        ({"type": "objekt"}, "output_schema.type: anyOf must be"),
        ({"properties": {"a": {"minimum": "1"}}}, 'output_schema.properties.a.minimum: type must be "number", got "1"'),
        ({"pattern": "("}, 'output_schema.pattern: format must be "regex", got "("'),
        ({"pattern": "a{99999999999}"}, "output_schema: cannot be read (the repetition number is too large)"),
        ({"enum": [b"bytes"]}, "output_schema: is not plain JSON"),
        ({"const": float("nan")}, "output_schema: is not plain JSON"),
        (nested(400), "output_schema: is nested too deeply"),
        ({"$schema": "https://example.com/mine"}, 'output_schema.$schema: unknown dialect "https://example.com/mine"; leave'),
        ({"$schema": "http://[x"}, "output_schema.$schema: unknown dialect"),
        ({"$schema": 5}, "output_schema.$schema: unknown dialect 5"),
        ({"$ref": "https://example.com/s"}, 'output_schema.$ref: leads to "https://example.com/s", which is not in'),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/b"}}}}, "output_schema.properties.a.items.$ref: leads to"),
        ({"allOf": [{}, {"$dynamicRef": "#nope"}]}, "output_schema.allOf[1].$dynamicRef: leads to"),
        ({"$ref": "file:///etc/passwd"}, "output_schema.$ref: leads to"),
        ({"description": "x" * 300_000}, "output_schema: has 300019 bytes, the limit is 262144"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_wrong_schema_is_refused_by_place(schema: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        JsonSchemas().check(schema, "output_schema")
    assert caught.value.message.startswith(said)
    assert caught.value.stage == "validate"
    assert len(caught.value.message) < 400


def test_nothing_is_ever_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*arguments: Any) -> None:
        raise AssertionError("tried to connect")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    for reference in ("http://127.0.0.1:1/s.json", "https://json-schema.org/draft/2020-12/schema"):
        with pytest.raises(InvalidRequest, match="nothing is fetched"):
            JsonSchemas().check({"$ref": reference}, "output_schema")


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"$defs": {"s": {"type": "string"}}, "items": {"$ref": "#/$defs/s"}}, ["a"], [1]),
        ({"$defs": {"s": {"$anchor": "here", "type": "string"}}, "items": {"$ref": "#here"}}, ["a"], [1]),
        ({"$defs": {"s": {"$id": "urn:s", "type": "string"}}, "items": {"$ref": "urn:s"}}, ["a"], [1]),
        ({"properties": {"next": {"$ref": "#"}}, "required": ["v"]}, {"v": 1, "next": {"v": 2}}, {"v": 1, "next": {}}),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "x"}, {"$ref": 1}),
        ({"enum": [{"$ref": "https://example.com"}]}, {"$ref": "https://example.com"}, {}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, ["a", 1], [1]),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{"type": "string"}]}, ["a"], [1]),
    ],
    ids=str,
)
def test_references_within_and_dialects(schema: Any, good: Any, bad: Any) -> None:
    check = JsonSchemas().check(schema, "output_schema")
    assert check(good) is None
    assert check(bad) is not None


def test_format_is_an_annotation() -> None:
    assert wrong({"format": "date"}, "not a date") is None


def test_a_schema_that_runs_in_circles() -> None:
    assert wrong({"$ref": "#"}, 1) == ("$", "the schema refers to itself without end")
    assert wrong({"allOf": [{"$ref": "#"}]}, 1) == ("$", "the schema refers to itself without end")


def test_a_pattern_that_takes_for_ever_is_stopped() -> None:
    started = time.process_time()
    found = wrong({"pattern": "^(a+)+$"}, "a" * 50 + "b", cpu_limit=CpuLimit(0.05))
    assert found == ("$", "to check it takes more than 0.05 s of CPU")
    assert time.process_time() - started < 2


def test_a_schema_that_takes_for_ever_to_read_is_stopped() -> None:
    schema = {"properties": {f"name{number}": {"type": "string"} for number in range(5000)}}
    with pytest.raises(InvalidRequest, match=r"to read it takes more than 0\.01 s of CPU; simplify it"):
        JsonSchemas(cpu_limit=CpuLimit(0.01)).check(schema, "output_schema")


def test_checks_are_held_by_their_schema() -> None:
    schemas = JsonSchemas()
    first = schemas.check(TAGS, "output_schema")
    assert schemas.check(dict(reversed(TAGS.items())), "elsewhere") is first
    assert schemas.statistics() == JsonSchemasStatistics(held=1, compiled=1)
    for number in range(300):
        schemas.check({"maximum": number}, "output_schema")
    assert schemas.statistics() == JsonSchemasStatistics(held=256, compiled=301)


def test_wrong_schemas_are_not_held() -> None:
    schemas = JsonSchemas()
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            schemas.check({"type": "objekt"}, "output_schema")
    assert schemas.statistics() == JsonSchemasStatistics(held=0, compiled=2)


def test_a_reference_hidden_in_an_unknown_keyword() -> None:
    found = wrong({"$ref": "#/x", "x": {"$ref": "#/nope"}}, 1)
    assert found is not None
    assert found[1].startswith("the schema has a reference that leads nowhere (")
