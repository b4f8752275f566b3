"""`docs/configuration.md`: layers, profiles, environment and every key, written from the schema for reading and linking.

``make docs`` makes it anew; a test holds the two together.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Final

from aiorchd.config.compare import flatten, flatten_raw
from aiorchd.config.document_names import DOCUMENT_NAMES
from aiorchd.config.key import Field, fields_of
from aiorchd.config.later import NOT_YET
from aiorchd.config.manual import facts, to_toml
from aiorchd.config.overrides import MOST_OVERRIDES
from aiorchd.config.presets import LEVELS, PROFILES, presets_of
from aiorchd.config.schema import CallerTable, Config, Model, Operation, Provider, Section, sections, top_keys

_OPENING: Final = """\
# Configuration

<!-- Made from the schema: make docs -->

One TOML file says everything. It is read at start and again whenever it is saved, at `SIGHUP` and at `aiorchctl config
reload`; a file with a mistake changes nothing, and everything that is wrong with it is told at once, with file, key and
line. [config/aiorch.toml](../config/aiorch.toml) holds every key at its default, with the words of this page;
`aiorchctl init` makes a first file of your own.

## Which file

`aiorchd --config FILE`, else `$AIORCH_CONFIG`, else `$XDG_CONFIG_HOME/aiorch/aiorch.toml` (or `~/.config`), else
`/etc/aiorch/aiorch.toml`. None of these: the built-in defaults with an embedded simulated model. `aiorchctl status` says
which it was. Only its owner (root, or the user of the daemon) may be able to write it.

## Layers

Later ones win, key by key. `aiorchctl config diff` shows them side by side.

| layer | what it is | changed by |
| --- | --- | --- |
| built-in | the defaults on this page | a release |
| profile | what `profile = "…"` names, see below | `aiorchctl config use NAME` |
| file | the TOML | an editor, or `aiorchctl config set KEY VALUE` |
| environment | `AIORCH__SECTION__KEY` of the daemon, and the names below | a restart |
| override | changes made by programs while it runs | `aiorchctl config override KEY VALUE`, `config reset`; a restart |

`config set` and `config use` edit the file as the person who runs them, keep its comments and layout, refuse to write
what would be wrong, and then have it read. An override (the methods `config.override` and `config.reset`) is kept apart
from the file (at most {most}), is checked by the same rules, survives every reload and is forgotten by a restart. It sets
neither who may do what nor where a key goes; those keys say so below.

## Live

A change takes effect for calls that begin after it; calls under way end with what they began with, and none is cut or
lost. {restart}

A key of a provider is looked for again at every reload, so a systemd credential whose file has changed is taken by
`aiorchctl config reload`; the daemon's environment is that of its start.
"""

_PROFILES: Final = """\
## Profiles

Three levels and four scenarios, each a file in [config/presets](../config/presets) that says what the guide behind it
fixes. What your file says itself wins. A key that is not listed keeps its default.
"""

_ENVIRONMENT: Final = """\
## Environment

`AIORCH__SECTION__KEY` sets one key: `AIORCH__CACHE__TTL_S=60`, `AIORCH__RETRY__BACKOFF_S=0.1,0.2`,
`AIORCH__PROVIDERS__MAIN__HTTP2=true`, `AIORCH__PROFILE=basic`. One that sets no key or a wrong value is refused like a
mistake in the file.

The names of the guides that aiorch takes the place of are understood too, below `AIORCH__…` and above the file. Some of
them may belong to other programs, so a value that does not fit is passed over with a warning.
"""


def reference() -> str:
    """Write the whole page."""
    kinds: dict[str, type[Section]] = {
        **sections(),
        "providers.NAME": Provider,
        "callers.NAME": CallerTable,
        "operations.NAME": Operation,
        "[[models]]": Model,
    }
    waiting = [
        f"`{name}.{field.name}`"
        for name, kind in kinds.items()
        for field in fields_of(kind).values()
        if not field.about.live
    ]
    told = (
        f"These wait for a restart, as the answer to a reload and `aiorchctl status` say by name: {', '.join(waiting)}."
        if waiting
        else "Every key of this release is live."
    )
    lines = [
        _OPENING.format(most=MOST_OVERRIDES, restart=told),
        _PROFILES,
        *_profiles(),
        "",
        _ENVIRONMENT,
        *_names(),
        "",
    ]
    lines += ["## Keys", ""]
    for name, field in top_keys().items():
        lines += _key(name, field)
    for name, kind in kinds.items():
        lines += [f"### [{name}]" if not name.startswith("[") else f"### {name}", ""]
        lines += [inspect.cleandoc(kind.__doc__ or "").replace("\n", " ").replace("  ", "\n\n"), ""]
        prefix = "models." if kind is Model else f"{name}."
        for field in fields_of(kind).values():
            lines += _key(f"{prefix}{field.name}", field)
    lines += ["## Not in this release", ""]
    lines += ["Refused with a sentence that says so, because a key that is taken and does nothing is worse.", ""]
    lines += ["| key | will serve |", "| --- | --- |"]
    lines += [f"| `{name}` | {what} |" for name, what in NOT_YET.items()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _profiles() -> Iterator[str]:
    built_in = flatten(Config())
    yield "| profile | is | sets |"
    yield "| --- | --- | --- |"
    for name in PROFILES:
        *below, own = presets_of(name)
        sets = ", ".join(
            f"`{key} = {to_toml(value)}`" + ("" if built_in[key] != value else " (the default)")
            for key, value in flatten_raw(own.tables).items()
        )
        kind = "a level" if name in LEVELS else "a scenario"
        if below:
            kind += f" on the level `{below[-1].name}`"
        yield f"| `{name}` | {kind} | {sets} |"


def _names() -> Iterator[str]:
    yield "| name | sets |"
    yield "| --- | --- |"
    for variable, name in DOCUMENT_NAMES.items():
        told = f"`{name.key}` ({name.meaning})" if name.key else f"nothing: {name.why}."
        yield f"| `{variable}` | {' '.join(filter(None, (told, name.remedy)))} |"


def _key(name: str, field: Field) -> list[str]:
    default = "none" if field.required or field.default is None else f"`{to_toml(field.default)}`"
    told = [f"Default: {default}", *facts(field)]
    if field.about.guarded:
        told.append("Not overridden")
    lines = [f"#### `{name}`", "", f"{field.about.meaning} {field.about.effect}", "", f"{'. '.join(told)}."]
    if field.about.example and default == "none":
        lines += ["", f"For instance `{field.name} = {field.about.example}`."]
    return [*lines, ""]


if __name__ == "__main__":
    sys.stdout.write(reference())
