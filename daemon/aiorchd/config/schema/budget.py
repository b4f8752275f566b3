"""`[budget]`: what may be spent."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from aiorchd.config.key import key, span
from aiorchd.config.schema.table import Section, Usd


class Budget(Section, frozen=True):
    """What may be spent in all, by day and by month; single callers have theirs in [callers.NAME].

    Every attempt (retries, fallbacks and re-asks alike) reserves the most it can cost, on the disk, before it starts, and
    what it did cost takes that place when it ends. So no budget is ever passed, whoever asks how much at once, and a crash
    forgets nothing. One that ends without telling what it used counts with all it had reserved. See docs/money.md.
    """

    per_day_usd: Annotated[
        Usd | None,
        key(
            "What all callers together may spend in a day.",
            effect="Left out, nothing bounds a day. It counts from when it is set; changing it keeps what was counted.",
            unit="US dollars",
            example="20.0",
        ),
    ] = None
    per_month_usd: Annotated[
        Usd | None,
        key(
            "What all callers together may spend in a calendar month.",
            effect="Beside the day's, each holds by itself.",
            unit="US dollars",
            example="200.0",
        ),
    ] = None
    on_exhausted: Annotated[
        Literal["refuse", "cheapest", "cache_only"],
        key(
            "What becomes of a call that a budget has not enough left for.",
            effect="refuse: budget_exceeded, with when the budget begins anew; models that cost nothing still answer. cheapest: "
            "the next models of its fallback chain are tried, as long as one can still be paid for. cache_only: from then "
            "on only kept answers are given, nothing is sent for that budget, not even to models that cost nothing.",
        ),
    ] = "refuse"
    timezone: Annotated[
        str,
        Meta(min_length=1, max_length=100),
        key(
            'Time zone in which days and months begin: "UTC" or a name like "Europe/Berlin".',
            effect="A change during a day begins that day's accounts where the new zone's day has another name.",
        ),
    ] = "UTC"
    assumed_usd_per_1m: Annotated[
        float,
        span(0.001, 100_000),
        key(
            "What a million tokens of unknown price count in budgets and in the cost_limit of a call.",
            effect="It should be above the dearest model in use. What a call cost stays unknown in every other place.",
            unit="US dollars",
        ),
    ] = 100.0
