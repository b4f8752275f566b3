"""A value as people write it in an environment variable or on a command line, read by what its key expects."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import inspect

_WORDS: Final[Mapping[str, bool]] = MappingProxyType(
    {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
)


def value_from_text(text: str, shape: inspect.Type) -> Any:
    """Read a value: strings as they are, true and false in several words, lists with commas or as TOML, everything else
    as TOML. What cannot be read stays a string, which the check of its key then refuses.
    """
    kinds = _kinds(shape)
    if inspect.BoolType in kinds:
        return _WORDS.get(text.strip().lower(), text)
    if inspect.StrType in kinds or inspect.LiteralType in kinds:
        return text
    try:
        read = tomllib.loads(f"value = {text.strip()}")
    except (ValueError, RecursionError):
        pass
    else:
        return read["value"] if len(read) == 1 else text  # a line break could begin another key
    items = kinds.get(inspect.VarTupleType)
    if isinstance(items, inspect.VarTupleType):
        numbers = {inspect.IntType, inspect.FloatType} & _kinds(items.item_type).keys()
        return [_item(item.strip(), numbers=bool(numbers)) for item in text.split(",") if item.strip()]
    return text


def _item(text: str, *, numbers: bool) -> Any:
    """One item of a list with commas: a number when it reads as one and may be one, else a string."""
    for kind in (int, float) if numbers else ():
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _kinds(shape: inspect.Type) -> Mapping[type[inspect.Type], inspect.Type]:
    """What a value may be, by kind: several for a union."""
    if isinstance(shape, inspect.Metadata):
        return _kinds(shape.type)
    if isinstance(shape, inspect.UnionType):
        found: dict[type[inspect.Type], inspect.Type] = {}
        for one in shape.types:
            found.update(_kinds(one))
        return found
    return {type(shape): shape}
