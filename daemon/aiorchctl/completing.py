"""What a shell may complete where a command takes the name of something: keys, values, profiles, models.

Without a daemon and quickly: names come from the schema and from the configuration file that a daemon of this person would
read, even when that file is wrong. Whatever cannot be read completes nothing and says nothing, because what is written here
lands in the middle of somebody's command line.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from aiorchctl.commands.config.names import callers_in_tables, names_in_tables, operations_in_tables

if TYPE_CHECKING:
    from aiorchd.config.key import Field

    _Item = CompletionItem[str]
else:
    _Item = CompletionItem  # generic from click 8.2 on, and 8.1 will do


def config_keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[_Item]:  # noqa: ARG001 - as click calls it
    """Complete a dotted key, those of the file's providers and models included."""
    return _matching(incomplete, ((key, field.about.meaning) for key, field in _keys(_tables(ctx))))


def config_parts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[_Item]:  # noqa: ARG001 - as click calls it
    """Complete a dotted key or what keys are below."""
    tables = _tables(ctx)
    above = {key.rpartition(".")[0]: "" for key, _ in _keys(tables) if "." in key}
    return [
        *_matching(incomplete, above.items()),
        *_matching(incomplete, ((key, field.about.meaning) for key, field in _keys(tables))),
    ]


def config_values(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[_Item]:  # noqa: ARG001 - as click calls it
    """Complete the value of the key that stands before it, where it is one of a few words or of the file's names."""
    from msgspec import inspect

    tables = _tables(ctx)
    key = ctx.params.get("key")
    field = next((field for name, field in _keys(tables) if name == key), None)
    if field is None:
        return []
    shape = field.type_info
    while isinstance(shape, inspect.Metadata):
        shape = shape.type
    words: Iterable[str] = field.choices()
    if isinstance(shape, inspect.BoolType):
        words = ("true", "false")
    if key == "routing.fallback":
        words = names_in_tables(tables)[1]
    return _matching(incomplete, ((word, "") for word in words))


def profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[_Item]:  # noqa: ARG001 - as click calls it
    """Complete the name of a profile, or none."""
    from aiorchd.config.presets import LEVELS, PROFILES

    known = [(name, "a level" if name in LEVELS else "a scenario") for name in PROFILES]
    return _matching(incomplete, [*known, ("none", "only what the file says itself")])


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[_Item]:  # noqa: ARG001 - as click calls it
    """Complete the name of a model of the configuration file."""
    return _matching(incomplete, ((name, "") for name in names_in_tables(_tables(ctx))[1]))


def operations(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[_Item]:  # noqa: ARG001 - as click calls it
    """Complete the name of an operation of the configuration file."""
    return _matching(incomplete, ((name, "") for name in operations_in_tables(_tables(ctx))))


def _matching(incomplete: str, known: Iterable[tuple[str, str]]) -> list[_Item]:
    """Choose what begins so. Names that a shell would take apart are left out."""
    return [
        CompletionItem(name, help=help_text or None)
        for name, help_text in known
        if name.startswith(incomplete) and name.isprintable() and not set(name) & set(" \"'`\\$,")
    ]


def _keys(tables: Mapping[str, Any]) -> Iterator[tuple[str, Field]]:
    """Give every key there is, by the names of this file."""
    from aiorchd.config.key import fields_of
    from aiorchd.config.schema import CallerTable, Model, Operation, Provider, Section, sections, top_keys

    yield from top_keys().items()
    providers, models = names_in_tables(tables)
    kinds: dict[str, type[Section]] = {
        **sections(),
        **{f"providers.{name}": Provider for name in providers},
        **{f"callers.{name}": CallerTable for name in callers_in_tables(tables)},
        **{f"operations.{name}": Operation for name in operations_in_tables(tables)},
        **{f"models.{name}": Model for name in models},
    }
    for place, kind in kinds.items():
        for name, field in fields_of(kind).items():
            yield f"{place}.{name}", field


def _tables(ctx: click.Context) -> dict[str, Any]:
    """Read the file that is named on the line, or the one a daemon would read; without its faults, and empty if need be."""
    from aiorchd.config.places import PlaceError, find_config

    named = ctx.params.get("file")
    try:
        place = find_config(named if isinstance(named, str) else None, os.environ, os.getuid())
        return {} if place is None else tomllib.loads(place.path.read_text(encoding="utf-8"))
    except (PlaceError, OSError, ValueError):
        return {}
