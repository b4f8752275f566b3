"""Write daemon/aiorchd/providers/prices.json from the data of the genai-prices package (MIT): `make prices`.

The package itself is not a dependency: importing it takes 0.18 s and 28 MB (it brings pydantic and an HTTP client), where
reading this table takes a tenth of either, once, when a configuration is loaded. The table holds what a call in tokens
costs and nothing else: no fees for searches, no discounts for batches. Models whose price is not by the token alone (by the
request, the page, the second or the character) are left out: their cost would be told too low.

A price that depends on the time of day stands as its dearest, so that a budget is never overrun by the clock.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import types
from genai_prices.data import providers

TABLE = Path(__file__).resolve().parents[1] / "daemon" / "aiorchd" / "providers" / "prices.json"
NAMES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
}
NOT_BY_TOKEN_ALONE = (
    "requests_kcount",
    "input_mchars",
    "audio_hours",
    "input_audio_hours",
    "input_document_kpages",
    "input_annotated_document_kpages",
    "input_text_messages_kcount",
    "output_citation_mtok",
)


def match(clause: Any) -> list[Any]:
    """Write a clause as a list: what is done, and with what."""
    for kind in ("starts_with", "ends_with", "contains", "regex", "equals"):
        if hasattr(clause, kind):
            return [kind, getattr(clause, kind)]
    for kind in ("or", "and"):
        if hasattr(clause, f"{kind}_"):
            return [kind, *(match(each) for each in getattr(clause, f"{kind}_"))]
    raise TypeError(f"a clause of a new kind: {clause!r}")


def rates(price: Any) -> dict[str, Any] | None:
    """Write a price: US dollars for a million tokens, and tiers as [above so many input tokens, rates]."""
    given = {name: value for name, value in vars(price).items() if value is not None and not name.startswith("_")}
    if any(name in given for name in NOT_BY_TOKEN_ALONE) or "input_mtok" not in given:
        return None
    flat: dict[str, Any] = {}
    tiers: dict[int, dict[str, float]] = {}
    for name, short in NAMES.items():
        value = given.get(name)
        if name == "output_mtok" and "output_reasoning_mtok" in given:
            value = max(value, given["output_reasoning_mtok"])
        if isinstance(value, types.TieredPrices):
            flat[short] = float(value.base)
            for tier in value.tiers:
                tiers.setdefault(tier.start, {})[short] = float(tier.price)
        elif value is not None:
            flat[short] = float(value)
    if tiers:
        flat["tiers"] = [[start, tiers[start]] for start in sorted(tiers)]
    return flat


def dated(prices: Any) -> list[list[Any]] | None:
    """Write the prices of a model as [since which day (None: always), rates], the earliest first."""
    found: dict[str | None, Any] = {}
    for each in prices if isinstance(prices, list) else [types.ConditionalPrice(prices=prices)]:
        written = rates(each.prices)
        if written is None:
            return None
        day = each.constraint.start_date.isoformat() if isinstance(each.constraint, types.StartDateConstraint) else None
        if isinstance(each.constraint, types.TimeOfDateConstraint):
            day = max(found, key=lambda one: one or "", default=None)
            written = dearest(found.get(day), written)
        found[day] = written
    return [[day, found[day]] for day in sorted(found, key=lambda one: one or "")]


def dearest(one: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    """Take the higher of two prices, part by part."""
    if one is None:
        return other
    if "tiers" in one or "tiers" in other:
        raise TypeError("a price by the hour that has tiers")
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in one | other}


def table() -> dict[str, Any]:
    """Make the whole table."""
    made = []
    for provider in providers:
        models = []
        for model in provider.models:
            prices = dated(model.prices)
            if prices is not None:
                row: dict[str, Any] = {"id": model.id, "match": match(model.match), "prices": prices}
                if model.context_window:
                    row["context"] = model.context_window
                models.append(row)
        row = {"id": provider.id, "url": provider.api_pattern, "models": models}
        if provider.fallback_model_providers:
            row["also"] = list(provider.fallback_model_providers)
        made.append(row)
    return {
        "from": f"genai-prices {version('genai-prices')}",
        "licence": "MIT, Pydantic Services Inc.",
        "providers": made,
    }


def main() -> int:
    """Write it, one provider a line, so that a change can be read."""
    made = table()
    rows = made.pop("providers")
    head = json.dumps(made)[:-1]
    lines = ",\n".join(json.dumps(row, separators=(",", ":"), ensure_ascii=True) for row in rows)
    TABLE.write_text(f'{head}, "providers": [\n{lines}\n]}}\n', encoding="utf-8")
    models = sum(len(row["models"]) for row in rows)
    sys.stderr.write(f"{TABLE.name}: {made['from']}, {len(rows)} providers, {models} models\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
