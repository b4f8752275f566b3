"""Numbers as people read them, and spans of time as people write them. What goes into ``--json`` never comes here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

NOT_KNOWN: Final = "unknown"
"""Shown for a price or cost that nobody knows; never 0, which means free."""

_UNITS_S: Final = (("w", 604_800.0), ("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
_SPAN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[wdhms])")


def count(number: float | None) -> str:
    """Write a whole number with separators: ``12,345``."""
    return NOT_KNOWN if number is None else f"{round(number):,}"


def money(usd: float | None) -> str:
    """Write US dollars with as many digits as they deserve; None is unknown."""
    if usd is None:
        return NOT_KNOWN
    sign, usd = ("-", -usd) if usd < 0 else ("", usd)
    if usd == 0:
        return "$0"
    if usd >= 100:
        return f"{sign}${usd:,.0f}"
    if usd >= 0.1:
        return f"{sign}${usd:.2f}"
    if usd >= 1e-9:
        return f"{sign}${_significant(usd, 2)}"
    return f"{sign}under $0.000000001"


def cost(told: Mapping[str, Any]) -> str:
    """Write what a call or an attempt cost: what is known, and an estimate marked as one beside it where something is not."""
    whole, known, estimate = (number_of(told, name) for name in ("cost_usd", "cost_known_usd", "cost_estimate_usd"))
    if whole is not None:
        return money(whole)
    if estimate is None:
        return f"{money(known)} + {NOT_KNOWN}" if known else NOT_KNOWN
    return f"{money(known)} + ~{money(estimate)}" if known else f"~{money(estimate)}"


def share(part: float, whole: float) -> str:
    """Write a part of a whole in per cent; a dash when there is no whole. 100 % and 0 % are said only when exact."""
    if whole <= 0:
        return "–"
    percent = 100.0 * part / whole
    if part != whole and percent > 99.9:
        return "99.9 %"
    if part > 0 and percent < 0.1:
        return "0.1 %"
    return f"{percent:.1f} %".replace(".0 %", " %")


def seconds(value: float | None) -> str:
    """Write a length of time: ``0.4 ms``, ``12 ms``, ``1.25 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if value is None:
        return NOT_KNOWN
    if value < 0:
        return f"-{seconds(-value)}"
    if value == 0:
        return "0 s"
    if value < 0.9995:
        milliseconds = value * 1000
        if milliseconds < 0.01:
            return "under 0.01 ms"
        return f"{_significant(milliseconds, 2) if milliseconds < 9.95 else f'{milliseconds:.0f}'} ms"
    if value < 59.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    whole = round(value)
    for (name, size), (smaller_name, smaller_size) in (
        (("d", 86_400), ("h", 3_600)),
        (("h", 3_600), ("min", 60)),
        (("min", 60), ("s", 1)),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def size(number_of_bytes: float | None) -> str:
    """Write bytes in binary units: ``512 B``, ``1.5 MiB``."""
    if number_of_bytes is None:
        return NOT_KNOWN
    value = float(number_of_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1023.95 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}".replace(".0 ", " ")
        value /= 1024
    raise AssertionError("the last unit takes everything")


def moment(wall_s: float | None) -> str:
    """Write a point in time in the time zone of whoever reads it."""
    if wall_s is None:
        return NOT_KNOWN
    return datetime.fromtimestamp(wall_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def plural(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: ``1 model``, ``3 models``."""
    return f"{count(number)} {one if number == 1 else many if many is not None else one + 's'}"


def parse_span(text: str) -> float:
    """Read ``90``, ``30m``, ``1h30m``, ``2d``, ``500ms`` as seconds. Raises `ValueError` with what is understood."""
    written = text.strip().lower().replace(" ", "")
    if written.replace(".", "", 1).isascii() and written.replace(".", "", 1).isdigit():
        total = float(written)
    else:
        parts = _SPAN.findall(written)
        if not parts or "".join(number + unit for number, unit in parts) != written:
            raise ValueError(f"{text!r} is not a length of time; write for instance 90s, 30m, 1h30m, 2d or 1w")
        units = dict(_UNITS_S)
        total = sum(float(number) * units[unit] for number, unit in parts)
    if not 0 < total < 1e10:
        raise ValueError(f"{text!r} is not a length of time; it must be more than 0")
    return total


def number_of(result: Any, *path: str) -> float | None:
    """Find a number in a result by its keys; None when it is not there (an older or newer daemon) or null."""
    for key in path:
        if not isinstance(result, dict):
            return None
        result = result.get(key)
    if isinstance(result, bool) or not isinstance(result, (int, float)):
        return None
    return float(result) if isinstance(result, float) else result


def _significant(value: float, digits: int) -> str:
    """Write a small number with so many significant digits, never in powers of ten."""
    decimals = digits - 1
    scaled = value
    while scaled < 0.9999999 and decimals < 12:
        scaled *= 10
        decimals += 1
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
