"""The table of budgets: what is left is seen at a glance, and a little is not nothing."""

from __future__ import annotations

from typing import Any

import pytest

from aiorchctl.commands.budgets import bar, budgets_table
from aiorchctl.commands.stats import page
from aiorchctl.page import Table, Words


def a_budget(**fields: Any) -> dict[str, Any]:
    return {
        "scope": "all",
        "span": "day",
        "period": "2026-11-28",
        "limit_usd": 20.0,
        "spent_usd": 5.0,
        "estimated_usd": 0.0,
        "held_usd": 1.0,
        "left_usd": 14.0,
        "attempts": 10,
        "estimates": 0,
        "resets_at": 0.0,
        "resets_in_s": 3600.0,
        **fields,
    }


@pytest.mark.parametrize(("part", "full"), [(0, 0), (1e-9, 1), (0.5, 10), (0.7, 14), (1, 20), (2, 20), (-1, 0)])
def test_a_bar(part: float, full: int) -> None:
    assert bar(part) == "█" * full + "░" * (20 - full)


def row(**fields: Any) -> list[Any]:
    return list(budgets_table([a_budget(**fields)]).rows[0])


def test_a_row() -> None:
    found = row()
    assert found[:2] == ["everybody", "day"]
    assert found[2] == Words("█" * 14 + "░" * 6, "good")
    assert found[4:7] == ["$5.00", "$1.00", "$20.00"]


def test_what_is_nearly_and_wholly_used_up_stands_out() -> None:
    assert row(left_usd=1.0)[2].tone == "doubtful"
    assert row(left_usd=0.0)[2].tone == "bad"


def test_callers_and_estimates() -> None:
    found = row(scope="caller web.service", estimated_usd=2.0)
    assert found[0] == "web.service"
    assert found[4] == "$5.00 ($2.00 by estimate)"


def test_stats_shows_them_also_without_calls() -> None:
    blocks = page({"calls": 0, "until": 0.0, "since": 0.0, "budgets": [a_budget()]})
    assert [block.title for block in blocks if isinstance(block, Table)] == ["Budgets"]
    assert not [block for block in page({"calls": 0, "until": 0.0, "since": 0.0}) if isinstance(block, Table)]
