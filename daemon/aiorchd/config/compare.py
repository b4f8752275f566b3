"""Configurations as flat maps of dotted keys, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from aiorchd.config.address import AddressError, find_address
from aiorchd.config.key import fields_of
from aiorchd.config.lines import Path
from aiorchd.config.problems import did_you_mean, dotted
from aiorchd.config.schema import CallerTable, Config, Model, Operation, Provider, section_in, sections, top_keys


def flatten(config: Config) -> dict[str, Any]:
    """Give every key of a configuration with its value in plain data: ``retry.max_attempts``, ``providers.main.http2``,
    ``models[0].name``. There are no secrets in it, because there are none in a configuration.
    """
    flat: dict[str, Any] = {name: getattr(config, name) for name in top_keys()}
    for section, kind in sections().items():
        values = _plain(section_in(config, section))
        for name in fields_of(kind):
            flat[dotted((*section.split("."), name))] = values[name]
    families = {"providers": config.providers, "callers": config.callers, "operations": config.operations}
    for family, tables in families.items():
        for named, table in tables.items():
            for name, value in _plain(table).items():
                flat[dotted((family, named, name))] = value
    for number, model in enumerate(config.models):
        for name, value in _plain(model).items():
            flat[dotted(("models", number, name))] = value
    return flat


def find_value(config: Config, key: str) -> Any:
    """Give the value of a dotted key in plain data, one entry of a key that is a table, or what lies below a table as a map
    of dotted keys. Raises `AddressError` for what there is not.
    """
    flat = flatten(config)
    if key in flat:
        return flat[key]
    below = {name: value for name, value in flat.items() if name.startswith((f"{key}.", f"{key}["))}
    if below:
        return below
    models = [model.name for model in config.models]
    try:
        address = find_address(
            key, providers=config.providers, models=models, callers=config.callers, operations=config.operations
        )
    except AddressError as error:
        if not error.table:
            raise
        prefix = f"{dotted(_by_number(error.table, models))}."
        return {name: value for name, value in flat.items() if name.startswith(prefix)}
    place = dotted(_by_number(address.path, models))
    if place not in flat:
        family = str(address.path[0])
        names: Collection[str] = getattr(config, family)
        raise AddressError(
            key, f"there is no such {family.removesuffix('s')}.", did_you_mean(str(address.path[1]), names)
        )
    if address.entry is None:
        return flat[place]
    if address.entry not in flat[place]:
        raise AddressError(key, "is not set.")
    return flat[place][address.entry]


def _by_number(path: Path, models: Sequence[str]) -> Path:
    """Write a path with the model's number, as `flatten` does."""
    return ("models", models.index(str(path[1])), *path[2:]) if path[0] == "models" else path


def flatten_raw(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The same for accepted tables as they were read: only the keys that were written."""
    flat: dict[str, Any] = {}
    for section, table in raw.items():
        if section == "models":
            for number, model in enumerate(table):
                flat.update({dotted(("models", number, name)): value for name, value in model.items()})
        elif section in ("providers", "callers", "operations"):
            for named, below in table.items():
                flat.update({dotted((section, named, name)): value for name, value in below.items()})
        elif isinstance(table, Mapping):
            for name, value in table.items():
                if f"{section}.{name}" in sections() and isinstance(value, Mapping):
                    flat.update({dotted((section, name, inner)): each for inner, each in value.items()})
                else:
                    flat[dotted((section, name))] = value
        else:
            flat[dotted((section,))] = table
    return flat


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new configuration changes: dotted keys that take effect at once, and those that wait for a restart."""

    live: tuple[str, ...]
    restart: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.live or self.restart)


def changes(old: Config, new: Config) -> Changes:
    """Compare two configurations. A provider or model that came or went is told as a whole; models go by name."""
    live: list[str] = [name for name in top_keys() if getattr(old, name) != getattr(new, name)]
    restart: list[str] = []
    for section, kind in sections().items():
        before, after = section_in(old, section), section_in(new, section)
        for name, field in fields_of(kind).items():
            if getattr(before, name) != getattr(after, name):
                (live if field.about.live else restart).append(dotted((*section.split("."), name)))
    live += _by_name("providers", old.providers, new.providers, Provider)
    live += _by_name("callers", old.callers, new.callers, CallerTable)
    live += _by_name("operations", old.operations, new.operations, Operation)
    old_models, new_models = ({model.name: model for model in config.models} for config in (old, new))
    live += _by_name("models", old_models, new_models, Model)
    if [name for name in old_models if name in new_models] != [name for name in new_models if name in old_models]:
        live.append("models")  # their order decides which one serves calls that name none
    return Changes(tuple(live), tuple(restart))


def _by_name(section: str, old: Mapping[str, Any], new: Mapping[str, Any], kind: type[msgspec.Struct]) -> list[str]:
    found = [dotted((section, name)) for name in (*old, *new) if (name in old) != (name in new)]
    for name, before in old.items():
        after = new.get(name)
        if after is not None and after != before:
            found += [
                dotted((section, name, field))
                for field in kind.__struct_fields__
                if getattr(before, field) != getattr(after, field)
            ]
    return found


def _plain(section: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(section, builtin_types=(float,))
    return plain
