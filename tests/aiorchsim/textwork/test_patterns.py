"""Strings written from regular expressions."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork.patterns import NotUnderstood, matching


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z0-9-]{3,20}$",
        r"^#[0-9a-f]{6}$",
        r"^\d{4}-\d{2}-\d{2}$",
        r"^(yes|no)$",
        r"^[A-Z][a-z]+( [A-Z][a-z]+)*$",
        r"^\+?[1-9]\d{1,14}$",
        r"^(?:a|b)?c*d+$",
        r"^[^a-z]{4}$",
        r"^\w+@\w+\.com$",
        r"^[\w.]+$",
        r"^\S+\s\S+$",
        r"^x{0}y{0,3}z{2,}$",
        r"^[]a]+$",
        r"^[a\]]+$",
        r"^(?P<year>\d{4})(?<month>\d\d)$".replace("(?<", "(?P<"),
        r"^\x41[\u0042]$",
        r"^a+?b*?$",
        r"^\.\*\\$",
        "",
    ],
)
@pytest.mark.parametrize("start", [0, 1, 7])
def test_what_is_written_matches(pattern, start):
    assert re.search(pattern, matching(pattern, start))


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?=a)b",
        r"(a)\1",
        r"\bword\b",
        "(",
        "[",
        "a)",
        "*a",
        "[z-a]",
        "a{x}",
        "a{99999}",
        r"\x4",
        "(" * 50 + ")" * 50,
        "\\",
        "[^\\W\\w]{3}",
    ],
)
def test_what_is_not_understood_is_said(pattern):
    with pytest.raises(NotUnderstood):
        if re.search("x", matching(pattern)) is None:
            raise NotUnderstood("matched nothing by accident")


ATOMS = st.sampled_from(["a", "b", "[a-c]", r"\d", ".", "[^x]", r"\w"])
REPEATED = st.builds("{}{}".format, ATOMS, st.sampled_from(["", "?", "*", "+", "{2}", "{1,3}", "{2,}"]))


@settings(deadline=None)
@given(st.lists(REPEATED, min_size=1, max_size=6), st.integers(0, 30))
def test_any_pattern_of_the_supported_kind_is_matched(parts, start):
    pattern = "^(" + "|".join(["".join(parts), "z"]) + ")$"
    assert re.search(pattern, matching(pattern, start))


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_not_understood(pattern):
    try:
        assert isinstance(matching(pattern), str)
    except NotUnderstood:
        pass
