"""Noise: what is taken for it, and above all what is not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structures import noisy_inputs, pairs_that_differ

from aiorchd.core.input_paths import parse_path
from aiorchd.core.normalise import NoiseRules, Normaliser, Told

ONE = "0b54d5d8-6a9c-4f0e-9a53-3f1c2d4e5f60"
OTHER = "7c2f0f7e-9c55-4b7e-8a94-1e2d3c4b5a69"
HASHES = ("4f6a1c" + "0" * 33 + "1", "9b2d7e" + "0" * 33 + "2")


def plain(value: Any, **rules: Any) -> str:
    return json.dumps(Normaliser(NoiseRules(**rules)).normalise(value), sort_keys=True)


def test_a_thousand_requests_of_a_hundred_and_fifty_distinct(tmp_path: Path) -> None:
    inputs = noisy_inputs(tmp_path, distinct=150, requests=1000, seed=1)
    seen: dict[str, set[str]] = {}
    for what, value in inputs:
        seen.setdefault(plain(value), set()).add(what)
    assert len({json.dumps(value, sort_keys=True) for _, value in inputs}) == 1000
    assert len(seen) == 150
    assert all(len(whats) == 1 for whats in seen.values())


def test_none_of_three_hundred_pairs_that_differ_in_meaning_are_equal(tmp_path: Path) -> None:
    pairs = pairs_that_differ(tmp_path, count=300, seed=2)
    assert len(pairs) == 300
    assert [pair for pair in pairs if plain(pair[0]) == plain(pair[1])] == []


MERGED = [
    ({"request_id": "a-1", "x": 1}, {"request_id": "b-2", "x": 1}),
    ({"requestId": 7, "x": 1}, {"requestId": 8, "x": 1}),
    ({"id": ONE, "x": 1}, {"id": OTHER, "x": 1}),
    ({"timestamp": "2026-01-01T10:00:00Z", "x": 1}, {"timestamp": 1_790_000_000, "x": 1}),
    ({"fetched_at": 1_790_000_000_123}, {"fetched_at": "2026-01-01 10:00:00.5 +02:00"}),
    ({"@timestamp": "2026-01-01T10:00:00.000Z"}, {"@timestamp": "2026-02-01T10:00:00.000Z"}),
    ({"x": 1, "y": 2}, {"y": 2, "x": 1}),
    ({"tags": ["a", "b"]}, {"tags": ["b", "a"]}),
    ({"url": "https://a.example/x?q=1&utm_source=a"}, {"url": "https://a.example/x?fbclid=zz&q=1"}),
    ({"url": "https://a.example/x?a=1&b=2"}, {"url": "https://a.example/x?b=2&a=1"}),
    ({"url": "https://a.example/x?_=1790000000123"}, {"url": "https://a.example/x"}),
    ({"text": "a\r\nb\n"}, {"text": "a\nb"}),
    ('{"b": 1, "a": {"trace_id": "x1"}}', '{"a":{"trace_id":"x2"},"b":1}'),
    ({"level": "error", "msg": "no", "time": "2026-01-01T10:00:00Z", "pid": 7}, {"level": "error", "msg": "no", "time": "2026-01-02T10:00:00Z", "pid": 8}),
    ({"nodes": [{"id": ONE, "next": OTHER}, {"id": OTHER}]}, {"nodes": [{"id": OTHER, "next": ONE}, {"id": ONE}]}),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), MERGED, ids=str)
def test_what_differs_only_in_noise(a: Any, b: Any) -> None:
    assert plain(a) == plain(b)


APART = [
    ("text " + ONE, "text " + OTHER),  # free text
    ({"text": "text " + ONE}, {"text": "text " + OTHER}),
    ({"text": "on 2026-01-01T10:00:00Z"}, {"text": "on 2026-01-02T10:00:00Z"}),
    ({"text": "a  b"}, {"text": "a b"}),
    ({"text": " a"}, {"text": "a"}),
    ({"id": 17}, {"id": 18}),
    ({"id": "17"}, {"id": "18"}),
    ({"customer_id": ONE}, {"customer_id": OTHER}),
    ({"sha256": HASHES[0]}, {"sha256": HASHES[1]}),
    ({"commit": HASHES[0], "test": "failed"}, {"commit": HASHES[1], "test": "failed"}),
    ({"date": "2026-01-01"}, {"date": "2026-01-02"}),
    ({"date": "2026-01-01T10:00:00Z"}, {"date": "2026-01-02T10:00:00Z"}),
    ({"due_at": "2026-01-01T10:00:00Z"}, {"due_at": "2026-01-02T10:00:00Z"}),
    ({"expires_at": 1_790_000_000}, {"expires_at": 1_790_000_001}),
    ({"scheduled_at": 1_790_000_000}, {"scheduled_at": 1_790_000_001}),
    ({"start": "2026-01-01T10:00:00Z", "end": "2026-01-01T11:00:00Z"}, {"start": "2026-01-01T10:00:00Z", "end": "2026-01-01T12:00:00Z"}),
    ({"timestamp": "yesterday"}, {"timestamp": "today"}),
    ({"ts": 12}, {"ts": 13}),
    ({"steps": ["a", "b"]}, {"steps": ["b", "a"]}),
    ({"tags": ["a", "b"]}, {"tags": ["a"]}),
    ({"ranking": [1, 2]}, {"ranking": [2, 1]}),
    ({"url": "https://a.example/x?q=1"}, {"url": "https://a.example/x?q=2"}),
    ({"url": "https://a.example/x?t=5"}, {"url": "https://a.example/x?t=6"}),
    ({"url": "https://a.example/x#a"}, {"url": "https://a.example/x#b"}),
    ({"url": "https://a.example/items/" + ONE}, {"url": "https://a.example/items/" + OTHER}),
    ({"amount": 1.5, "unit": "kg"}, {"amount": 1.5, "unit": "g"}),
    ({"amount": 10}, {"amount": 100}),
    ({"amount": "10"}, {"amount": 10}),
    ({"ok": True}, {"ok": 1}),
    ({"x": None}, {}),
    ({"duration_ms": 5}, {"duration_ms": 5000}),
    ({"session": [{"session_id": "a"}, {"session_id": "a"}]}, {"session": [{"session_id": "a"}, {"session_id": "b"}]}),
    ({"nodes": [{"id": ONE, "l": "X"}, {"id": OTHER, "l": "Y"}], "from": ONE}, {"nodes": [{"id": ONE, "l": "X"}, {"id": OTHER, "l": "Y"}], "from": OTHER}),
    ('{"a": 1, "a": 2}', '{"a": 2}'),  # JSON that says something twice is text
    ({"level": "error", "msg": "no"}, {"level": "warning", "msg": "no"}),
    ({"text": "x", "priority": "high", "time": "2026-01-01T10:00:00Z"}, {"text": "x", "priority": "high", "time": "2026-01-02T10:00:00Z"}),
    ({"headers": {"Accept": "a"}}, {"headers": {"Accept": "b"}}),
    ({"headers": {"Authorization": "a"}}, {"headers": {"Authorization": "b"}}),
    ({"cookies": [{"name": "lang", "value": "en"}]}, {"cookies": [{"name": "lang", "value": "de"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), APART, ids=str)
def test_what_differs_in_meaning(a: Any, b: Any) -> None:
    assert plain(a) != plain(b)


def test_headers_in_either_form() -> None:
    assert plain({"headers": {"Date": "a", "X": "1"}}) == plain({"headers": {"x": "1", "date": "b"}})
    listed = [{"name": "X", "value": "1"}, {"name": "Date", "value": "b"}]
    assert plain({"headers": listed}) == plain({"headers": listed[:1]})
    assert plain({"headers": "text"}) == plain({"headers": "text"})
    many = [{"name": "Set-Cookie", "value": "a=1"}, {"name": "Set-Cookie", "value": "b=2"}]
    assert plain({"headers": many}) != plain({"headers": many[::-1]})  # the later one wins


@pytest.mark.parametrize(
    ("rules", "a", "b"),
    [
        ({"uuids": True}, "see " + ONE, "see " + OTHER.upper()),
        ({"hashes": True}, f"at {HASHES[0]}.", f"at {HASHES[1]}."),
        ({"timestamps": True}, "at 2026-01-01T10:00:00Z it", "at 2026-05-01 11:00:00.123 +0200 it"),
        ({"whitespace": True}, "a  b\n c", " a b c"),
        ({"ids": True}, {"customer_id": 7}, {"customer_id": 8}),
        ({"ignored": (parse_path("input.a[*].seen"),)}, {"a": [{"seen": 1}]}, {"a": [{"seen": 2}]}),
        ({"ignored": (parse_path("input.**.seen"),)}, {"b": {"c": {"seen": 1}}}, {"b": {"c": {}}}),
        ({"ignored": (parse_path("input.l[0]"),)}, {"l": [1, 2]}, {"l": [3, 2]}),
        ({"unordered": (parse_path("input.l"),)}, {"l": [{"a": 1}, {"b": 2}]}, {"l": [{"b": 2}, {"a": 1}]}),
        ({"parameters": ("ref", "sid_*")}, {"u": "http://h/?ref=1&sid_a=2&q=3"}, {"u": "http://h/?q=3"}),
        ({"parameters": ("ref",), "default": False}, {"u": "http://h/?ref=1&q=3"}, {"u": "http://h/?q=3"}),
    ],
    ids=str,
)
def test_rules_that_are_asked_for(rules: Any, a: Any, b: Any) -> None:
    assert plain(a) != plain(b)
    assert plain(a, **rules) == plain(b, **rules)


def test_different_ids_in_text_stay_different() -> None:
    assert plain(f"{ONE} {ONE}", uuids=True) != plain(f"{ONE} {OTHER}", uuids=True)


def test_who_the_document_is_is_never_noise() -> None:
    kept = (parse_path("input.id"),)
    assert plain({"id": ONE}, kept=kept) != plain({"id": OTHER}, kept=kept)


def test_what_it_looks_at() -> None:
    default = Normaliser(NoiseRules())
    assert default.applies({"a": 1})
    assert default.applies('[{"a": 1}]')
    assert not default.applies("free text")
    assert not default.applies("[1] is a reference")
    assert not default.applies(7)
    assert Normaliser(NoiseRules(uuids=True)).applies("free text")
    assert not Normaliser(NoiseRules(default=False)).applies({"a": 1})


def test_what_it_tells() -> None:
    told: list[Told] = []
    Normaliser(NoiseRules()).normalise({"request_id": "x", "l": [{"fetched_at": 1_790_000_000}]}, told=told)
    assert told == [Told("input.l[0].fetched_at", "moment"), Told("input.request_id", "id")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.sampled_from([ONE, OTHER, "2026-01-01T10:00:00Z", "http://h/?_=1790000000123&a=b", "https://", "{", "[]", '{"id": 1}']),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["id", "headers", "tags", "timestamp", "commit", "message", "name", "value", "cookies", "__CURSOR", "startedDateTime", "level", "a", "ä"]), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@example({"headers": {"id": {"id": 0}, "headers": {"id": 1}}}, random.Random(1))
@given(json_values, st.randoms(use_true_random=False))
def test_anything_goes_in_whatever_the_order_of_names(value: Any, rng: random.Random) -> None:
    def turned(one: Any) -> Any:
        if isinstance(one, dict):
            names = list(one)
            rng.shuffle(names)
            return {name: turned(one[name]) for name in names}
        return [turned(item) for item in one] if isinstance(one, list) else one

    rules = NoiseRules(uuids=True, hashes=True, timestamps=True, ids=True, whitespace=True)
    before = json.dumps(value)
    for each in (NoiseRules(), rules):
        normaliser = Normaliser(each)
        assert json.dumps(normaliser.normalise(value)) == json.dumps(normaliser.normalise(turned(value)))
        assert json.dumps(normaliser.normalise(value, leave_places=True))
    assert json.dumps(value) == before  # what is handed in stays as it is
