"""The bundled table of prices: what providers ask, by the address they are reached at and their own names of models.

`prices.json` is made by `make prices` from the data of genai-prices and comes with the release: nothing is fetched, at import,
at start or ever. It is read once for each configuration, in 6 ms and 3 MB that are given back, and only when a model of it
has no price of its own. An address that the table does not know (a server of one's own, a gateway) has no prices in it,
whatever its models are called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, Final

from aiorchd.calls.target import ListedModel, Price, Tier

_TABLE: Final = "prices.json"
_COMPACT_DATE: Final = re.compile(r"-(20\d\d)(\d\d)(\d\d)$")


def read_table() -> Mapping[str, Any]:
    """Read the whole table. Blocks for some milliseconds: call it in a thread."""
    text = files("aiorchd.providers").joinpath(_TABLE).read_text(encoding="utf-8")
    table: Mapping[str, Any] = json.loads(text)
    return table


def look_up(table: Mapping[str, Any], wanted: Iterable[tuple[str, str]], day: str) -> list[ListedModel | None]:
    """Find, for each (base URL, provider's name of the model), what is listed on ``day`` (``2026-11-28``); None where nothing
    is."""
    return [_find(table, base_url, model.lower(), day) for base_url, model in wanted]


def _find(table: Mapping[str, Any], base_url: str, model: str, day: str) -> ListedModel | None:
    providers = {row["id"]: row for row in table["providers"]}
    for row in providers.values():
        if re.match(row["url"], base_url) is None:
            continue
        for place in (row, *(providers[name] for name in row.get("also", ()) if name in providers)):
            found = _model(place, model)
            if found is not None:
                return _listed(found, day, f"{table['from']} ({place['id']})")
    return None


def _model(row: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The first that matches, under the name as it is, else with its date written in the usual way."""
    for each in dict.fromkeys((name, _COMPACT_DATE.sub(r"-\1-\2-\3", name))):
        for model in row["models"]:
            if _matches(model["match"], each):
                found: Mapping[str, Any] = model
                return found
    return None


def _matches(clause: list[Any], name: str) -> bool:
    kind, *arguments = clause
    if kind == "or":
        return any(_matches(each, name) for each in arguments)
    if kind == "and":
        return all(_matches(each, name) for each in arguments)
    text = arguments[0]
    if kind == "regex":
        return re.search(text, name) is not None
    text = text.lower()
    if kind == "equals":
        return bool(name == text)
    if kind == "starts_with":
        return name.startswith(text)
    if kind == "ends_with":
        return name.endswith(text)
    return kind == "contains" and text in name


def _listed(model: Mapping[str, Any], day: str, source: str) -> ListedModel:
    rates = model["prices"][0][1]
    for since, later in model["prices"]:
        if since is None or since <= day:
            rates = later
    tiers = tuple(Tier(above, **_fields(tier)) for above, tier in rates.get("tiers", ()))
    return ListedModel(Price(**_fields(rates), tiers=tiers, source=source), model.get("context"))


def _fields(rates: Mapping[str, Any]) -> dict[str, float]:
    return {f"{name}_usd_per_1m": rate for name, rate in rates.items() if name != "tiers"}
