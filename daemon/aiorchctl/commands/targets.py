"""The table of models with prices, limits and live state, as ``models list`` and ``status`` show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiorchctl.page import Cell, Column, Table, Words
from aiorchctl.quantities import NOT_KNOWN, count, money, number_of, seconds


def targets_table(models: Sequence[Mapping[str, Any]], *, prices: bool = True) -> Table:
    """Make the table; without prices it has room for what is going on."""
    columns = [Column("model"), Column("at")]
    if prices:
        columns += [Column("in / 1M", right=True), Column("out / 1M", right=True), Column("price from")]
    columns += [Column("running", right=True), Column("waiting", right=True), Column("requests left", right=True)]
    columns += [Column("tokens left", right=True), Column("state")]
    return Table(columns, [_row(model, prices=prices) for model in models], "Models")


def _row(model: Mapping[str, Any], *, prices: bool) -> list[Cell]:
    at = str(model.get("provider") or "")
    if model.get("id") not in (None, model.get("name")):
        at += f" ({model['id']})"
    row: list[Cell] = [str(model.get("name")), at]
    if prices:
        row += [_price(number_of(model, f"{kind}_usd_per_1m")) for kind in ("input", "output")]
        row.append(_source(model))
    live = model.get("live")
    if not isinstance(live, dict):
        return [*row, "–", "–", "–", "–", _state(model)]
    in_use, permits = number_of(live, "in_use"), number_of(live, "permits")
    running = "–" if in_use is None else f"{count(in_use)} of {count(permits)}"
    return [
        *row,
        running,
        count(number_of(live, "waiting") or 0),
        _left(live, "requests_left", model.get("requests_per_minute")),
        _left(live, "tokens_left", model.get("tokens_per_minute")),
        _state(model),
    ]


_TROUBLES: Final[Mapping[str, str]] = {
    "refused": "was refused",
    "forbidden": "may not use it",
    "no_credit": "has no credit",
}


def _price(usd: float | None) -> Cell:
    return Words(NOT_KNOWN, "doubtful") if usd is None else money(usd)


def _source(model: Mapping[str, Any]) -> Cell:
    """Say in a word where the price is from: the file, or the bundled table's provider."""
    source = str(model.get("price_source") or "")
    if not source:
        return Words("nowhere", "doubtful")
    table = source.rpartition("(")[2].rstrip(")") if source.endswith(")") else ""
    return f"table: {table}" if table else "file" if source == "configuration" else source


def _left(live: Mapping[str, Any], name: str, per_minute: Any) -> str:
    left = number_of(live, name)
    if left is None:
        return "no limit"
    limit = f" ({count(per_minute)}/min)" if isinstance(per_minute, int) else ""
    return f"{count(left)}{limit}"


def _state(model: Mapping[str, Any]) -> Cell:
    """Say the one thing that matters most."""
    if model.get("enabled") is False:
        return Words("switched off", "quiet")
    if model.get("key_problem"):
        return Words(str(model["key_problem"]), "bad")
    keys = [key for key in model.get("keys") or () if isinstance(key, dict)]
    troubled = [key for key in keys if key.get("trouble") or key.get("problem")]
    if troubled:
        told = ", ".join(
            f"{key.get('name')} {_TROUBLES.get(str(key.get('trouble')), 'is missing')}" for key in troubled
        )
        of = "its key" if len(keys) == 1 else f"{len(troubled)} of {len(keys)} keys"
        return Words(f"{of}: {told}", "doubtful" if len(troubled) < len(keys) else "bad")
    closed_s = number_of(model, "live", "closed_s") or 0.0
    if closed_s > 0:
        return Words(f"closed by its provider for {seconds(closed_s)}", "doubtful")
    if model.get("simulated"):
        return Words("simulated", "doubtful")
    return Words("ready", "good")
