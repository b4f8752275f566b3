"""docs/configuration.md: made from the schema, with every key, profile and variable in it."""

from __future__ import annotations

import re
from pathlib import Path

from aiorchd.config.document_names import DOCUMENT_NAMES
from aiorchd.config.key import fields_of
from aiorchd.config.later import NOT_YET
from aiorchd.config.presets import PROFILES
from aiorchd.config.reference import reference
from aiorchd.config.schema import CallerTable, Model, Operation, Provider, sections, top_keys

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_what_the_schema_says() -> None:
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == reference(), "run: make docs"


def test_every_key_has_its_heading_and_says_when_it_takes_effect() -> None:
    headings = re.findall(r"(?m)^#### `(.+)`$", reference())
    expected = list(top_keys())
    for name, kind in sections().items():
        expected += [f"{name}.{key}" for key in fields_of(kind)]
    expected += [f"providers.NAME.{key}" for key in fields_of(Provider)]
    expected += [f"callers.NAME.{key}" for key in fields_of(CallerTable)]
    expected += [f"operations.NAME.{key}" for key in fields_of(Operation)]
    expected += [f"models.{key}" for key in fields_of(Model)]
    assert headings == expected
    facts = re.findall(r"(?m)^Default: .*$", reference())
    assert len(facts) == len(expected)
    assert all("Live." in line or "Needs a restart." in line for line in facts)


def test_profiles_variables_and_what_comes_later_are_listed() -> None:
    page = reference()
    for name in (*PROFILES, *DOCUMENT_NAMES, *NOT_YET):
        assert f"| `{name}` |" in page


def test_tables_are_whole() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", reference(), re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block
