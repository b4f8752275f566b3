"""The bound is above what any provider bills for a prompt, and finds what bounds the answer wherever it is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.prompt_size import prompt_size
from aiorchd.core.token_bound import token_bound
from aiorchd.core.token_estimate import prompt_tokens
from aiorchsim.textwork import prompt_tokens as simulated_tokens


def chat(text: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


@given(st.lists(st.text(max_size=200), min_size=1, max_size=20))
def test_no_tokenizer_makes_more_of_it(texts: list[str]) -> None:
    request = {"messages": [{"role": "user", "content": text} for text in texts]}
    bound = token_bound(request, {}).prompt
    assert bound >= sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    assert bound >= simulated_tokens(request["messages"])
    assert bound >= prompt_tokens(request)


def test_half_a_surrogate_pair_is_text_too() -> None:
    assert token_bound(chat("\ud83d"), {}).prompt > 3


@pytest.mark.parametrize(
    ("request_", "added", "most"),
    [
        (chat("x"), {}, None),
        (chat("x", max_tokens=50), {}, 50),
        (chat("x", extra={"max_completion_tokens": 70}), {}, 70),
        (chat("x", max_tokens=50, extra={"max_completion_tokens": 70}), {}, 70),
        (chat("x"), {"max_tokens": 90}, 90),
        (chat("x", extra={"generationConfig": {"maxOutputTokens": 30}}), {}, 30),
        (chat("x", max_tokens=0), {}, None),
        (chat("x", max_tokens=True), {}, None),
        (chat("x", max_tokens=10**30), {}, 10**9),
    ],
)
def test_what_bounds_the_answer(request_: dict[str, Any], added: dict[str, Any], most: int | None) -> None:
    assert token_bound(request_, added).sent_max == most


def test_several_answers_and_hour_long_caches_are_seen() -> None:
    assert token_bound(chat("x"), {}).choices == 1
    assert token_bound(chat("x", extra={"n": 4}), {"n": 2}).choices == 4
    kept = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    assert token_bound(chat(kept), {}).cached_for_an_hour
    assert not token_bound(chat([{**kept[0], "cache_control": {"type": "ephemeral"}}]), {}).cached_for_an_hour


def test_pictures_and_other_parts_have_flat_bounds_and_tools_a_preamble() -> None:
    data = "data:image/png;base64," + "A" * 1_000_000
    picture = token_bound(chat([{"type": "image_url", "image_url": {"url": data}}]), {}).prompt
    assert 5_000 <= picture < 10_000
    sound = token_bound(chat([{"type": "input_audio", "input_audio": {"data": "A" * 1_000_000}}]), {}).prompt
    assert sound >= 250_000
    unknown = token_bound(chat([{"type": "hologram", "hologram": {"data": "A" * 1_000}}]), {}).prompt
    assert unknown >= 1_000
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert 1_000 < token_bound(chat("x", tools=tools), {}).prompt < 2_000


def test_embeddings_and_absurd_sizes() -> None:
    assert token_bound({"input": ["abc"] * 10}, {}).prompt >= 30
    assert token_bound({}, {}).prompt > 0


@given(role=st.text(max_size=10), content=st.text(max_size=50))
def test_a_plain_message_counts_like_any_other(role: str, content: str) -> None:
    plain = {"messages": [{"role": role, "content": content}]}
    longer = {"messages": [{"role": role, "content": content, "name": ""}]}
    name_and_nothing = len("name") + 2 * 8
    assert token_bound(plain, {}).prompt + name_and_nothing == token_bound(longer, {}).prompt
    assert token_bound(plain, {}, prompt_size(plain).messages_bound) == token_bound(plain, {})
