"""config/aiorch.toml is the manual: made from the schema, loadable, and every key in it at its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from aiorchd.config.key import fields_of
from aiorchd.config.load import load_text
from aiorchd.config.manual import manual, to_toml
from aiorchd.config.schema import CallerTable, Config, Model, Operation, Provider, section_in, sections

FILE = Path(__file__).resolve().parents[3] / "config" / "aiorch.toml"


def test_the_file_is_what_the_schema_says() -> None:
    assert FILE.read_text(encoding="utf-8") == manual(), "run: make docs"


def test_the_file_holds_every_key_at_exactly_its_default() -> None:
    written = tomllib.loads(manual())
    expected = msgspec.to_builtins({name: getattr(Config(), name) for name in sections() if "." not in name})
    # TOML has no word for nothing: a key without a default is shown as an example.
    held = {name: {key: value for key, value in keys.items() if value is not None} for name, keys in expected.items()}
    assert written == msgspec.json.decode(msgspec.json.encode(held))
    for name, keys in expected.items():
        for key, value in keys.items():
            if value is None:
                assert re.search(rf"(?m)^#{key} = ", manual()), (name, key)


def test_the_file_is_accepted_and_means_the_built_in_configuration() -> None:
    loaded = load_text(FILE.read_bytes(), FILE, {})
    assert not loaded.warnings
    assert loaded.simulated
    assert {name: section_in(loaded.config, name) for name in sections()} == {
        name: section_in(Config(), name) for name in sections()
    }


def test_its_examples_work_once_the_hash_is_taken_away() -> None:
    text = re.sub(r"(?m)^#(?=[\[a-z])", "", manual())
    text = (
        text.replace('api_key_credential = "openai"\n', "")
        .replace('api_keys_env = ["KEY_1", "KEY_2"]\n', "")
        .replace('api_keys_credential = ["openai_1", "openai_2"]\n', "")
        .replace('output_schema = "tags.schema.json"\n', "")
        .replace('tools = "tools.json"\n', "")
        .replace('"small", "large"', '"small"')
    )  # the other place for the same key; what is not in this file
    loaded = load_text(text.encode(), FILE, {})
    assert not loaded.warnings
    [model] = loaded.config.models
    assert model.provider in loaded.config.providers
    assert loaded.config.providers["main"].base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize("kind", [Provider, CallerTable, Operation, Model])
def test_the_examples_show_every_key(kind: type[Provider | CallerTable | Operation | Model]) -> None:
    text = manual()
    for name in fields_of(kind):
        assert re.search(rf"(?m)^#{name} = ", text), name


def test_every_key_tells_when_it_takes_effect() -> None:
    comment = ""
    for line in manual().splitlines():
        if line.startswith("# "):
            comment += line
        elif re.match(r"#?[a-z_0-9]+ = ", line):
            assert comment.endswith(("Live.", "Needs a restart.")), line
            comment = ""
        else:
            comment = ""


def test_no_line_is_wider_than_a_terminal() -> None:
    assert max(len(line) for line in manual().splitlines()) <= 100


@pytest.mark.parametrize(
    "value", [True, 7, 0.25, 1e-07, 'a "b" \\ ü\n\x7f', ["a", 1.5], {"a b": {"c": [False]}}, (), {}]
)
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    read = tomllib.loads(f"value = {to_toml(value)}")["value"]
    assert read == (list(value) if isinstance(value, tuple) else value)


def test_what_toml_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="no TOML for NoneType"):
        to_toml(None)
