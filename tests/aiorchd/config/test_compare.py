"""What two configurations differ in, and whether it waits for a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aiorchd.config.compare import changes, flatten, flatten_raw
from aiorchd.config.key import fields_of
from aiorchd.config.load import load, load_text
from aiorchd.config.schema import Config, sections

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
