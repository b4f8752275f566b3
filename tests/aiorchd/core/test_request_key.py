"""The key of a question: equal meaning gives equal keys, different meaning never, and both as published."""

from __future__ import annotations

import json
import math
import re
import string
import struct
import unicodedata
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from key_vectors import QUESTIONS, VECTORS, document, form_of, key_of

from aiorchd.core.request_key import (
    IRRELEVANT,
    IRRELEVANT_EXTRA,
    KEY_BYTES,
    KEY_VERSION,
    MAX_DEPTH,
    UncanonicalError,
    canonical,
    policy_form,
    relevant,
    request_key,
    samples,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "keys.md"


def key(request: Mapping[str, Any], **fields: Any) -> bytes:
    return request_key(
        fields.pop("kind", "chat"),
        request,
        **{"uid": 1000, "partition": "", "policy": policy_form("small", [("address", "id")]), **fields},
    )


def asked(prompt: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], **fields}


# --- golden vectors and the published page ---------------------------------------------------------------------------


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text())["vectors"], ids=lambda vector: vector["name"])
def test_golden_vectors(vector: dict[str, Any]) -> None:
    assert form_of(vector).decode("utf-8", "surrogatepass") == vector["form"]
    assert key_of(vector).hex() == vector["key"]


def test_the_vectors_are_what_the_script_writes() -> None:
    assert VECTORS.read_text() == document()
    assert len(QUESTIONS) >= 30
    assert json.loads(VECTORS.read_text())["version"] == KEY_VERSION == 1


def test_vectors_that_are_said_to_be_the_same_are_and_no_others() -> None:
    seen: dict[str, list[str]] = {}
    for vector in json.loads(VECTORS.read_text())["vectors"]:
        seen.setdefault(vector["key"], []).append(vector["name"])
    for names in seen.values():
        for later in names[1:]:
            assert re.search(r"the same$|does not matter$|left out$", later), names


def published() -> dict[str, Any]:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code.group(1), names)
    return names


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["name"])
def test_the_implementation_on_the_page_agrees(question: dict[str, Any]) -> None:
    other = published()["key"]
    assert other(
        question["uid"], question["partition"], question["kind"], question["policy"], question["request"]
    ) == key_of(question)


def test_the_page_lists_what_is_left_out() -> None:
    names = published()
    assert set(names["IRRELEVANT"]) == IRRELEVANT
    assert set(names["IRRELEVANT_EXTRA"]) == IRRELEVANT_EXTRA


# --- values -----------------------------------------------------------------------------------------------------------


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


numbers = st.integers() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters()) | st.text(string.ascii_letters) | st.text("aé\u0301ïĳ\u0308\u1112\u1161\udc80:;0s")
scalars = st.none() | st.booleans() | numbers | texts | st.binary(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts.map(nfc), inner, max_size=4),
    max_leaves=12,
)


def meaning(value: Any) -> Any:
    """What the form should keep of a value: its JSON type, its number, its text in NFC."""
    if value is None or isinstance(value, bool | bytes):
        return (type(value).__name__, value)
    if isinstance(value, int | float):
        return ("number", int(value) if float_is_whole(value) else value)
    if isinstance(value, str):
        return ("text", nfc(value))
    if isinstance(value, list):
        return ("list", [meaning(item) for item in value])
    return ("map", sorted((nfc(name), meaning(item)) for name, item in value.items()))


def float_is_whole(value: float) -> bool:
    return isinstance(value, int) or value.is_integer()


class Reader:
    """Reads a form back: that this can be written at all is the proof that the form is injective."""

    def __init__(self, form: bytes) -> None:
        self.form, self.at = form, 0

    def until(self, mark: bytes) -> bytes:
        end = self.form.index(mark, self.at)
        taken, self.at = self.form[self.at : end], end + 1
        return taken

    def take(self, count: int) -> bytes:
        taken = self.form[self.at : self.at + count]
        assert len(taken) == count
        self.at += count
        return taken

    def read(self) -> Any:
        tag = self.take(1)
        if tag in b"ntf":
            return {b"n": ("NoneType", None), b"t": ("bool", True), b"f": ("bool", False)}[tag]
        if tag == b"i":
            return ("number", int(self.until(b";")))
        if tag == b"d":
            return ("number", struct.unpack(">d", bytes.fromhex(self.take(16).decode()))[0])
        count = int(self.until(b":"))
        if tag == b"s":
            return ("text", self.take(count).decode("utf-8", "surrogatepass"))
        if tag == b"b":
            return ("bytes", bytes.fromhex(self.take(2 * count).decode()))
        if tag == b"l":
            return ("list", [self.read() for _ in range(count)])
        assert tag == b"m"
        return ("map", [(self.read()[1], self.read()) for _ in range(count)])


@given(values)
def test_the_form_can_be_read_back(value: Any) -> None:
    reader = Reader(canonical(value))
    assert reader.read() == meaning(value)
    assert reader.at == len(reader.form)


@given(values, values)
def test_forms_are_equal_exactly_when_meanings_are(first: Any, second: Any) -> None:
    assert (canonical(first) == canonical(second)) == (meaning(first) == meaning(second))


@given(st.dictionaries(st.text(), scalars, max_size=6), st.randoms())
def test_the_order_of_names_does_not_matter(members: dict[str, Any], random: Any) -> None:
    names = {unicodedata.normalize("NFC", name): value for name, value in members.items()}
    shuffled = list(names.items())
    random.shuffle(shuffled)
    assert canonical(dict(shuffled)) == canonical(names)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_the_same_however_written(number: int) -> None:
    assert canonical(number) == canonical(float(number))


@given(st.text())
def test_composed_and_decomposed_text_are_the_same(text: str) -> None:
    assert (
        canonical(unicodedata.normalize("NFD", text))
        == canonical(unicodedata.normalize("NFC", text))
        == canonical(text)
    )


def test_the_form_of_each_kind() -> None:
    assert canonical(None) + canonical(True) + canonical(False) == b"ntf"
    assert canonical([0, -0.0, -7, 1e22]) == b"l4:i0;i0;i-7;i10000000000000000000000;"
    assert canonical(1.5) == b"d3ff8000000000000"
    assert canonical("é") == canonical("e\u0301") == "s2:é".encode()
    assert canonical("\udc80") == b"s3:\xed\xb2\x80"
    assert (
        canonical(b"\x00\xff") == canonical(bytearray(b"\x00\xff")) == canonical(memoryview(b"\x00\xff")) == b"b2:00ff"
    )
    assert canonical({"b": 1, "a": [], "é": {}}) == "m3:s1:al0:s1:bi1;s2:ém0:".encode()


def test_subclasses_and_other_containers_count_as_what_they_hold() -> None:
    class Colour(StrEnum):
        RED = "réd"

    class Number(IntEnum):
        ONE = 1

    class Ratio(float):
        pass

    assert canonical([Colour.RED, Number.ONE, Ratio(0.5)]) == canonical(["réd", 1, 0.5])
    assert canonical(MappingProxyType({"a": ("x",)})) == canonical({"a": ["x"]})

    class Items(list[int]):
        pass

    assert canonical(Items([1])) == canonical([1])


# --- what has no form --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, {"b": math.nan}]}, "a[1].b: nan is not a number"),
        ({"a": {"b": -math.inf}}, "a.b: -inf is not a number"),
        (math.inf, "inf is not a number"),
        ([1, 2, object()], "[2]: object is not plain data"),
        ({"a": {1: 2}}, "a: a map has a name that is not text (int)"),
        ({"a": {"é": 1, "e\u0301": 2}}, "a: a map has two names that are equal in Unicode NFC ('é')"),
        ({"a": 2**1024}, "a: an integer of more than 1024 bits"),
        ({"a": {1, 2}}, "a: set is not plain data"),
    ],
)
def test_what_has_no_form_is_named_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(UncanonicalError) as caught:
        canonical(value)
    assert str(caught.value).startswith(said)
    assert isinstance(caught.value, ValueError)


def nested(levels: int, wrap: Any) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}])
def test_depth_is_bounded(wrap: Any) -> None:
    canonical(nested(MAX_DEPTH, wrap))
    with pytest.raises(UncanonicalError, match="nested deeper than 100 levels"):
        canonical(nested(MAX_DEPTH + 1, wrap))


def test_the_path_of_an_error_is_short() -> None:
    with pytest.raises(UncanonicalError) as caught:
        canonical({"a" * 5000: math.nan})
    assert len(str(caught.value)) < 300


# --- requests ----------------------------------------------------------------------------------------------------------


def test_a_key_starts_with_its_version() -> None:
    made = key(asked())
    assert made[0] == KEY_VERSION
    assert len(made) == KEY_BYTES


@pytest.mark.parametrize("name", sorted(IRRELEVANT))
def test_what_is_listed_does_not_change_the_key(name: str) -> None:
    assert key(asked(**{name: "anything"})) == key(asked())


@pytest.mark.parametrize("name", sorted(IRRELEVANT_EXTRA))
def test_what_is_listed_in_extra_does_not_change_the_key(name: str) -> None:
    assert key(asked(extra={name: {"any": "thing"}})) == key(asked())
    assert key(asked(extra={name: 1, "top_k": 5})) == key(asked(extra={"top_k": 5}))


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 1},
        {"max_tokens": 1},
        {"seed": 0},
        {"stop": ["x"]},
        {"tools": []},
        {"tool_choice": "auto"},
        {"output_schema": {}},
        {"output_schema": False},
        {"task": "t"},
        {"quality_threshold": 0.0},
        {"an_argument_of_tomorrow": 1},
        {"extra": {"top_p": 1}},
        {"extra": {"presence_penalty": 0}},
        {"extra": {"n": True}},
        {"extra": {"n": 2}},
        {"extra": {"response_format": None}},
        {"extra": {"timeout_s": 1}},
    ],
    ids=str,
)
def test_everything_else_changes_the_key(fields: dict[str, Any]) -> None:
    assert key(asked(**fields)) != key(asked())


def test_what_every_provider_takes_like_nothing_is_left_out() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert key(asked(temperature=None, extra=None)) == key(asked())
    assert key(asked(extra={})) == key(asked()) == key(asked(extra={"n": 1.0}))
    assert key(asked(tools=tools, tool_choice="auto")) == key(asked(tools=tools))
    assert key(asked(tools=tools, tool_choice="none")) != key(asked(tools=tools))
    assert key(asked(tools=[], tool_choice="auto")) != key(asked(tools=[]))
    assert key(asked(stop="END")) == key(asked(stop=["END"]))
    assert relevant({"extra": {"n": 1}}) == {}


def test_task_and_threshold_count_as_members() -> None:
    assert key(asked(), task="t") == key(asked(task="t")) != key(asked())
    assert key(asked(), quality_threshold=0.5) == key(asked(quality_threshold=0.5)) != key(asked())
    assert key(asked(), quality_threshold=1) == key(asked(quality_threshold=1.0))


def test_order_of_messages_and_tools_matters() -> None:
    first, second = {"role": "user", "content": "a"}, {"role": "user", "content": "b"}
    assert key({"messages": [first, second]}) != key({"messages": [second, first]})
    assert key(asked(tools=[{"a": 1}, {"b": 1}])) != key(asked(tools=[{"b": 1}, {"a": 1}]))


def test_the_request_is_not_changed() -> None:
    request = asked(extra={"user": "u", "n": 1}, stop="x", tags=["a"])
    before = json.dumps(request)
    key(request)
    assert json.dumps(request) == before


def test_policy_tells_models_and_places_apart() -> None:
    policies = [
        policy_form(None, []),
        policy_form("", []),
        policy_form("small", []),
        policy_form("small", [("a", "b")]),
        policy_form("small", [("b", "a")]),
        policy_form("small", [("ab", "")]),
        policy_form("small", [("a", "b"), ("c", "d")]),
        policy_form("small", [("c", "d"), ("a", "b")]),
        policy_form(None, [("a", "b")]),
        policy_form("small", [("a", "b", {"top_p": 0.5})]),
        policy_form("small", [("a", "b", {"top_p": 0.6})]),
    ]
    assert len({key(asked(), policy=policy) for policy in policies}) == len(policies)
    assert policy_form("small", [("a", "b")]).encode() == canonical(["small", [["a", "b"]]])


@given(
    st.tuples(st.integers(0, 2**32 - 1), st.text(max_size=8), st.sampled_from(["chat", "embed"])),
    st.tuples(st.integers(0, 2**32 - 1), st.text(max_size=8), st.sampled_from(["chat", "embed"])),
    st.text(max_size=8),
)
def test_no_two_partitions_share_a_key(first: Any, second: Any, prompt: str) -> None:
    def made(scope: Any) -> bytes:
        uid, partition, kind = scope
        return key(asked(prompt), uid=uid, partition=partition, kind=kind)

    same = first == (second[0], second[1], second[2]) or (
        first[0] == second[0] and first[2] == second[2] and nfc(first[1]) == nfc(second[1])
    )
    assert (made(first) == made(second)) == same


requests = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": texts}),
            min_size=1,
            max_size=3,
        )
    },
    optional={
        "temperature": st.sampled_from([0, 0.0, 0.5, 1, 1.0]),
        "stop": st.sampled_from(["x", ["x"], ["x", "y"]]),
        "tools": st.lists(st.dictionaries(st.sampled_from(["a", "b"]), scalars, max_size=2), max_size=2),
        "extra": st.dictionaries(st.sampled_from(["n", "user", "top_p"]), scalars, max_size=2),
        "document": st.lists(scalars, min_size=1, max_size=2),
        "tags": st.just(["t"]),
        "output_schema": st.none() | st.booleans(),
    },
)
scopes = st.tuples(
    st.none() | st.integers(0, 3),
    st.sampled_from(["", "a", "n", "i0;"]),
    st.sampled_from(["chat", "chat without noise 1"]),
)


@given(requests, requests, scopes, scopes)
def test_no_two_different_questions_share_a_key_whoever_asks(
    one: dict[str, Any], other: dict[str, Any], first: Any, second: Any
) -> None:
    """Everything at once: the key is equal exactly when whose it is, its partition, its depth and what it means are."""

    def made(request: dict[str, Any], scope: Any) -> bytes:
        uid, partition, kind = scope
        return key(request, uid=uid, partition=partition, kind=kind)

    same = first == second and meaning(relevant(one)) == meaning(relevant(other))
    assert (made(one, first) == made(other, second)) == same
    assert made(one, first) == made(json.loads(json.dumps(one)) if _is_json(one) else one, first)


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def test_ten_megabytes_have_a_key_like_any_other() -> None:
    long = "a" * 10_000_000
    assert key(asked(long)) != key(asked(long + "b"))
    assert key(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + long}}],
                }
            ]
        }
    ) != key(
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + long[1:]}}],
                }
            ]
        }
    )
    assert len(key(asked(long))) == KEY_BYTES


def test_a_request_without_a_form_names_the_argument() -> None:
    with pytest.raises(UncanonicalError, match=r"^extra\.logit_bias: nan is not a number"):
        key(asked(extra={"logit_bias": math.nan}))


# --- chance ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, False),
        ({"temperature": 0}, False),
        ({"temperature": 0.0}, False),
        ({"temperature": 0.01}, True),
        ({"extra": {"temperature": 1}}, True),
        ({"extra": {"n": 1}}, False),
        ({"extra": {"n": 2}}, True),
        ({"extra": {"best_of": 3}}, True),
        ({"extra": {"temperature": None, "n": None}}, False),
        ({"extra": {"temperature": "hot"}}, False),
        ({"extra": None}, False),
    ],
    ids=str,
)
def test_who_asks_for_chance(fields: dict[str, Any], answer: bool) -> None:
    assert samples(asked(**fields)) is answer
