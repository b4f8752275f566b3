"""What the schema says about one key besides its type: the one helper through which every field is described.

The manual (`config/aiorch.toml`), the sentences of refused files, and later the JSON Schema and the documentation are
all made from these descriptions, so that they cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

import msgspec

_EXTRA = "about"


@dataclass(frozen=True, slots=True)
class About:
    """One key in words.

    ``meaning`` says what it is and ``effect`` what follows from raising, lowering or leaving it; both are sentences.
    ``unit`` is plural and empty for what has none. ``live`` keys take effect when the file is saved, the others at the
    next start. ``example`` is the TOML value shown where there is no default. ``later`` are values that other releases
    know and this one does not. ``guarded`` keys decide who may do what and where keys of providers go: they are for
    whoever may write the file or start the daemon, and no override sets them.
    """

    meaning: str
    effect: str
    unit: str = ""
    live: bool = True
    example: str = ""
    later: tuple[str, ...] = ()
    guarded: bool = False


def key(
    meaning: str,
    *,
    effect: str,
    unit: str = "",
    live: bool = True,
    example: str = "",
    later: tuple[str, ...] = (),
    guarded: bool = False,
) -> msgspec.Meta:
    """Describe one key, for use in ``Annotated`` around its type; every field of the schema has exactly one."""
    return msgspec.Meta(
        description=f"{meaning} {effect}",
        extra={_EXTRA: About(meaning, effect, unit, live, example, later, guarded)},
    )


def span(low: float | None, high: float | None = None) -> msgspec.Meta:
    """Bound a number, both ends included."""
    return msgspec.Meta(ge=low, le=high)


def longest(count: int) -> msgspec.Meta:
    """Bound a list, table or string by its items or characters."""
    return msgspec.Meta(max_length=count)


@dataclass(frozen=True, slots=True)
class Field:
    """One key of one section as the schema has it. ``shape`` is its type, bounds included."""

    name: str
    about: About
    shape: Any
    required: bool
    default: Any

    @property
    def type_info(self) -> msgspec.inspect.Type:
        """The type in a form that can be walked."""
        return msgspec.inspect.type_info(self.shape)

    def choices(self) -> tuple[str, ...]:
        """The words it may be, in the order of the schema; empty when it is no such key."""
        return _choices(self.shape)

    def expectation(self) -> str:
        """Say what its value looks like, as the object of "must be"."""
        return expectation(self.type_info, self.choices())


@cache
def struct_fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """List the fields of a record, with what their annotations say. That takes a third of a millisecond and never changes, and a
    configuration is gone through by its fields some eighty times when it is read."""
    return msgspec.structs.fields(kind)


def fields_of(section: type[msgspec.Struct]) -> dict[str, Field]:
    """List the keys of a section by name, in the order of the manual."""
    found: dict[str, Field] = {}
    for each in struct_fields(section):
        if isinstance(each.type, type) and issubclass(each.type, msgspec.Struct):
            continue  # a table of its own
        about = _about(each)
        if about is None:
            raise TypeError(f"{section.__name__}.{each.name} is not described: annotate it with key(...)")
        found[each.name] = _field(each, about)
    return found


def described_fields_of(kind: type[msgspec.Struct]) -> dict[str, Field]:
    """List the keys among the fields of a record whose other fields are tables."""
    return {each.name: _field(each, about) for each in struct_fields(kind) if (about := _about(each))}


def _about(each: msgspec.structs.FieldInfo) -> About | None:
    for meta in getattr(each.type, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.extra:
            about: About = meta.extra[_EXTRA]
            return about
    return None


def _field(each: msgspec.structs.FieldInfo, about: About) -> Field:
    default = each.default_factory() if each.default_factory is not msgspec.NODEFAULT else each.default
    return Field(each.name, about, each.type, each.required, default)


def _choices(shape: Any) -> tuple[str, ...]:
    if get_origin(shape) is Literal:
        return tuple(str(choice) for choice in get_args(shape))
    for part in get_args(shape):
        found = _choices(part)
        if found:
            return found
    return ()


def expectation(shape: msgspec.inspect.Type, choices: tuple[str, ...] = ()) -> str:
    """Say what a value of this type looks like. ``choices`` are its words in their order, which the type forgets."""
    kinds = msgspec.inspect
    if isinstance(shape, kinds.Metadata):
        return expectation(shape.type, choices)
    if isinstance(shape, kinds.BoolType):
        return "true or false"
    if isinstance(shape, kinds.IntType):
        return "a whole number" + bounds(shape)
    if isinstance(shape, kinds.FloatType):
        return "a number" + bounds(shape)
    if isinstance(shape, kinds.StrType):
        return "a string" + _lengths(shape.min_length, shape.max_length, "characters")
    if isinstance(shape, kinds.LiteralType):
        return "one of " + ", ".join(f'"{choice}"' for choice in choices)
    if isinstance(shape, kinds.VarTupleType):
        sized = "a list" + _lengths(shape.min_length, shape.max_length, "items")
        return f"{sized}, each {expectation(shape.item_type, choices)}"
    if isinstance(shape, kinds.DictType):
        sized = "a table" + _lengths(shape.min_length, shape.max_length, "entries")
        if isinstance(shape.value_type, kinds.AnyType):
            return sized
        return f"{sized}, each {expectation(shape.value_type, choices)}"
    if isinstance(shape, kinds.UnionType):
        return " or ".join(expectation(one, choices) for one in shape.types if not isinstance(one, kinds.NoneType))
    raise TypeError(f"the schema has a type that has no words yet: {shape}")


def bounds(shape: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    """Say the bounds of a number, with a space before them; empty when it has none."""
    low, high = shape.ge, shape.le
    if low is not None and high is not None:
        return f" from {_plain(low)} to {_plain(high)}"
    if low is not None:
        return f" of at least {_plain(low)}"
    return f" of at most {_plain(high)}" if high is not None else ""


def _lengths(fewest: int | None, most: int | None, what: str) -> str:
    if fewest and most:
        return f" of {fewest} to {most} {what}"
    if most:
        return f" of at most {most} {what}"
    return f" of at least {fewest} {what}" if fewest else ""


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"
