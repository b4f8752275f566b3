"""What asking questions together brought, as ``stats``, ``cache stats`` and ``status`` show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiorchctl.page import Cell, Column, Page, Table, Words
from aiorchctl.quantities import NOT_KNOWN, count, money, number_of

_COLUMNS = (
    Column("operation"),
    Column("model"),
    *(Column(name, right=True) for name in ("size", "batches", "questions", "calls saved", "tokens", "$")),
    Column("agreement"),
    Column("failures"),
)


def batching_tables(told: Any) -> Page:
    """Make the table, or nothing where nothing was asked together: how many questions at once are allowed now (of at most), what
    that saved, how well the answers agree with single ones, and what was wrong with some."""
    found = [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []
    found = [one for one in found if number_of(one, "batches") or _counts(one, "alone")]
    return [Table(_COLUMNS, [_row(one) for one in found], "Asked together")] if found else []


def _row(one: Mapping[str, Any]) -> tuple[Cell, ...]:
    tokens, usd = number_of(one, "tokens_saved"), number_of(one, "usd_saved")
    allowed, most = number_of(one, "allowed"), number_of(one, "max_size")
    sizes = f"{count(allowed)} of {count(most)}"
    failures = ", ".join(f"{count(number)} {kind}" for kind, number in _counts(one, "failures").items())
    return (
        str(one.get("operation")),
        str(one.get("model") or "(usual)"),
        Words(sizes, "doubtful") if number_of(one, "lowered") and (allowed or 0) < (most or 0) else sizes,
        count(number_of(one, "batches")),
        count(number_of(one, "questions")),
        count(number_of(one, "calls_saved")),
        NOT_KNOWN if tokens is None else f"about {count(tokens)}",
        NOT_KNOWN if usd is None else f"about {money(usd) if usd >= 0 else f'-{money(-usd)}'}",
        _agreement(one),
        failures or "none",
    )


def _agreement(one: Mapping[str, Any]) -> Cell:
    share, low, high, lost = (number_of(one, name) for name in ("agreement", "agreement_low", "agreement_high", "lost"))
    if share is None or low is None or high is None:
        return Words("nothing was compared yet", "quiet")
    line = f"{share:.1%} of {count(number_of(one, 'checks'))} ({low:.1%} to {high:.1%})"
    if lost:
        line += f", {abs(lost):.1%} {'worse' if lost > 0 else 'better'} than single answers with each other"
    return line


def _counts(one: Mapping[str, Any], name: str) -> dict[str, int]:
    found = one.get(name)
    return {str(key): int(value) for key, value in found.items()} if isinstance(found, Mapping) else {}
