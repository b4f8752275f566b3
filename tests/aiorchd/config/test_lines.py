"""The line of every key, in every way TOML can write one."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.config.lines import DEEPEST, find_lines

TEXT = '''\
# comment = 1
title = "a # no comment"
"quoted key" = 1
'literal' . "dotted\\u0020key" . bare = 2

[retry]   # a comment
backoff_s = [
    0.5,   # first
    1.0,
    [2.0, 3.0],
]
max_attempts = 3
text = """
fake = 1
[fake]
""" # after
raw = \'\'\'
also_fake = 1\'\'\'
inline = {a = 1, b = {c = "x, y = {", d = [1, {e = 2}]}}
when = 1979-05-27 07:32:00

[[models]]
name = "one"
extra = {"odd.name" = 1}
[models.sub]
deep = 1

[[models]]
name = "two"
[[models.parts]]
p = 1
[[models.parts]]
p = 2

[cache.semantic]
enabled = false
[cache]
ttl_s = 5
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("quoted key",), 3),
        (("literal", "dotted key", "bare"), 4),
        (("retry",), 6),
        (("retry", "backoff_s"), 7),
        (("retry", "backoff_s", 0), 8),
        (("retry", "backoff_s", 1), 9),
        (("retry", "backoff_s", 2), 10),
        (("retry", "backoff_s", 2, 1), 10),
        (("retry", "max_attempts"), 12),
        (("retry", "text"), 13),
        (("retry", "raw"), 17),
        (("retry", "inline", "b", "d", 1, "e"), 19),
        (("retry", "when"), 20),
        (("models",), 22),
        (("models", 0), 22),
        (("models", 0, "name"), 23),
        (("models", 0, "extra", "odd.name"), 24),
        (("models", 0, "sub", "deep"), 26),
        (("models", 1), 28),
        (("models", 1, "name"), 29),
        (("models", 1, "parts", 0, "p"), 31),
        (("models", 1, "parts", 1, "p"), 33),
        (("cache", "semantic", "enabled"), 36),
        (("cache", "ttl_s"), 38),
    ],
)
@pytest.mark.parametrize("breaks", ["\n", "\r\n"])
def test_each_key_has_its_line(path: tuple[str | int, ...], line: int, breaks: str) -> None:
    text = TEXT.replace("\n", breaks)
    tomllib.loads(text)
    assert find_lines(text).line(path) == line


def test_what_is_not_there_answers_with_the_table_around_it() -> None:
    lines = find_lines(TEXT)
    assert lines.line(("retry", "jitter")) == 6
    assert lines.line(("models", 1, "provider")) == 28
    assert lines.line(("nowhere", "at", "all")) is None
    assert lines.line(()) is None


def test_keys_inside_strings_are_none() -> None:
    paths = find_lines(TEXT).paths()
    assert not {path for path in paths if "fake" in path or "also_fake" in path}


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for name, below in value.items():
            found += paths_of(below, (*path, name))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            found += paths_of(below, (*path, number))
    return found


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
scalars = st.one_of(
    st.integers(-99, 99), st.booleans(), st.text(max_size=8), st.floats(allow_nan=False), st.datetimes()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=5), st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_path_of_any_document_is_found_where_its_key_is_written(
    document: dict[str, Any], multiline: bool
) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)
    lines = find_lines(text)
    written = text.replace("\r\n", "\n").split("\n")
    wanted = paths_of(tomllib.loads(text))
    assert {path for path in wanted if len(path) < DEEPEST} == {path for path in lines.paths() if len(path) < DEEPEST}
    for path in wanted:
        line = lines.line(path)
        assert line is not None
        name = path[-1]
        if isinstance(name, str) and name.isascii() and name.isalnum():
            assert name in written[line - 1]


@given(st.text(alphabet="[]{}=.,#\"'\n\\ab1 \t"))
@settings(max_examples=300, deadline=None)
def test_no_text_makes_it_fail_or_hang(text: str) -> None:
    find_lines(text).line(("a",))


def test_endless_nesting_costs_no_stack_and_little_time() -> None:
    assert find_lines("a = " + "[" * 50_000).line(("a",)) == 1
    assert find_lines(".".join("a" * 50_000) + " = 1").line(("a",)) == 1
