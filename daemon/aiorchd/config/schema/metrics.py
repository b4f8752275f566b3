"""`[metrics]`: what is remembered of calls."""

from __future__ import annotations

from typing import Annotated

from aiorchd.config.key import key, span
from aiorchd.config.schema.table import Section


class Metrics(Section, frozen=True):
    """The record of calls behind `aiorchctl stats` and `explain`: who, which model, tokens, cost, time; never content."""

    keep_calls: Annotated[
        int,
        span(0, 10**12),
        key(
            "Single calls kept, for `explain`.",
            effect="The oldest go first; about 300 bytes of disk each. Sums over time are kept apart.",
            unit="calls",
        ),
    ] = 100_000
    keep_days: Annotated[
        float,
        span(0, 36500),
        key("How long calls and sums are kept.", effect="Older ones are deleted by themselves.", unit="days"),
    ] = 30.0
