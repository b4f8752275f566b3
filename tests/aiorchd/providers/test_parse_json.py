"""Strangers' JSON is read as the standard library reads it, whoever reads it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.providers.answer import Unreadable, parse_json

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def _bits(value: object) -> str:
    return repr(value)  # tells 0.0 from -0.0 and 1 from 1.0, and nan is nan


@given(_VALUES, st.booleans(), st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_what_is_json_means_the_same(value: object, escaped: bool, encoding: str) -> None:
    """Also in another encoding, with halves of characters in escapes, and with what is no number."""
    text = json.dumps(value, ensure_ascii=escaped)
    body = text.encode(encoding, "surrogatepass")
    try:
        wanted = json.loads(body)
    except ValueError:
        with pytest.raises(Unreadable):
            parse_json(body)
    else:
        assert _bits(parse_json(body)) == _bits(wanted)


@pytest.mark.parametrize("body", [b"1e400", b"-0", b'{"a": 1, "a": 2}', b'"\\ud83d"', b"1" * 400, b" [1.0, 1E5] "])
def test_odd_values_are_read_alike(body: bytes) -> None:
    assert _bits(parse_json(body)) == _bits(json.loads(body))


@pytest.mark.parametrize("body", [b"", b"[1,", b"01", b"\xef\xbb\xbf{}1", b'"a\tb"', b"1" * 5000, b"nul"])
def test_what_is_none_is_said_to_be_broken(body: bytes) -> None:
    with pytest.raises(Unreadable, match="broken or cut off"):
        parse_json(body)
