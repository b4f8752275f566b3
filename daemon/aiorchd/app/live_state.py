"""The live state of a model as ``models.list`` and ``status`` tell it: of its one way, or of one for each key together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiorchd.app.plain import plain
from aiorchd.app.supply import Supply
from aiorchd.core.key_ring import KeyRing
from aiorchd.runtime.turnstile import TurnstileStatistics

_LEAST: Final = frozenset({"closed_s"})
"""Of several ways the one that is open first counts; all other numbers add up."""
_TROUBLES: Final[Mapping[str, str]] = {
    "refused": "was refused by {provider}: put a valid key there and restart the daemon (a systemd credential: reload)",
    "forbidden": "may not use {models} at {provider}: let its account use it, or give it another provider section",
    "no_credit": "has no credit left at {provider}: look at its account",
}


def live_state(name: str, ways: Mapping[str, TurnstileStatistics]) -> dict[str, Any] | None:
    """Tell the state of a model's turnstiles as one."""
    rows: list[dict[str, Any]] = [plain(statistics) for statistics in ways.values()]
    if len(rows) <= 1:
        return rows[0] if rows else None
    return {**_together(rows), "name": name}


def key_states(
    provider: str, supply: Supply, ring: KeyRing | None, ways: Mapping[str, TurnstileStatistics], now: float
) -> list[dict[str, Any]]:
    """Tell how the keys of a model's provider fare; empty where it has none."""
    if ring is None:
        return []
    places = supply.key_places(provider)
    turnstiles = list(ways.values()) if len(ways) == len(places) else []
    found = []
    for number, state in enumerate(ring.states(now)):
        place, problem = places.get(state.name, ("", ""))
        live = plain(turnstiles[number]) if turnstiles else None
        found.append({**plain(state), "place": place, "problem": problem, "live": live})
    return found


def key_concerns(supply: Supply, rings: Mapping[str, KeyRing], now: float) -> list[str]:
    """Say in sentences which keys are in trouble."""
    told = []
    for provider, ring in rings.items():
        places = supply.key_places(provider)
        for state in ring.states(now):
            if state.trouble is not None and state.name in places:
                what = _TROUBLES[state.trouble].format(provider=provider, models=", ".join(state.models))
                told.append(f"the key from {places[state.name][0]} {what}")
    return told


def _together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up rows of one shape: numbers, maps of numbers; what is unknown of one is unknown of all."""
    found: dict[str, Any] = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, Mapping):
            keys = {key for value in values if isinstance(value, Mapping) for key in value}
            found[name] = {key: sum(value.get(key, 0) for value in values) for key in keys}
        elif any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            found[name] = first if all(value == first for value in values) else None
        else:
            found[name] = min(values) if name in _LEAST else sum(values)
    found["mean_hold_s"] = max(row["mean_hold_s"] for row in rows)
    return found
