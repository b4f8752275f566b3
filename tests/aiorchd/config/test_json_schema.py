"""The JSON Schema: valid itself, the same as the file in the tree, and of one mind with the loader about every key."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from aiorchd.config.json_schema import json_schema, json_schema_text
from aiorchd.config.key import Field, fields_of
from aiorchd.config.load import load_text
from aiorchd.config.manual import manual, to_toml
from aiorchd.config.presets import PROFILES, preset_text
from aiorchd.config.problems import ConfigError
from aiorchd.config.schema import Model, Provider, sections, top_keys

ROOT = Path(__file__).resolve().parents[3]
VALIDATOR = jsonschema.Draft7Validator(json_schema())
FRAME = '{}[providers.p]\nbase_url = "https://a.example/v1"\n{}\n[[models]]\nname = "m"\nprovider = "p"\n{}\n{}\n'


def test_the_file_is_what_the_schema_says() -> None:
    file = ROOT / "config" / "aiorch.schema.json"
    assert file.read_text(encoding="utf-8") == json_schema_text(), "run: make docs"


def test_it_is_a_json_schema() -> None:
    jsonschema.Draft7Validator.check_schema(json_schema())
    assert json.loads(json_schema_text())["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_manual_and_profiles_are_valid() -> None:
    for text in (
        manual(),
        re.sub(r"(?m)^#(?=[\[a-z])", "", manual())
        .replace('api_key_credential = "openai"\n', "")
        .replace('api_keys_env = ["KEY_1", "KEY_2"]\n', "")
        .replace('api_keys_credential = ["openai_1", "openai_2"]\n', ""),
    ):
        VALIDATOR.validate(tomllib.loads(text))
    for name in PROFILES:
        VALIDATOR.validate(tomllib.loads(preset_text(name)))


def every_key() -> list[tuple[str, Field]]:
    found = [("top", field) for field in top_keys().values()]
    kinds = {**sections(), "providers": Provider, "models": Model}
    return found + [(section, field) for section, kind in kinds.items() for field in fields_of(kind).values()]


def values_around(shape: msgspec.inspect.Type, choices: tuple[str, ...]) -> list[Any]:
    """Values at, inside and outside the bounds of a type, and of other types."""
    kinds = msgspec.inspect
    if isinstance(shape, kinds.Metadata):
        return values_around(shape.type, choices)
    if isinstance(shape, kinds.UnionType):
        return [value for one in shape.types for value in values_around(one, choices)]
    if isinstance(shape, kinds.IntType):
        assert shape.ge is not None
        assert shape.le is not None
        return [int(shape.ge), int(shape.le), int(shape.ge) - 1, int(shape.le) + 1, "1", True, 1.5, [1]]
    if isinstance(shape, kinds.FloatType):
        assert shape.ge is not None
        assert shape.le is not None
        return [shape.ge, shape.le, int(shape.le), shape.ge - 0.001, shape.le + 1, "1", False, {}]
    if isinstance(shape, kinds.BoolType):
        return [True, False, 1, "true"]
    if isinstance(shape, kinds.LiteralType):
        return [*choices, "another", choices[0].upper(), 1]
    if isinstance(shape, kinds.StrType):
        longest = shape.max_length or 20
        return ["", "x", "x" * longest, "x" * (longest + 1), 1, True]
    if isinstance(shape, kinds.VarTupleType):
        items = values_around(shape.item_type, choices)
        longest = shape.max_length or 1
        return [[], *([item] for item in items), [items[0]] * longest, [items[0]] * (longest + 1), "x", {}]
    if isinstance(shape, kinds.DictType):
        return [{}, *({"name": item} for item in values_around(shape.value_type, choices)), [], "x"]
    return []


def is_about_meaning(sentence: str) -> bool:
    """What only the loader can know: that a host, model or user is there, that an address can be used, and the like."""
    return not sentence.startswith("must be ")


@pytest.mark.parametrize(("section", "field"), every_key(), ids=lambda case: getattr(case, "name", case))
def test_it_and_the_loader_agree_about_every_value(section: str, field: Field) -> None:
    tried = 0
    for value in values_around(field.type_info, field.choices()):
        line = f"{field.name} = {to_toml(value)}"
        frame = FRAME
        if section in ("providers", "models") and field.name in ("base_url", "name", "provider"):
            frame = re.sub(rf"{field.name} = \"[^\"]*\"\n", "", frame, count=1)
        text = frame.format(
            f"{line}\n" if section == "top" else "",
            line if section == "providers" else "",
            line if section == "models" else "",
            f"[{section}]\n{line}" if section in sections() else "",
        )
        try:
            load_text(text.encode(), Path("/f"), {})
            sentences = []
        except ConfigError as error:
            sentences = [problem.sentence for problem in error.problems]
        of_form = [sentence for sentence in sentences if not is_about_meaning(sentence)]
        found = [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))]
        if section == "providers" and field.name == "dialect" and value in ("simulated", "host"):
            assert found, "base_url stands beside it"
            continue
        assert bool(found) == bool(of_form), (line, found, sentences)
        tried += 1
    assert tried or not values_around(field.type_info, field.choices())


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('[providers.a]\ndialect = "simulated"\n', True),
        ('[providers.a]\ndialect = "host"\n', True),
        ('[providers.a]\ndialect = "host"\nbase_url = "https://a/v1"\n', False),
        ("[providers.a]\n", False),
        ('[providers.a]\ndialect = "simulated"\nbase_url = "https://a/v1"\n', False),
        ('[providers.a]\nbase_url = "https://a/v1"\napi_key_env = "A"\napi_key_credential = "b"\n', False),
        ('[providers."a b"]\nbase_url = "https://a/v1"\n', False),
        ('[[models]]\nname = "a"\n', False),
        ("[cache]\nttl = 5\n", False),
        ("[bulk]\nmax_items = 5\n", False),
        ("[budget]\nper_day_usd = 5\n", True),
        ("[budget]\nper_day_usd = 0\n", False),
        ('[callers."web.service"]\nper_day_usd = 5\n', True),
        ("[callers.root]\nper_dya_usd = 5\n", False),
        ("cache = 5\n", False),
    ],
)
def test_what_belongs_together(text: str, good: bool) -> None:
    assert VALIDATOR.is_valid(tomllib.loads(text)) is good


def test_every_key_is_explained_to_editors() -> None:
    schema = json_schema()
    for section, field in every_key():
        place = schema["properties"]
        if section == "models":
            place = place["models"]["items"]["properties"]
        elif section == "providers":
            [provider] = place["providers"]["patternProperties"].values()
            place = provider["properties"]
        elif section != "top":
            for part in section.split("."):  # a table within a table has a dot in its name
                place = place[part]["properties"]
        described = place[field.name]
        assert described["title"].endswith(field.name)
        assert described["description"].startswith(field.about.meaning)
        assert described["description"].endswith(("Live.", "Needs a restart."))
        if not field.required and field.default is not None:
            assert described["default"] == msgspec.to_builtins(field.default)
