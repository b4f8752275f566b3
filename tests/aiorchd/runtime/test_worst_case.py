"""The dearest way in which one attempt can be billed."""

from __future__ import annotations

import pytest
from harness import a_call, a_target, a_usage

from aiorchd.calls.target import Price, Tier
from aiorchd.core.token_bound import token_bound
from aiorchd.runtime.worst_case import LONGEST_ANSWER_TOKENS, assumed_usd, worst_case

USUAL = Price(1.0, 10.0)


def case(price: Price = USUAL, *, kind: str = "chat", assumed: float = 100.0, **fields):
    target = {name: fields.pop(name) for name in ("context_tokens", "max_output_tokens", "extra") if name in fields}
    request = {"messages": [{"role": "user", "content": "x" * 1000}], **fields}
    if kind == "embed":
        request = {"input": ["x" * 1000]}
    return worst_case(a_call(request=request, kind=kind), a_target(price=price, **target), assumed)


PROMPT = token_bound({"messages": [{"role": "user", "content": "x" * 1000}]}, {}).prompt


def test_prompt_and_answer() -> None:
    found = case(max_tokens=100)
    assert found.usd() == pytest.approx((PROMPT * 1 + 100 * 10) / 1e6)
    assert found.bounded
    assert not found.can_cap
    assert found.priced


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, LONGEST_ANSWER_TOKENS),
        ({"context_tokens": 8000}, 8000),
        ({"max_output_tokens": 500}, 500),
        ({"max_output_tokens": 500, "context_tokens": 300}, 300),
        ({"max_tokens": 700, "max_output_tokens": 500}, 500),
        ({"extra": {"max_tokens": 50}}, 50),
    ],
)
def test_how_long_an_answer_may_be(fields, tokens: int) -> None:
    assert case(**fields).answer_tokens == tokens


def test_a_prompt_is_no_longer_than_the_context() -> None:
    assert case(context_tokens=100).prompt_usd == pytest.approx(100 / 1e6)


def test_several_answers_cost_several_times() -> None:
    assert case(max_tokens=100, extra={"n": 3}).token_usd == pytest.approx(30 / 1e6)


def test_the_dearest_kind_of_input_and_the_tier_that_can_be_reached() -> None:
    written = Price(1.0, 10.0, 0.1, 1.25, 2.0)
    assert case(written, max_tokens=1).prompt_usd == pytest.approx(PROMPT * 1.25 / 1e6)
    part = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    hour = case(written, messages=[{"role": "user", "content": part}])
    plain = case(Price(1.0, 10.0), messages=[{"role": "user", "content": part}])
    assert hour.prompt_usd == pytest.approx(
        2
        * case(Price(1.0, 10.0, cache_write_1h_usd_per_1m=1.0), messages=[{"role": "user", "content": part}]).prompt_usd
    )
    assert plain.prompt_usd > hour.prompt_usd  # what an hour costs is not known
    tiered = Price(1.0, 10.0, tiers=(Tier(500, input_usd_per_1m=3.0, output_usd_per_1m=20.0), Tier(50_000, 9.0)))
    assert case(tiered, max_tokens=1).prompt_usd == pytest.approx(PROMPT * 3 / 1e6)
    assert case(tiered, max_tokens=1).token_usd == pytest.approx(20 / 1e6)


def test_what_is_unknown_is_assumed() -> None:
    found = case(Price(), max_tokens=100, assumed=50.0)
    assert found.usd() == pytest.approx((PROMPT + 100) * 50 / 1e6)
    assert not found.priced
    assert not case(Price(1.0), max_tokens=100).priced


def test_embeddings_have_no_answer() -> None:
    found = case(Price(0.02), kind="embed")
    assert found.usd() == found.prompt_usd > 0
    assert found.priced
    assert not found.can_cap


def test_how_much_answer_an_amount_pays_for() -> None:
    found = case()
    assert found.tokens_for(found.usd(123) + 1e-12) == 123
    assert found.tokens_for(0.0) == -1
    free = case(Price(0.0, 0.0), max_output_tokens=50)
    assert free.tokens_for(0.0) == 50


def test_usage_at_an_unknown_price() -> None:
    usage = a_usage(100, 50, cache_read=10, cache_write=20, reasoning=5, cache_write_1h=4)
    assert assumed_usd(usage, Price(), 1_000_000.0) == pytest.approx(185)
    assert assumed_usd(usage, Price(1e6, 2e6, 0.5e6), 10e6) == pytest.approx(100 + 5 + 16 * 10 + 4 * 10 + 110)
