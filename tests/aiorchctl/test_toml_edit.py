"""One key changes, and nothing else: comments, order, blank lines, and whatever other keys there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchctl.toml_edit import EditError, with_key, without_key

ROOT = Path(__file__).resolve().parents[2]

FILE = """\
# What this house asks.

# Where it is asked.
[providers.main]
base_url = "https://a.example/v1"  # ours
headers = {A = "1"}

# The small one.
[[models]]
name = "small"
provider = "main"

# The dear one.
[[models]]
name = "gpt-4.1"
provider = "main"
  [models.extra]
  top_p = 0.5

[cache]   # what is kept
# ttl_s = 3600
max_entries = 1000

# about retries
[retry]
backoff_s = [
    0.5, # first
    1.0,
] # all of them
"""


@pytest.mark.parametrize(
    ("path", "value", "before", "after"),
    [
        (("cache", "max_entries"), 5, "max_entries = 1000\n", "max_entries = 5\n"),
        (("cache", "ttl_s"), 60, "# ttl_s = 3600\n", "# ttl_s = 3600\nttl_s = 60\n"),
        (("cache", "strategy"), "off", "max_entries = 1000\n", 'max_entries = 1000\nstrategy = "off"\n'),
        (
            ("providers", "main", "base_url"),
            "http://b/v1",
            '"https://a.example/v1"  # ours',
            '"http://b/v1"  # ours',
        ),
        (("providers", "main", "http2"), True, '{A = "1"}\n', '{A = "1"}\nhttp2 = true\n'),
        (("models", "small", "enabled"), False, 'provider = "main"\n\n', 'provider = "main"\nenabled = false\n\n'),
        (("models", "small", "extra", "seed"), 7, 'r = "main"\n\n', 'r = "main"\nextra = {seed = 7}\n\n'),
        (("models", "gpt-4.1", "extra", "seed"), 7, "top_p = 0.5\n", "top_p = 0.5\nseed = 7\n"),
        (("profile",), "basic", "asks.\n\n", 'asks.\n\nprofile = "basic"\n\n'),
        (
            ("retry", "backoff_s"),
            [2.0],
            "[\n    0.5, # first\n    1.0,\n] # all of them",
            "[\n    2.0,\n] # all of them",
        ),
    ],
)
def test_a_key_of_a_table_that_is_there(path, value, before, after):
    assert FILE.count(before) >= 1
    assert with_key(FILE, path, value) == FILE.replace(before, after, 1)


@pytest.mark.parametrize(
    ("path", "value", "added"),
    [
        (("validation", "max_reasks"), 2, "\n[validation]\nmax_reasks = 2\n"),
        (("providers", "spare", "base_url"), "http://c/v1", '\n[providers.spare]\nbase_url = "http://c/v1"\n'),
        (("daemon", "log_levels", "reload"), "debug", '\n[daemon]\nlog_levels = {reload = "debug"}\n'),
        (("providers", "a b", "headers", "X-A"), "1", '\n[providers."a b"]\nheaders = {X-A = "1"}\n'),
    ],
)
def test_a_table_that_is_not_there_is_begun_at_the_end(path, value, added):
    assert with_key(FILE, path, value) == FILE + added


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 'profile = "x"\n'),
        ("[a]\nb = 1\n", 'profile = "x"\n\n[a]\nb = 1\n'),
        ("# about a\n[a]\nb = 1", 'profile = "x"\n\n# about a\n[a]\nb = 1\n'),
        ("# words\n\n[a]\nb = 1\n", '# words\n\nprofile = "x"\n\n[a]\nb = 1\n'),
        ("# w\n\n# about a\n[a]\nb = 1\n", '# w\n\nprofile = "x"\n\n# about a\n[a]\nb = 1\n'),
        ('# w\n\n#profile = "m"\n\n[a]\nb = 1\n', '# w\n\n#profile = "m"\nprofile = "x"\n\n[a]\nb = 1\n'),
        ('profile = "m" # now\n[a]\n', 'profile = "x" # now\n[a]\n'),
    ],
)
def test_the_key_at_the_top(text, expected):
    assert with_key(text, ("profile",), "x") == expected


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("a = {b = 1}\n", ("a", "c"), "a = {b = 1,c = 9}\n"),
        ("a.b = 1\n[z]\n", ("a", "c"), "a.b = 1\na.c = 9\n[z]\n"),
        ("[a.sub]\nx = 1\n", ("a", "c"), "[a]\nc = 9\n[a.sub]\nx = 1\n"),
        ("[a]\nb = 1\n# about sub\n[a.sub]\nx = 1\n", ("a", "c"), "[a]\nb = 1\nc = 9\n# about sub\n[a.sub]\nx = 1\n"),
        ("[a]\nb = 1\n[z]\n[a.sub]\nx = 1\n", ("a", "c"), "[a]\nb = 1\nc = 9\n[z]\n[a.sub]\nx = 1\n"),
        ("[a]\r\nb = 1\r\n", ("a", "b"), "[a]\r\nb = 9\r\n"),
        ('models = [{name = "m"}]\n', ("models", "m", "id"), 'models = [{name = "m",id = 9}]\n'),
    ],
)
def test_other_layouts(text, path, expected):
    assert with_key(text, path, 9) == expected


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (FILE, ("models", "huge", "id"), 'no model "huge"'),
        ("cache = 5\n", ("cache", "ttl_s"), "cache is no table"),
        ("models = 5\n", ("models", "a", "id"), 'no model "a"'),
        ("", ("models", "a", "id"), 'no model "a"'),
        ("providers = {a = {}}\n", ("providers", "b", "base_url"), "use an editor"),
    ],
)
def test_what_cannot_be_edited_is_said(text, path, words):
    with pytest.raises(EditError, match=words):
        with_key(text, path, "x")


def test_taking_a_key_out():
    assert without_key(FILE, ("cache", "max_entries")) == FILE.replace("max_entries = 1000\n", "")
    assert without_key(FILE, ("models", "gpt-4.1", "extra", "top_p")) == FILE.replace("  top_p = 0.5\n", "")
    assert without_key(FILE, ("cache", "ttl_s")) == FILE
    assert without_key(FILE, ("validation", "max_reasks")) == FILE
    with pytest.raises(EditError, match="no model"):
        without_key(FILE, ("models", "huge", "id"))
    assert without_key('profile = "x"\n\n[a]\nb = 1\n', ("profile",)) == "\n[a]\nb = 1\n"


def test_the_manual_can_be_edited_key_by_key():
    text = (ROOT / "config" / "aiorch.toml").read_text(encoding="utf-8")
    edited = with_key(with_key(text, ("profile",), "basic"), ("cache", "ttl_s"), 60)
    assert edited == text.replace('#profile = "moderate"\n', '#profile = "moderate"\nprofile = "basic"\n').replace(
        "\nttl_s = 3600.0\n", "\nttl_s = 60\n"
    )


# Any file made of such pieces: the new text says exactly what the old one said and the one key, and every line of the
# old one is still there in its order, but for the one that held the key.
NAMES = st.sampled_from(("alpha", "beta", "gamma"))
VALUES = st.sampled_from(("1", '"text"', "[1, 2]", "[\n  1, # one\n]", "{x = 1}", "'''long\ntext'''", "2.5"))
COMMENTS = st.sampled_from(("", "", "# words\n", "\n", "\n\n", "# more\n\n", "#alpha = 7\n"))
PAIRS = st.dictionaries(NAMES, st.tuples(COMMENTS, VALUES, st.sampled_from(("", "  # why"))), max_size=3)


@st.composite
def files(draw):
    text = draw(COMMENTS)
    for name, (comment, value, why) in draw(
        st.dictionaries(st.just("profile"), st.tuples(COMMENTS, VALUES, st.just("")))
    ).items():
        text += f"{comment}{name} = {value}{why}\n"
    for section in draw(st.lists(st.sampled_from(("one", "two", "two.deep", "providers.p")), unique=True)):
        text += f"{draw(COMMENTS)}[{section}]{draw(st.sampled_from(('', ' # s')))}\n"
        for name, (comment, value, why) in draw(PAIRS).items():
            text += f"{comment}{name} = {value}{why}\n"
    for number in range(draw(st.integers(0, 2))):
        text += f'{draw(COMMENTS)}[[models]]\nname = "m{number}"\n'
        for name, (comment, value, why) in draw(PAIRS).items():
            text += f"{comment}{name} = {value}{why}\n"
    return text + draw(COMMENTS)


def lines_kept(old: str, new: str) -> bool:
    remaining = iter(new.splitlines())
    return all(any(line == other for other in remaining) for line in old.splitlines())


@settings(max_examples=300, deadline=None)
@given(
    text=files(),
    path=st.sampled_from(
        (("profile",), ("one", "alpha"), ("two", "beta"), ("providers", "p", "gamma"), ("models", "m1", "beta"))
    ),
    value=st.sampled_from((7, "new", [3, 4], 0.5, True)),
)
def test_any_file_keeps_everything_else(text, path, value):
    old = tomllib.loads(text)
    try:
        new = with_key(text, path, value)
    except EditError as error:
        assert "no model" in str(error)
        assert all(model["name"] != "m1" for model in old.get("models", ()))
        return
    said = tomllib.loads(new)
    table, was = said, old
    for part in path[:-1]:
        if isinstance(table, list):
            table = next(model for model in table if model["name"] == part)
            was = next(model for model in was if model["name"] == part)
        else:
            table, was = table[part], was.get(part, {})
    assert table.pop(path[-1]) == value
    if path[-1] in was:
        # The lines that held the old value are gone; comments beside and around it are not.
        was.pop(path[-1])
        gone = re.findall(r"#.*", text)
        kept = re.findall(r"#.*", new)
        assert [comment for comment in gone if comment != "# one"] == [
            comment for comment in kept if comment != "# one"
        ]
    else:
        assert lines_kept(text, new)
    said = {name: part for name, part in said.items() if part != {} or name in old}
    if "providers" in said and "providers" not in old:
        said = {name: part for name, part in said.items() if name != "providers" or any(part.values())}
    assert said == old
    again = with_key(new, path, value)
    assert again == new, "the same once more changes nothing"
    assert tomllib.loads(without_key(new, path)).get(path[0]) is not False
