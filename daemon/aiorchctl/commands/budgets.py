"""The table of budgets, as ``stats`` and ``limits`` show it: how much is left, as a bar too, and when each begins anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiorchctl.page import Cell, Column, Table, Tone, Words
from aiorchctl.quantities import money, number_of, seconds, share

_BAR: Final = 20
_LITTLE: Final = 0.1


def budgets_table(budgets: Sequence[Mapping[str, Any]]) -> Table:
    """Make the table."""
    columns = (
        Column("for"),
        Column("a"),
        Column("left"),
        Column("", right=True),
        Column("spent", right=True),
        Column("held", right=True),
        Column("of", right=True),
        Column("anew in", right=True),
    )
    return Table(columns, [_row(budget) for budget in budgets], "Budgets")


def _row(budget: Mapping[str, Any]) -> tuple[Cell, ...]:
    limit, left = number_of(budget, "limit_usd") or 0.0, number_of(budget, "left_usd") or 0.0
    part = left / limit if limit else 0.0
    tone: Tone = "bad" if part <= 0 else "doubtful" if part < _LITTLE else "good"
    scope = str(budget.get("scope"))
    estimated = number_of(budget, "estimated_usd") or 0.0
    spent = money(number_of(budget, "spent_usd"))
    return (
        "everybody" if scope == "all" else scope.removeprefix("caller "),
        str(budget.get("span")),
        Words(bar(part), tone),
        Words(share(left, limit), tone),
        f"{spent} ({money(estimated)} by estimate)" if estimated else spent,
        money(number_of(budget, "held_usd")),
        money(limit),
        seconds(number_of(budget, "resets_in_s")),
    )


def bar(part: float) -> str:
    """Draw a share as a bar; what is more than nothing shows at least a little."""
    part = min(1.0, max(0.0, part))
    full = round(part * _BAR)
    if part > 0 and full == 0:
        full = 1
    return "█" * full + "░" * (_BAR - full)
