"""Dotted keys as people write them, and what is said of those that there are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from aiorchd.config.address import AddressError, find_address

MODELS = ("small", "gpt-4.1", "gpt-4.1.mini", "org/model:free")
PROVIDERS = ("main", "my.own")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("profile", ("profile",)),
        (" cache.ttl_s ", ("cache", "ttl_s")),
        ("cache . ttl_s", ("cache", "ttl_s")),
        ('"cache"."ttl_s"', ("cache", "ttl_s")),
        ("daemon.log_levels", ("daemon", "log_levels")),
        ("daemon.log_levels.reload", ("daemon", "log_levels", "reload")),
        ("daemon.log_levels.a.b", ("daemon", "log_levels", "a.b")),
        ("providers.main.http2", ("providers", "main", "http2")),
        ("providers.my.own.http2", ("providers", "my.own", "http2")),
        ('providers."my.own".headers."X-A.B"', ("providers", "my.own", "headers", "X-A.B")),
        ("providers.new.base_url", ("providers", "new", "base_url")),
        ("models.small.enabled", ("models", "small", "enabled")),
        ("models.gpt-4.1.enabled", ("models", "gpt-4.1", "enabled")),
        ("models.gpt-4.1.mini.enabled", ("models", "gpt-4.1.mini", "enabled")),
        ('models."gpt-4.1".enabled', ("models", "gpt-4.1", "enabled")),
        ("models.org/model:free.id", ("models", "org/model:free", "id")),
        ("models[0].enabled", ("models", "small", "enabled")),
        ("models[1].extra.top_p", ("models", "gpt-4.1", "extra", "top_p")),
    ],
)
def test_what_is_found(key: str, path: tuple[str, ...]) -> None:
    address = find_address(key, providers=PROVIDERS, models=MODELS)
    assert address.whole == path
    assert find_address(str(address), providers=PROVIDERS, models=MODELS) == address


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "is not a key"),
        ("   ", "is not a key"),
        ("x" * 2000, "is not a key"),
        ("cache.", "ends in a dot"),
        (".ttl_s", "is not a key"),
        ("cache..ttl_s", "is not a key"),
        ("cache.ttl_s = 5", "is not a key"),
        ('cache."ttl_s', "is not a key"),
        ("cache.ttl", 'no key "ttl". Did you mean "ttl_s"?'),
        ("cahce.ttl_s", 'no section "cahce". Did you mean "cache"?'),
        ("ttl_s", 'Did you mean "cache.ttl_s"?'),
        ("cache", "is a table, not a key. Its keys: strategy, max_entries"),
        ("cache.ttl_s.more", "is no table"),
        ("cache.semantic", "is a table, not a key."),
        ("bulk.max_items", "is not part of this release: it will serve bulk jobs"),
        ("models", "names no single model. Write models.NAME.KEY."),
        ("models.smal.enabled", 'no model "smal". Did you mean "small"?'),
        ("models[4].enabled", "there is no models[4]: there are 4."),
        ("models.small", "is a table, not a key"),
        ("models.small.enable", 'Did you mean "enabled"?'),
        ("providers", "names no single provider"),
        ("providers.main", "is a table, not a key"),
    ],
)
def test_what_is_said_of_others(key: str, words: str) -> None:
    with pytest.raises(AddressError) as caught:
        find_address(key, providers=PROVIDERS, models=MODELS)
    assert words in str(caught.value)


def test_the_shape_of_an_entry_is_that_of_its_table() -> None:
    whole = find_address("daemon.log_levels", providers=(), models=())
    entry = find_address("daemon.log_levels.reload", providers=(), models=())
    assert isinstance(whole.shape, inspect.DictType)
    assert isinstance(entry.shape, inspect.LiteralType)


@given(st.text(max_size=40))
def test_any_text_is_found_or_refused_in_words(key: str) -> None:
    try:
        address = find_address(key, providers=PROVIDERS, models=MODELS)
    except AddressError as error:
        assert error.sentence
    else:
        assert address.path
