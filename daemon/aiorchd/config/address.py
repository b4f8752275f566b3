"""From a dotted key, as people and programs write it, to its place in the tables and its description.

``cache.ttl_s``, ``profile``, ``providers.main.http2``, ``models.small.enabled``, ``models."gpt-4.1".enabled``,
``models.gpt-4.1.enabled`` (names that are known need no quotes), ``models[0].enabled``, and one entry of a key that is a
table: ``daemon.log_levels.reload``. Models go by name, so that a place stays right when the file's order changes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import inspect

from aiorchd.config.key import Field, fields_of
from aiorchd.config.later import not_yet
from aiorchd.config.lines import Path
from aiorchd.config.problems import did_you_mean, dotted, printable
from aiorchd.config.schema import CallerTable, Model, Operation, Provider, Section, sections, top_keys

LONGEST: Final = 1000
_PART: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\["\\])*)"|([^\s."\[\]]+))\s*')


class AddressError(Exception):
    """There is no such key: ``sentence`` says what is wrong and ``remedy`` what to write. ``table`` is its path when it
    names a whole table.
    """

    def __init__(self, key: str, sentence: str, remedy: str = "", *, table: Path = ()) -> None:
        super().__init__(f"{key}: {sentence}" + (f" {remedy}" if remedy else ""))
        self.sentence = sentence
        self.remedy = remedy
        self.table = table


@dataclass(frozen=True, slots=True)
class Address:
    """One key, or one entry of a key that is a table. ``path`` has models by their names."""

    path: Path
    field: Field
    entry: str | None = None

    @property
    def whole(self) -> Path:
        """The path, with the entry."""
        return self.path if self.entry is None else (*self.path, self.entry)

    @property
    def shape(self) -> inspect.Type:
        """What its value must look like."""
        shape = self.field.type_info
        while isinstance(shape, inspect.Metadata):
            shape = shape.type
        return shape.value_type if self.entry is not None and isinstance(shape, inspect.DictType) else shape

    def __str__(self) -> str:
        return dotted(self.whole)


def find_address(
    key: str,
    *,
    providers: Collection[str],
    models: Sequence[str],
    callers: Collection[str] = (),
    operations: Collection[str] = (),
) -> Address:
    """Find what a dotted key means; the collections are the names that there are (a name with dots that is not among them
    needs quotes). Raises `AddressError`."""
    written = key.strip()
    if not written or len(written) > LONGEST:
        raise AddressError(printable(key), "is not a key.", "Write one with dots, for instance cache.ttl_s.")
    found = top_keys().get(written)
    if found is not None:
        return Address((written,), found)
    head, rest = _first_part(written, key)
    known = sections()
    if head == "providers":
        return _named(key, "providers", Provider, rest, providers)
    if head == "callers":
        return _named(key, "callers", CallerTable, rest, callers)
    if head == "operations":
        return _named(key, "operations", Operation, rest, operations)
    if head == "models":
        return _named(key, "models", Model, rest, models)
    kind = known.get(head)
    if kind is None:
        planned = not_yet((head,))
        if planned is not None:
            raise AddressError(key, f"is not part of this release: it will serve {planned}.")
        raise AddressError(
            printable(key),
            f'there is no section "{printable(head)}".',
            _elsewhere(head, known)
            or did_you_mean(head, [*known, "providers", "callers", "operations", "models", *top_keys()]),
        )
    inner, below = _first_part(rest, key) if rest else ("", "")
    if f"{head}.{inner}" in known:
        return _key(key, (head, inner), known[f"{head}.{inner}"], below)
    return _key(key, (head,), kind, rest)


def _named(key: str, section: str, kind: type[Section], rest: str, names: Collection[str]) -> Address:
    """Find a key of a provider or model: the rest is its name and the key."""
    what = section.removesuffix("s")
    if not rest:
        raise AddressError(key, f"names no single {what}.", f"Write {section}.NAME.KEY.")
    numbered = re.match(r"\[(\d{1,9})\](?:\.|\Z)", rest)
    if numbered is not None and section == "models":
        listed = list(names)
        number = int(numbered[1])
        if number >= len(listed):
            raise AddressError(key, f"there is no models[{number}]: there are {len(listed)}.")
        return _key(key, (section, listed[number]), kind, rest[numbered.end() :])
    # Names may hold dots: one that is known and fits is meant, the longest first.
    for name in sorted(names, key=len, reverse=True):
        for form in (name, f'"{name}"'):
            if rest == form or rest.startswith(f"{form}."):
                return _key(key, (section, name), kind, rest[len(form) + 1 :])
    name, rest = _first_part(rest, key)
    if section == "models":
        raise AddressError(key, f'there is no model "{printable(name)}".', did_you_mean(name, names))
    return _key(key, (section, name), kind, rest)


def _key(key: str, path: Path, kind: type[Section], rest: str) -> Address:
    """Find a key of a section, and what may follow it."""
    fields = fields_of(kind)
    if not rest:
        raise AddressError(key, "is a table, not a key.", f"Its keys: {', '.join(fields)}.", table=path)
    name, entry = _first_part(rest, key)
    field = fields.get(name)
    if field is None:
        planned = not_yet((*path, name))
        if planned is not None:
            raise AddressError(key, f"is not part of this release: it will serve {planned}.")
        raise AddressError(
            printable(key), f'[{dotted(path)}] has no key "{printable(name)}".', did_you_mean(name, fields)
        )
    if not entry:
        return Address((*path, name), field)
    if not isinstance(Address((*path, name), field).shape, inspect.DictType):
        raise AddressError(printable(key), f"{dotted((*path, name))} is no table and has nothing below it.")
    inner, more = _first_part(entry, key)
    # What is not quoted may hold dots: nothing in the schema is deeper.
    return Address((*path, name), field, f"{inner}.{more}" if more else inner)


def _first_part(text: str, key: str) -> tuple[str, str]:
    """Take the first part of a dotted key; gives it and what follows the dot, or the bracket of an index."""
    match = _PART.match(text)
    if match is None:
        raise AddressError(printable(key), "is not a key.", "Write one with dots, for instance cache.ttl_s.")
    part = match[2] if match[1] is None else re.sub(r"\\(.)", r"\1", match[1])
    rest = text[match.end() :]
    if rest.startswith("."):
        if len(rest) == 1:
            raise AddressError(printable(key), "ends in a dot.")
        return part, rest[1:]
    if rest and not rest.startswith("["):
        raise AddressError(printable(key), "is not a key.", "Write one with dots, for instance cache.ttl_s.")
    return part, rest


def _elsewhere(name: str, known: Iterable[str]) -> str:
    """Make a remedy for a key that was written without its section."""
    table = sections()
    homes = [section for section in known if name in fields_of(table[section])]
    return f'Did you mean "{homes[0]}.{name}"?' if homes else ""
