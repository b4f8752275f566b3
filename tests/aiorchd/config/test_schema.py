"""Every key is described, its default is legal, its name ends in its unit; planned names are not in the schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from aiorchd.config.key import Field, expectation, fields_of, key, span
from aiorchd.config.later import NOT_YET, not_yet
from aiorchd.config.schema import CallerTable, Config, Model, Operation, Provider, Section, sections

KINDS: dict[str, type[Section]] = {
    **sections(),
    "providers.*": Provider,
    "callers.*": CallerTable,
    "operations.*": Operation,
    "models": Model,
}
ALL = [(section, field) for section, kind in KINDS.items() for field in fields_of(kind).values()]


def name_of(case: object) -> str:
    return case if isinstance(case, str) else case.name if isinstance(case, Field) else ""


@pytest.mark.parametrize(("section", "field"), ALL, ids=name_of)
def test_every_key_says_what_it_is_and_what_follows(section: str, field: Field) -> None:
    for sentence in (field.about.meaning, field.about.effect):
        assert sentence[0].isupper() or sentence[0] == "`" or sentence.split()[0].islower()
        assert sentence.rstrip().endswith("."), f"{section}.{field.name}: {sentence!r} is no sentence"
    assert field.expectation()
    if field.required or field.default is None:
        assert field.about.example, f"{section}.{field.name} has no default to show and no example either"


@pytest.mark.parametrize(("section", "field"), ALL, ids=name_of)
def test_every_default_is_within_its_own_bounds(section: str, field: Field) -> None:
    if not field.required:
        plain = msgspec.to_builtins(field.default)
        assert msgspec.convert(plain, field.shape) == field.default


@pytest.mark.parametrize(("section", "field"), ALL, ids=name_of)
def test_names_end_in_their_unit(section: str, field: Field) -> None:
    unit = field.about.unit
    for suffix, expected in (
        ("_s", "seconds"),
        ("_bytes", "bytes"),
        ("_per_minute", "per minute"),
        (("_usd", "_usd_per_1m"), "dollars"),
        ("_days", "days"),
    ):
        assert field.name.endswith(suffix) == (expected in unit), f"{section}.{field.name}: {unit!r}"


@pytest.mark.parametrize(("section", "field"), ALL, ids=name_of)
def test_numbers_have_both_bounds(section: str, field: Field) -> None:
    def numbers(shape: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
        if isinstance(shape, msgspec.inspect.Metadata):
            return numbers(shape.type)
        if isinstance(shape, msgspec.inspect.UnionType):
            return [found for one in shape.types for found in numbers(one)]
        if isinstance(shape, msgspec.inspect.VarTupleType):
            return numbers(shape.item_type)
        return [shape] if isinstance(shape, msgspec.inspect.IntType | msgspec.inspect.FloatType) else []

    for number in numbers(field.type_info):
        assert number.ge is not None  # type: ignore[attr-defined]
        assert number.le is not None  # type: ignore[attr-defined]


def test_a_section_is_documented_and_immutable() -> None:
    for name, kind in KINDS.items():
        assert kind.__doc__, name
        assert kind.__struct_config__.frozen, name
        assert kind.__struct_config__.forbid_unknown_fields, name
    with pytest.raises(AttributeError):
        Config().retry.max_attempts = 9  # type: ignore[misc]


def test_equal_configurations_compare_equal() -> None:
    assert Config() == Config()
    assert Config(models=(Model(name="a", provider="b"),)) != Config()


def test_the_named_defaults_of_the_public_face() -> None:
    config = Config()
    assert (config.concurrency.max, config.retry.max_attempts, config.retry.backoff_s) == (10, 4, (0.5, 1.0, 2.0))
    assert (config.cache.strategy, config.cache.max_entries, config.cache.ttl_s) == ("hybrid", 1000, 3600.0)


def test_a_model_is_called_by_its_name_at_the_provider_unless_it_has_an_id() -> None:
    assert Model(name="small", provider="main").provider_model == "small"
    assert Model(name="small", provider="main", id="gpt-4o-mini").provider_model == "gpt-4o-mini"


def test_what_comes_later_is_not_in_the_schema() -> None:
    present = set(KINDS) | {f"{section}.{field.name}" for section, field in ALL}
    assert not present & set(NOT_YET)


def test_planned_names_are_found_below_any_provider() -> None:
    assert not_yet(("providers", "main", "api_keys_env")) is None
    assert not_yet(("routing", "strategy")) is not None
    assert not_yet(("cache", "ttl_s")) is None
    assert not_yet(("models", 0, "name")) is None


def test_a_key_without_words_is_a_defect_that_shows_at_once() -> None:
    class Bare(Section, frozen=True):
        """A section somebody forgot to describe."""

        size: Annotated[int, span(0, 1)] = 0

    with pytest.raises(TypeError, match=r"Bare\.size is not described"):
        fields_of(Bare)


def test_a_type_without_words_is_a_defect_that_shows_at_once() -> None:
    with pytest.raises(TypeError, match="no words"):
        expectation(msgspec.inspect.type_info(bytes))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (bool, "true or false"),
        (Annotated[int, span(1, 20)], "a whole number from 1 to 20"),
        (Annotated[int, span(1)], "a whole number of at least 1"),
        (Annotated[float, msgspec.Meta(le=0.5)], "a number of at most 0.5"),
        (str, "a string"),
        (Annotated[str, msgspec.Meta(min_length=1)], "a string of at least 1 characters"),
        (Annotated[int, span(0, 1)] | None, "a whole number from 0 to 1"),
        (dict[str, int], "a table, each a whole number"),
        (
            Annotated[tuple[bool, ...], msgspec.Meta(min_length=1, max_length=3)],
            "a list of 1 to 3 items, each true or false",
        ),
    ],
)
def test_what_a_value_must_be_in_words(shape: object, words: str) -> None:
    assert expectation(msgspec.inspect.type_info(shape)) == words


def test_the_description_reaches_the_json_schema() -> None:
    class Small(Section, frozen=True):
        """One key."""

        size: Annotated[int, span(1, 2), key("How large.", effect="Larger is slower.", unit="bytes")] = 1

    [field] = fields_of(Small).values()
    assert field.about.unit == "bytes"
    properties = msgspec.json.schema(Small)["$defs"]["Small"]["properties"]
    assert properties["size"]["description"] == "How large. Larger is slower."
    assert properties["size"]["maximum"] == 2


def test_the_room_imports_the_standard_library_and_msgspec_only() -> None:
    import aiorchd.config

    for path in Path(aiorchd.config.__file__).parent.glob("*.py"):
        assert "aiorchd.runtime" not in path.read_text(encoding="utf-8"), path
