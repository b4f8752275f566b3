"""The most that one attempt can cost, in US dollars, as a function of how long its answer may be."""

from __future__ import annotations

from typing import Final

import msgspec

from aiorchd.calls.call import Call
from aiorchd.calls.reply import Usage
from aiorchd.calls.target import Price, Target
from aiorchd.core.token_bound import token_bound

LONGEST_ANSWER_TOKENS: Final = 131_072
"""Assumed where neither the call nor the model says how long an answer may be."""


class WorstCase(msgspec.Struct, frozen=True, gc=False):
    """``prompt_usd`` for the prompt, ``token_usd`` for each token of an answer, ``answer_tokens`` at most.

    ``bounded`` tells whether that length is a bound somebody set (sent with the call, or the model's own) and not just the
    context; ``can_cap`` whether a shorter one may be sent; ``priced`` whether the price is known, and not assumed.
    """

    prompt_usd: float
    token_usd: float
    answer_tokens: int
    bounded: bool
    can_cap: bool
    priced: bool

    def usd(self, answer_tokens: int | None = None) -> float:
        """Add up, for an answer of so many tokens, or of the most."""
        return self.prompt_usd + self.token_usd * (self.answer_tokens if answer_tokens is None else answer_tokens)

    def tokens_for(self, usd: float) -> int:
        """Tell how long an answer may be so that all costs at most ``usd``; negative when not even the prompt does."""
        if self.token_usd <= 0:
            return self.answer_tokens if self.prompt_usd <= usd else -1
        return int((usd - self.prompt_usd) / self.token_usd) if usd >= self.prompt_usd else -1


def worst_case(call: Call, target: Target, assumed_usd_per_1m: float, messages_bound: int | None = None) -> WorstCase:
    """Bound one attempt. What the price leaves open costs ``assumed_usd_per_1m``; ``messages_bound`` is what `token_bound` takes
    by that name."""
    bound = token_bound(call.request, target.extra, messages_bound)
    context = target.context_tokens
    prompt = bound.prompt
    if context is not None and context < prompt:
        prompt = context
    price = target.price
    if price.tiers or price.cache_read_usd_per_1m or price.cache_write_usd_per_1m or bound.cached_for_an_hour:
        into = _dearest_input(price, prompt, assumed_usd_per_1m, hour=bound.cached_for_an_hour)
        out = _dearest(price, prompt, "output_usd_per_1m")
    else:
        into = assumed_usd_per_1m if price.input_usd_per_1m is None else price.input_usd_per_1m
        out = price.output_usd_per_1m
    if call.kind != "chat":
        return WorstCase(prompt * into / 1e6, 0.0, 0, True, False, price.input_usd_per_1m is not None)
    return WorstCase(
        prompt * into / 1e6,
        (assumed_usd_per_1m if out is None else out) * bound.choices / 1e6,
        _longest(bound.sent_max, target.max_output_tokens, context),
        bound.sent_max is not None or target.max_output_tokens is not None,
        bound.sent_max is None,
        price.input_usd_per_1m is not None and price.output_usd_per_1m is not None,
    )


def assumed_usd(usage: Usage, price: Price, assumed_usd_per_1m: float) -> float:
    """Tell what an answer whose cost is unknown is taken to have cost: unknown parts of the price at the assumed one."""
    price = price.for_prompt(usage.input + usage.cache_read + usage.cache_write)

    def rate(*parts: float | None) -> float:
        return next((part for part in parts if part is not None), assumed_usd_per_1m)

    into = price.input_usd_per_1m
    return (
        usage.input * rate(into)
        + usage.cache_read * rate(price.cache_read_usd_per_1m, into)
        + (usage.cache_write - usage.cache_write_1h) * rate(price.cache_write_usd_per_1m)
        + usage.cache_write_1h * rate(price.cache_write_1h_usd_per_1m)
        + (usage.output + usage.reasoning) * rate(price.output_usd_per_1m)
    ) / 1e6


def _longest(sent: int | None, model: int | None, context: int | None) -> int:
    """How long an answer may be: the shortest of what is known to bound it. The prompt's bound is far above its length, so
    all of the context counts."""
    if sent is None and model is None:
        return LONGEST_ANSWER_TOKENS if context is None else context
    return min(one for one in (sent, model, context) if one is not None)


def _dearest_input(price: Price, prompt: int, assumed: float, *, hour: bool) -> float:
    """The dearest way in which a token of the prompt may be billed."""
    into = _dearest(price, prompt, "input_usd_per_1m")
    if into is None:
        return assumed
    parts = [into, _dearest(price, prompt, "cache_read_usd_per_1m"), _dearest(price, prompt, "cache_write_usd_per_1m")]
    if hour:
        kept = _dearest(price, prompt, "cache_write_1h_usd_per_1m")
        parts.append(assumed if kept is None else kept)
    return max(part for part in parts if part is not None)


def _dearest(price: Price, prompt: int, name: str) -> float | None:
    """One rate, at its highest over the tiers that a prompt of at most so many tokens can reach."""
    if not price.tiers:
        only: float | None = getattr(price, name)
        return only
    rates = [getattr(price, name), *(getattr(tier, name) for tier in price.tiers if tier.above_tokens < prompt)]
    return max((rate for rate in rates if rate is not None), default=None)
