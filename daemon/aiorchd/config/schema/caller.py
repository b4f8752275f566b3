"""`[callers.NAME]`: a user or unit, its share and its budget."""

from __future__ import annotations

from typing import Annotated

from aiorchd.config.key import key, span
from aiorchd.config.schema.table import Section, Usd


class CallerTable(Section, frozen=True):
    """One caller: NAME is a user's name or number, or a systemd unit like `[callers."web.service"]`.

    A unit is for accounting, not for authority: whoever may start processes in it counts as it.
    """

    weight: Annotated[
        Annotated[float, span(0.01, 100)] | None,
        key(
            "Its share of a model's permits and quotas while others wait too, against 1 for everybody else.",
            effect="With 2 it gets twice as much, 0.5 half. A unit with a weight is served beside its user's other processes. "
            "Left out, 1.",
            unit="times the usual share",
            example="2.0",
        ),
    ] = None

    per_day_usd: Annotated[
        Usd | None,
        key(
            "What this caller may spend in a day.",
            effect="Beside the budget of all and the other one of its user or unit, each holds by itself.",
            unit="US dollars",
            example="5.0",
        ),
    ] = None
    per_month_usd: Annotated[
        Usd | None,
        key(
            "What this caller may spend in a calendar month.",
            effect="As above.",
            unit="US dollars",
            example="50.0",
        ),
    ] = None
