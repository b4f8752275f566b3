"""How large what an operation of a template makes may become, told from what it is given.

Near enough above to bound memory by, and near enough below to refuse nothing that is usual.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

MOST_CHARACTERS: Final = 16 * 1024 * 1024
"""A prompt, or any text on the way to it, that is longer is refused; nobody takes one."""
ITEM: Final = 8
"""What an item of a list takes, in characters."""

_FIELD: Final = re.compile(r"%(?:\(([^()]*)\))?[#0\- +]*(\*|[0-9]*)(?:\.(\*|[0-9]*))?[hlL]?(.?)", re.DOTALL)
_KINDS: Final = frozenset("diouxXeEfFgGcrsab%")
_HOLDERS: Final[tuple[type[Collection[Any]], ...]] = (
    dict,
    list,
    tuple,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)


def weight(value: Any, indent: int = 0) -> int:
    """Tell about how many characters something takes when it is written out, up to where it is too many; a thing that is at
    many places counts at each. ``indent`` is how much JSON puts before each line, for each level."""
    total, depth, level = 0, 0, [value]
    while level and total <= MOST_CHARACTERS:
        below: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is str:
                total += len(one)
            elif kind is int:
                total += one.bit_length() // 3
            elif isinstance(one, _HOLDERS):
                total += 2 * len(one)
                if total > MOST_CHARACTERS:
                    return total
                below += one
                if isinstance(one, dict):
                    below += one.values()
            elif isinstance(one, (str, bytes)):
                total += len(one)
        total += len(level) * (2 + indent * depth)
        level, depth = below, depth + 1
    return total


def length(value: Any) -> int:
    """Tell what a text or list takes by itself, in characters; of anything else 0."""
    if isinstance(value, (str, bytes)):
        return len(value)
    return len(value) * ITEM if isinstance(value, (list, tuple, dict)) else 0


def number(digits: str) -> int:
    """Read the digits of a width, as far as it matters."""
    return int(digits) if len(digits) < 10 else MOST_CHARACTERS + 1


def formatted(text: str | bytes, values: Any) -> int:
    """Tell how long ``text % values`` may become."""
    template = text if isinstance(text, str) else text.decode("latin-1")
    size = len(template)
    several = values if isinstance(values, tuple) else (values,)
    stars = max((abs(value) for value in several if isinstance(value, int)), default=0)
    by_name = values if isinstance(values, Mapping) else {}
    if not by_name:
        size += sum(map(weight, several))
    for name, width, precision, kind in _FIELD.findall(template):
        if not kind or kind not in _KINDS:
            raise TypeError("what follows a % of a format is nothing that can be filled in")
        for digits in (width, precision):
            size += stars if digits == "*" else number(digits or "0")
        if by_name:
            size += weight(by_name.get(name, values))
    return size


# Rules of those that repeat something as often as something else occurs: ``value``, other arguments, named ones.


def _argument(place: int, name: str, args: tuple[Any, ...], named: Mapping[str, Any], usual: Any = None) -> Any:
    return args[place] if len(args) > place else named.get(name, usual)


def _replaced(value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    old, new = (
        str(one) if isinstance(one, (int, float)) else one
        for one in (_argument(0, "old", args, named), _argument(1, "new", args, named))
    )
    if not any(all(isinstance(one, kind) for one in (value, old, new)) for kind in (str, bytes)):
        return max(1, weight(value)) * max(1, weight(new))
    many: int = value.count(old)
    most = _argument(2, "count", args, named)
    if isinstance(most, int) and most >= 0:
        many = min(many, most)
    return len(value) + many * max(0, len(new) - len(old))


def _joined(value: Any, args: tuple[Any, ...], _named: Mapping[str, Any]) -> int:
    items = args[0] if args else ()
    return sum(map(length, items)) + len(value) * len(items)


def _expanded(value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    width = _argument(0, "tabsize", args, named, 8)
    tabs = value.count("\t" if isinstance(value, str) else b"\t")
    return len(value) + tabs * width if isinstance(width, int) else 0


def _indented(value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    width = _argument(0, "width", args, named, 4)
    lines = len(value.splitlines()) + 1 if isinstance(value, str) else weight(value)
    return weight(value) + lines * (width if isinstance(width, int) else len(str(width)))


def _wrapped(value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    width, between = _argument(0, "width", args, named, 79), _argument(2, "wrapstring", args, named)
    lines = weight(value) // (width if isinstance(width, int) and width > 0 else 1) * 2 + 1
    lines += value.count("\n") if isinstance(value, str) else 0
    return weight(value) + lines * weight(between or "\n")


def _linked(value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    about = sum(weight(text) for text in (*args, *named.values()) if isinstance(text, str))
    return weight(value) * (1 + about // 4)


def _translated(value: Any, args: tuple[Any, ...], _named: Mapping[str, Any]) -> int:
    table = args[0] if args else None
    most = max(map(weight, table.values()), default=1) if isinstance(table, Mapping) else 1
    return len(value) * max(1, most)


def _as_json(value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    indent = _argument(0, "indent", args, named)
    return weight(value, indent if isinstance(indent, int) else len(indent or ""))


def _percent(value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    return formatted(value, named or args) if isinstance(value, (str, bytes)) else weight(value)


RULES: Final[Mapping[str, Callable[[Any, tuple[Any, ...], Mapping[str, Any]], int]]] = {
    "join": _joined,
    "format": _percent,
    "replace": _replaced,
    "expandtabs": _expanded,
    "indent": _indented,
    "wordwrap": _wrapped,
    "urlize": _linked,
    "translate": _translated,
    "tojson": _as_json,
}
