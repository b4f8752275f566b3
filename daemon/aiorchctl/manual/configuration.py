"""aiorch.toml(5), out of the schema."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from aiorchctl.manual.page import Block, Heading, Lines, ManualPage, Prose, Terms
from aiorchd.config.compare import flatten_raw
from aiorchd.config.document_names import DOCUMENT_NAMES
from aiorchd.config.key import Field, fields_of
from aiorchd.config.manual import facts, to_toml
from aiorchd.config.presets import LEVELS, PROFILES, presets_of
from aiorchd.config.schema import CallerTable, Model, Operation, Provider, Section, sections, top_keys

_TEXT = """\
One TOML file says everything. `aiorchd` reads it at start and again whenever it is saved, at `SIGHUP`, and at
`aiorchctl config reload`. A file with a mistake changes nothing: the last good one stays in force, and
`aiorchctl config check` and `aiorchctl status` tell all that is wrong with it, by key and line.

What is left out has its default, which is shown here. Keys end in their unit: `_s` is seconds, `_bytes` bytes, `_usd` US
dollars. Secrets are never in this file. Only its owner, root or the user of the daemon, may be able to write it.

Later layers win, key by key: built-in, profile, file, environment, override. `aiorchctl config diff` shows them side by
side. `aiorchctl config set` and `use` change the file, `aiorchctl config override` goes over it until it is reset or the
daemon ends.
"""


def aiorch_toml() -> ManualPage:
    """Make the page of the configuration file."""
    return ManualPage(
        name="aiorch.toml",
        section=5,
        purpose="the configuration of aiorchd",
        blocks=(
            Heading("Synopsis"),
            Lines(("$XDG_CONFIG_HOME/aiorch/aiorch.toml", "~/.config/aiorch/aiorch.toml", "/etc/aiorch/aiorch.toml")),
            Heading("Description"),
            *map(Prose, _TEXT.split("\n\n")),
            Heading("Keys"),
            Terms([_key(field) for field in top_keys().values()]),
            *_sections(),
            Heading("Profiles"),
            Prose('`profile = "…"` sets these keys below the file: what the file says itself wins.'),
            Terms([_profile(name) for name in PROFILES]),
            Heading("Environment"),
            Prose(
                "`AIORCH__SECTION__KEY` in the environment of the daemon sets one key over the file: `AIORCH__CACHE__TTL_S=60`, "
                "`AIORCH__RETRY__BACKOFF_S=0.1,0.2`, `AIORCH__PROVIDERS__MAIN__HTTP2=true`. The names of the guides that "
                "aiorch takes the place of are understood too, below those and above the file:"
            ),
            Terms([(variable, _meaning(variable)) for variable in DOCUMENT_NAMES]),
            Heading("Examples"),
            Prose("The smallest that asks a provider:"),
            Lines(
                (
                    "[providers.main]",
                    'base_url = "https://api.openai.com/v1"',
                    'api_key_env = "OPENAI_API_KEY"',
                    "",
                    "[[models]]",
                    'name = "gpt-4o-mini"',
                    'provider = "main"',
                )
            ),
            Heading("See also"),
            Prose("aiorchd(8), aiorchctl(1)"),
        ),
    )


def _sections() -> Iterator[Block]:
    kinds: dict[str, type[Section]] = {
        **{f"[{name}]": kind for name, kind in sections().items()},
        "[providers.NAME]": Provider,
        "[callers.NAME]": CallerTable,
        "[operations.NAME]": Operation,
        "[[models]]": Model,
    }
    for header, kind in kinds.items():
        yield Heading(header, 2)
        for paragraph in inspect.cleandoc(kind.__doc__ or "").split("\n\n"):
            yield Prose(paragraph)
        yield Terms([_key(field) for field in fields_of(kind).values()])


def _key(field: Field) -> tuple[str, str]:
    has_default = not field.required and field.default is not None
    term = f"{field.name} = {to_toml(field.default)}" if has_default else field.name
    told = [field.about.meaning, field.about.effect, *(f"{fact}." for fact in facts(field))]
    if not has_default and field.about.example:
        told.append(f"For instance `{field.about.example}`.")
    return term, " ".join(told)


def _profile(name: str) -> tuple[str, str]:
    *below, own = presets_of(name)
    sets = ", ".join(f"`{key} = {to_toml(value)}`" for key, value in flatten_raw(own.tables).items())
    kind = "A level" if name in LEVELS else "A scenario"
    return name, f"{kind}{f' on the level {below[-1].name}' if below else ''}: {sets}."


def _meaning(variable: str) -> str:
    name = DOCUMENT_NAMES[variable]
    if name.key:
        return f"`{name.key}`: {name.meaning}. {name.remedy}"
    return f"Sets nothing: {name.why}. {name.remedy}"
