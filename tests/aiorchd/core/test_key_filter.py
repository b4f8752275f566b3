"""A filter of keys: never "no" of one that was added, hardly ever "perhaps" of another."""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.key_filter import KEY_BYTES, KeyFilter


def digest(number: int) -> bytes:
    return b"\x01" + blake2b(number.to_bytes(8), digest_size=32).digest()


@given(st.lists(st.binary(min_size=KEY_BYTES, max_size=64), max_size=200))
def test_what_was_added_is_never_told_absent(keys: list[bytes]) -> None:
    filtered = KeyFilter(1)
    for key in keys:
        filtered.add(key)
    assert not any(filtered.lacks(key) for key in keys)
    assert filtered.added == len(keys)


def test_what_was_not_is_nearly_always() -> None:
    filtered = KeyFilter(5000)
    for number in range(5000):
        filtered.add(digest(number))
    taken_for_there = sum(not filtered.lacks(digest(number)) for number in range(5000, 25_000))
    assert taken_for_there <= 0.006 * 20_000


def test_more_keys_than_it_was_made_for_make_it_less_sure_and_never_wrong() -> None:
    filtered = KeyFilter(4096)
    for number in range(12_000):
        filtered.add(digest(number))
    assert not any(filtered.lacks(digest(number)) for number in range(12_000))
    assert any(filtered.lacks(digest(number)) for number in range(12_000, 13_000))


def test_an_empty_one_lacks_everything() -> None:
    assert KeyFilter(0).lacks(digest(1))
