"""From the tables of a TOML to the records of the schema, finding every problem on the way instead of the first.

A value that is refused is replaced by its default in the record that is made, so that the checks between sections can
go on; whoever asked must look at the findings before using it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from aiorchd.config.findings import Findings
from aiorchd.config.key import Field, expectation, fields_of
from aiorchd.config.later import not_yet
from aiorchd.config.lines import Path
from aiorchd.config.problems import did_you_mean, dotted, nearest, printable, show
from aiorchd.config.schema import CallerTable, Config, Model, Operation, Profile, Provider, Section, sections, top_keys
from aiorchd.config.secrets import looks_secret, names_secret

SectionT = TypeVar("SectionT", bound=Section)


@dataclass(frozen=True, slots=True)
class Records:
    """What could be made of the tables. ``models`` keep their place in the list; those without a name are left out, and
    then ``all_models`` is False. ``provider_names`` also has those that were refused.
    """

    sections: Mapping[str, Section]
    providers: Mapping[str, Provider]
    provider_names: frozenset[str]
    callers: Mapping[str, CallerTable]
    operations: Mapping[str, Operation]
    models: tuple[tuple[int, Model], ...]
    all_models: bool
    profile: Profile | None = None

    def config(self) -> Config:
        """Put them together."""
        made: dict[str, Any] = dict(self.sections)
        models = tuple(model for _, model in self.models)
        return Config(
            profile=self.profile,
            providers=self.providers,
            callers=self.callers,
            operations=self.operations,
            models=models,
            **made,
        )


class _Schema:
    """The fields of every section, described once per reading."""

    def __init__(self) -> None:
        self.sections = sections()
        self.top = top_keys()
        kinds: tuple[type[Section], ...] = (*self.sections.values(), Provider, CallerTable, Operation, Model)
        self.fields = {kind: fields_of(kind) for kind in kinds}

    def elsewhere(self, name: str) -> str | None:
        """Find the section that has a key of nearly this name."""
        keys = {key: section for section, kind in self.sections.items() for key in self.fields[kind]}
        found = nearest(name, keys)
        return None if found is None else f"{keys[found]}.{found}"


def make_records(raw: Mapping[str, Any], findings: Findings) -> Records:
    """Make what can be made, noting every problem."""
    schema = _Schema()
    made: dict[str, Section] = {}
    known = [*schema.top, *schema.sections, "providers", "callers", "operations", "models"]
    for name, value in raw.items():
        if name not in known:
            _unknown((name,), value, known, schema, findings)
    profile: Profile | None = None
    if "profile" in raw:
        _, profile = _value(schema.top["profile"], raw["profile"], ("profile",), findings)
    for name, kind in schema.sections.items():
        above, _, own = name.rpartition(".")
        if not above and name in raw:
            inner = [each.partition(".")[2] for each in schema.sections if each.startswith(f"{name}.")]
            table = raw[name]
            plain = {key: table[key] for key in table if key not in inner} if isinstance(table, dict) else table
            section = _section(kind, plain, (name,), schema, findings)
            made[name] = kind() if section is None else section
        elif above and isinstance(raw.get(above), dict) and own in raw[above]:
            section = _section(kind, raw[above][own], (above, own), schema, findings)
            if section is not None:
                made[above] = msgspec.structs.replace(made[above], **{own: section})
    providers, provider_names = _providers(raw.get("providers", {}), schema, findings)
    callers = _callers(raw.get("callers", {}), schema, findings)
    operations = _operations(raw.get("operations", {}), schema, findings)
    models, all_models = _models(raw.get("models", []), schema, findings)
    return Records(made, providers, provider_names, callers, operations, models, all_models, profile)


def _providers(raw: Any, schema: _Schema, findings: Findings) -> tuple[dict[str, Provider], frozenset[str]]:
    if not isinstance(raw, dict):
        findings.wrong(("providers",), f"must be tables [providers.NAME], not {show(raw)}.")
        return {}, frozenset()
    made: dict[str, Provider] = {}
    for name, table in raw.items():
        path: Path = ("providers", name)
        if not _is_name(name):
            findings.wrong(
                path,
                "a provider's name is made of at most 64 letters, digits, - _ and ., and begins with a letter or digit.",
            )
        if not isinstance(table, dict) and name in schema.fields[Provider]:
            findings.wrong(path, "stands in [providers] itself, without a provider's name.", "Write [providers.NAME].")
            continue
        provider = _section(Provider, table, path, schema, findings)
        if provider is not None:
            made[name] = provider
    return made, frozenset(raw)


def _callers(raw: Any, schema: _Schema, findings: Findings) -> dict[str, CallerTable]:
    if not isinstance(raw, dict):
        findings.wrong(("callers",), f"must be tables [callers.NAME], not {show(raw)}.")
        return {}
    made: dict[str, CallerTable] = {}
    for name, table in raw.items():
        path: Path = ("callers", name)
        if not isinstance(table, dict) and name in schema.fields[CallerTable]:
            findings.wrong(path, "stands in [callers] itself, without a caller's name.", "Write [callers.NAME].")
            continue
        if isinstance(table, dict) and table and all(isinstance(value, dict) for value in table.values()):
            findings.wrong(
                path, "is a table of tables.", f'A name with dots is quoted: [callers."{name}.{next(iter(table))}"].'
            )
            continue
        caller = _section(CallerTable, table, path, schema, findings)
        if caller is not None:
            made[name] = caller
    return made


def _operations(raw: Any, schema: _Schema, findings: Findings) -> dict[str, Operation]:
    if not isinstance(raw, dict):
        findings.wrong(("operations",), f"must be tables [operations.NAME], not {show(raw)}.")
        return {}
    made: dict[str, Operation] = {}
    for name, table in raw.items():
        path: Path = ("operations", name)
        if not _is_name(name):
            findings.wrong(
                path,
                "an operation's name is made of at most 64 letters, digits, - _ and ., and begins with a letter or digit.",
            )
        if not isinstance(table, dict) and name in schema.fields[Operation]:
            findings.wrong(path, "stands in [operations] itself, without a name.", "Write [operations.NAME].")
            continue
        operation = _section(Operation, table, path, schema, findings)
        if operation is not None:
            made[name] = operation
    return made


def _is_name(name: str) -> bool:
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    return len(name) <= 64 and name.isascii() and plain.isalnum() and name[0].isalnum()


def _models(raw: Any, schema: _Schema, findings: Findings) -> tuple[tuple[tuple[int, Model], ...], bool]:
    if not isinstance(raw, list):
        findings.wrong(
            ("models",), f"must be a list of tables, not {show(raw)}.", "Write [[models]], in double brackets."
        )
        return (), False
    made: list[tuple[int, Model]] = []
    for number, table in enumerate(raw):
        model = _section(Model, table, ("models", number), schema, findings)
        if model is not None:
            made.append((number, model))
    return tuple(made), len(made) == len(raw)


def _section(kind: type[SectionT], table: Any, path: Path, schema: _Schema, findings: Findings) -> SectionT | None:
    """Make one section; None when it is no table or lacks what has no default."""
    if not isinstance(table, dict):
        findings.wrong(path, f"must be a table, not {show(table)}.", f"Write [{dotted(path)}] on a line of its own.")
        return None
    fields = schema.fields[kind]
    for name, value in table.items():
        if name not in fields:
            _unknown((*path, name), value, list(fields), schema, findings)
    values: dict[str, Any] = {}
    complete = True
    for name, field in fields.items():
        if name in table:
            accepted, value = _value(field, table[name], (*path, name), findings)
            if accepted:
                values[name] = value
            else:
                complete = complete and not field.required
        elif field.required:
            complete = False
            findings.wrong(path, f'has no "{name}".', f"Write for instance {name} = {field.about.example}")
    return kind(**values) if complete else None


def _value(field: Field, value: Any, path: Path, findings: Findings) -> tuple[bool, Any]:
    """Check and convert one value; each bad item of a list or table is a problem of its own."""
    try:
        return True, msgspec.convert(value, field.shape)
    except msgspec.ValidationError:
        pass
    if isinstance(value, str) and value in field.about.later:
        findings.wrong(path, f'"{value}" is not part of this release: it must be {field.expectation()}.')
        return False, None
    shape = _bare(field.type_info)
    items: list[tuple[str | int, Any, Any]] = []
    item_shape: msgspec.inspect.Type | None = None
    if isinstance(value, list) and isinstance(shape, msgspec.inspect.VarTupleType):
        items, item_shape = [(number, item, [item]) for number, item in enumerate(value)], shape.item_type
    elif isinstance(value, dict) and isinstance(shape, msgspec.inspect.DictType):
        items, item_shape = [(name, item, {name: item}) for name, item in value.items()], shape.value_type
    bad = False
    for place, item, alone in items:
        if item_shape is not None and not _fits(alone, field.shape):
            bad = True
            findings.wrong((*path, place), f"must be {expectation(item_shape, field.choices())}, not {show(item)}.")
    if not bad:  # then it is the whole that does not fit: its type, or how many items it has
        unit = f" ({field.about.unit})" if field.about.unit else ""
        guess = nearest(value, field.choices()) if isinstance(value, str) else None
        remedy = f'Did you mean "{guess}"?' if guess is not None else ""
        findings.wrong(path, f"must be {field.expectation()}{unit}, not {show(value)}.", remedy)
    return False, None


def _fits(value: Any, shape: Any) -> bool:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return False
    return True


def _bare(shape: msgspec.inspect.Type) -> msgspec.inspect.Type:
    return _bare(shape.type) if isinstance(shape, msgspec.inspect.Metadata) else shape


def _unknown(path: Path, value: Any, known: list[str], schema: _Schema, findings: Findings) -> None:
    """Note a key that the schema does not have, with what was probably meant."""
    name = str(path[-1])
    planned = not_yet(path)
    if planned is not None:
        findings.wrong(path, f"is not part of this release: it will serve {planned}.", "Leave it out for now.")
    elif isinstance(value, str) and (names_secret(name) or looks_secret(value)):
        findings.wrong(
            path,
            "secrets are never written in this file.",
            "Put the key into the daemon's environment or a systemd credential, and name it here with api_key_env or "
            "api_key_credential.",
        )
    elif findings.full:
        findings.wrong(path, "there is no such key.")
    else:
        where = None if nearest(name, known) is not None else schema.elsewhere(name)
        remedy = f'Did you mean "{where}"?' if where is not None else did_you_mean(name, known)
        what = "section" if len(path) == 1 and isinstance(value, dict | list) else "key"
        findings.wrong(path, f'there is no {what} "{printable(name)}" here.', remedy)
