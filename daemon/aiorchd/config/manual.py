"""`config/aiorch.toml`: every key at its default with its meaning, written from the schema.

``make docs`` makes it anew; a test holds the two together.
"""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from aiorchd.config.key import Field, bounds, fields_of
from aiorchd.config.schema import CallerTable, Model, Operation, Provider, Section, sections, top_keys

_WIDTH: Final = 100

_OPENING: Final = """\
aiorch: every key, at its default.

A running daemon reads this file again when it is saved: most keys take effect at once, without a call being lost; those \
that wait for a restart say so. A file with a mistake changes nothing; `aiorchctl config check` and `aiorchctl status` \
tell what is wrong with it, all at once and by line. Keep only what you change: what is left out has the default shown \
here. `aiorchctl init` makes a first file of your own.

Keys end in their unit: _s is seconds, _bytes bytes, _usd US dollars. Secrets are never in this file. In the environment \
of the daemon, AIORCH__SECTION__KEY sets a key over the file; `aiorchctl config diff` shows what came from where.

Editors that know JSON Schema complete and check it: `aiorchctl config schema -o aiorch.schema.json`, and in the first \
line of your file `#:schema ./aiorch.schema.json`.

Without a provider and a model, a simulated model answers: see the end of the file.
"""


def manual() -> str:
    """Write the whole file."""
    lines = [*_comment(_OPENING), ""]
    for field in top_keys().values():
        lines += _key(field, active=True)
    for name, kind in sections().items():
        lines += _section(f"[{name}]", kind, active=True)
    lines += _section("[providers.main]", Provider, active=False)
    lines += _section('[callers."web.service"]', CallerTable, active=False)
    lines += _section("[operations.tag_page]", Operation, active=False)
    lines += _section("[[models]]", Model, active=False)
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(header: str, kind: type[Section], *, active: bool) -> Iterator[str]:
    """Write one table; one that is only an example has its header and keys behind ``#`` without a space."""
    yield ""
    yield "# " + "-" * (_WIDTH - 2)
    yield from _comment(inspect.cleandoc(kind.__doc__ or ""))
    yield header if active else f"#{header}"
    for field in fields_of(kind).values():
        yield from _key(field, active=active)


def _key(field: Field, *, active: bool) -> Iterator[str]:
    yield ""
    yield from _comment(f"{field.about.meaning} {field.about.effect}")
    yield from _comment(" ".join(f"{fact}." for fact in facts(field)))
    yield _line(field, active=active)


def facts(field: Field) -> list[str]:
    """Say unit, bounds, choices, and when a change takes effect, each in a few words."""
    found = [field.about.unit[:1].upper() + field.about.unit[1:]] if field.about.unit else []
    found += [" or ".join(f'"{choice}"' for choice in field.choices())] if field.choices() else []
    found += [text[:1].upper() + text[1:] for text in _numbers(field.type_info)]
    found += ["Needed"] if field.required else []
    return [*found, "Live" if field.about.live else "Needs a restart"]


def _numbers(shape: msgspec.inspect.Type) -> list[str]:
    """Find the bounds of a number, or of the numbers in a list."""
    kinds = msgspec.inspect
    if isinstance(shape, kinds.Metadata):
        return _numbers(shape.type)
    if isinstance(shape, kinds.IntType | kinds.FloatType):
        return [bounds(shape).strip()]
    if isinstance(shape, kinds.VarTupleType) and isinstance(shape.item_type, kinds.FloatType | kinds.Metadata):
        return [f"each {text}" for text in _numbers(shape.item_type)]
    if isinstance(shape, kinds.UnionType) and shape.includes_none:
        return [text for one in shape.types for text in _numbers(one)]
    return []


def _line(field: Field, *, active: bool) -> str:
    """Write ``key = default``, or the example where there is no default, which is never active."""
    has_default = not field.required and field.default is not None
    value = to_toml(field.default) if has_default and (active or not field.about.example) else field.about.example
    return f"{'' if active and has_default else '#'}{field.name} = {value}"


def to_toml(value: Any) -> str:
    """Write a value of the schema as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {to_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ", ".join(to_toml(one) for one in value) + "]"
    raise TypeError(f"no TOML for {type(value).__name__}")


def _comment(text: str) -> Iterator[str]:
    """Set prose as comment lines; empty lines part paragraphs, other line breaks say nothing."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield "#"
        yield from textwrap.wrap(
            " ".join(paragraph.split()),
            _WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_long_words=False,
            break_on_hyphens=False,
        )


if __name__ == "__main__":
    sys.stdout.write(manual())
