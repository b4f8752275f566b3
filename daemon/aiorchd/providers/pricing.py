"""What an answer cost: tokens in their normal form times a price."""

from __future__ import annotations

from aiorchd.calls.reply import Usage
from aiorchd.calls.target import Price


def cost_usd(usage: Usage | None, price: Price) -> float | None:
    """Multiply out; None when the usage, or the price of a part that was used, is unknown: unknown is never zero.

    Reasoning is billed as output by every provider that reports it. Where no price for reading the provider's prompt
    cache is given, the input price stands in: no provider charges more for a cached token than for a fresh one, so the
    figure is an upper bound. Writing to that cache does cost more than fresh input at some, so without a price of its
    own it stays unknown, and what is kept for an hour needs a price of its own beside that of minutes. In a tier all
    tokens of the request have its price.
    """
    if usage is None:
        return None
    if price.tiers:
        price = price.for_prompt(usage.input + usage.cache_read + usage.cache_write)
    if not (usage.cache_read or usage.cache_write):  # as most answers
        into, out = price.input_usd_per_1m, price.output_usd_per_1m
        if into is not None and out is not None:
            return (usage.input * into + (usage.output + usage.reasoning) * out) / 1_000_000
    read = price.cache_read_usd_per_1m if price.cache_read_usd_per_1m is not None else price.input_usd_per_1m
    parts = (
        (usage.input, price.input_usd_per_1m),
        (usage.cache_read, read),
        (usage.cache_write - usage.cache_write_1h, price.cache_write_usd_per_1m),
        (usage.cache_write_1h, price.cache_write_1h_usd_per_1m),
        (usage.output + usage.reasoning, price.output_usd_per_1m),
    )
    total = 0.0
    for tokens, usd_per_1m in parts:
        if tokens:
            if usd_per_1m is None:
                return None
            total += tokens * usd_per_1m
    if price.input_usd_per_1m is None and price.output_usd_per_1m is None:
        return None
    return total / 1_000_000
