"""What two configurations differ in, and whether it waits for a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aiorchd.config.address import AddressError
from aiorchd.config.compare import changes, find_value, flatten, flatten_raw
from aiorchd.config.key import fields_of
from aiorchd.config.load import load, load_text
from aiorchd.config.schema import Config, Model, Provider, sections

BASE = """
[providers.main]
base_url = "https://a.example/v1"
[providers.spare]
base_url = "https://b.example/v1"
[[models]]
name = "small"
provider = "main"
[[models]]
name = "large"
provider = "spare"
"""


def config(text: str) -> Config:
    return load_text(text.encode(), Path("/f"), {}).config


def test_equal_configurations_have_no_changes() -> None:
    found = changes(config(BASE), config(BASE + "\n# a comment\n"))
    assert not found
    assert (found.live, found.restart) == ((), ())


@pytest.mark.parametrize(
    ("text", "live"),
    [
        (BASE + "[retry]\njitter = 0.5\nmax_attempts = 4\n", ("retry.jitter",)),
        (BASE.replace("https://b", "https://c"), ("providers.spare.base_url",)),
        (BASE.replace("providers.spare", "providers.other").replace('"spare"', '"other"'),
         ("providers.spare", "providers.other", "models.large.provider")),
        (BASE + "enabled = false\n", ("models.large.enabled",)),
        (BASE.replace('"large"', '"huge"'), ("models.large", "models.huge")),
        (BASE.replace('"large"', '"x"').replace('"small"', '"large"').replace('"x"', '"small"'),
         ("models.small.provider", "models.large.provider", "models")),
    ],
)  # fmt: skip
def test_changes_are_told_by_their_dotted_keys(text: str, live: tuple[str, ...]) -> None:
    assert changes(config(BASE), config(text)).live == live


def test_the_schema_decides_what_waits_for_a_restart() -> None:
    plain = dict(sections().items())
    waiting = {
        f"{name}.{key}"
        for name, kind in plain.items()
        for key, field in fields_of(kind).items()
        if not field.about.live
    }
    old, new = Config(), msgspec.convert({"retry": {"jitter": 0.5}, "pool": {"max_keepalive": 1}}, Config)
    found = changes(old, new)
    assert set(found.restart) <= waiting
    assert set(found.live) | set(found.restart) == {"retry.jitter", "pool.max_keepalive"}


def test_flat_is_plain_data_by_dotted_key() -> None:
    flat = flatten(config(BASE + "extra = {a = [1]}\n[retry]\nmax_attempts = 3\n"))
    assert flat["retry.max_attempts"] == 3
    assert flat["providers.main.base_url"] == "https://a.example/v1"
    assert flat["models[1].extra"] == {"a": [1]}
    assert msgspec.json.encode(flat)


def test_layers_tell_only_what_was_written() -> None:
    loaded = load_text(BASE.encode(), Path("/f"), {})
    assert loaded.layers[1].values == {
        "providers.main.base_url": "https://a.example/v1",
        "providers.spare.base_url": "https://b.example/v1",
        "models[0].name": "small",
        "models[0].provider": "main",
        "models[1].name": "large",
        "models[1].provider": "spare",
    }
    assert flatten_raw({}) == {}
    assert loaded.layers[0].values == load(None, {}).layers[0].values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retry.jitter", 0.25),
        ("profile", None),
        ("models[1].provider", "spare"),
        ("models.large.provider", "spare"),
        ('models."large".id', None),
        ("providers.main.base_url", "https://a.example/v1"),
        ("daemon.log_levels", {"store": "debug"}),
        ("daemon.log_levels.store", "debug"),
        ("validation", {"validation.max_reasks": 1}),
    ],
)
def test_a_value_is_found_by_its_dotted_key(key: str, value: object) -> None:
    assert find_value(config(BASE + '[daemon]\nlog_levels = {store = "debug"}\n'), key) == value


def test_a_table_gives_what_is_below_it() -> None:
    below = find_value(config(BASE), "models.large")
    assert set(below) == {f"models[1].{name}" for name in Model.__struct_fields__}
    assert set(find_value(config(BASE), "providers")) == {
        f"providers.{name}.{key}" for name in ("main", "spare") for key in Provider.__struct_fields__
    }


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("retry.jiter", "jitter"),
        ("providers.mian.http2", 'no such provider. Did you mean "main"?'),
        ("models.huge.id", "no model"),
        ("daemon.log_levels.store", "is not set"),
        ("models", "names no single"),
    ],
)
def test_what_is_not_there_is_said(key: str, words: str) -> None:
    base = "" if key == "models" else BASE
    with pytest.raises(AddressError, match=words):
        find_value(load_text(base.encode(), Path("/f"), {}).config if base else Config(), key)
