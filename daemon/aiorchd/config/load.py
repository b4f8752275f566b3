"""One file and the environment, turned into a whole configuration, or into everything that is wrong with them.

The same code serves the daemon's start, its reloads, and `aiorchctl config check` offline.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiorchd.config.checks import check
from aiorchd.config.compare import flatten, flatten_raw
from aiorchd.config.environment import Overlay, overlay
from aiorchd.config.findings import Findings
from aiorchd.config.lines import Lines, find_lines
from aiorchd.config.problems import ConfigError, Problem
from aiorchd.config.reading import read_guarded
from aiorchd.config.records import make_records
from aiorchd.config.schema import Config, Model, Provider

EMBEDDED: Final = "simulated"
"""Name of the provider and of the model that answer when none is configured."""

_DEEPEST: Final = 32
_DEEP_KEY = re.compile(
    rf"""(?mx) (?: ^ | [\[{{,] ) [ \t]*
    (?: (?: [A-Za-z0-9_-]+ | "(?:[^"\\\n]|\\.)*" | '[^'\n]*' ) [ \t]* \. [ \t]* ){{{_DEEPEST}}}"""
)
_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\Z")


@dataclass(frozen=True, slots=True)
class Layer:
    """Where values came from: ``built-in``, ``file`` or ``environment``, and the dotted keys it sets, in plain data.

    Later layers win. ``source`` is the path of a file and empty otherwise.
    """

    name: str
    source: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """An accepted configuration.

    ``path`` is None for the built-in one. ``fingerprint`` is that of everything that was read: equal fingerprints need
    no second look. ``simulated`` says that neither providers nor models were configured, so that the embedded simulated
    model serves. ``empty`` says that a file was read and sets nothing, which in a running daemon is more likely an
    interrupted write than a wish. ``warnings`` are for the log and `status`.
    """

    config: Config
    path: Path | None
    fingerprint: str
    simulated: bool = False
    empty: bool = False
    warnings: tuple[Problem, ...] = ()
    layers: tuple[Layer, ...] = field(default=())


def load(path: Path | None, environ: Mapping[str, str], *, owners: frozenset[int] | None = None) -> Loaded:
    """Read, check and complete a configuration; None stands for the built-in one, over which the environment still goes.

    ``owners`` are the users, besides root, to whom the file may belong: this process's own unless told otherwise.
    Reads files and asks the user database: call it in a thread. Raises `ConfigError` and nothing else, whatever the
    file holds.
    """
    if path is None:
        return _accept(None, {}, find_lines(""), environ, _fingerprint(b"", environ))
    content = read_guarded(path, frozenset({os.geteuid()}) if owners is None else owners)
    return load_text(content, path, environ)


def load_text(content: bytes, path: Path, environ: Mapping[str, str]) -> Loaded:
    """Do the same with content that was read already, or is about to be written to ``path``."""
    fingerprint = _fingerprint(content, environ)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        sentence = f"byte 0x{content[error.start]:02x} is not UTF-8."
        raise ConfigError(
            [Problem(str(path), "", line, sentence, "Save the file as UTF-8.", column)], fingerprint=fingerprint
        ) from None
    raw = _parse(text, path, fingerprint)
    return _accept(path, raw, find_lines(text), environ, fingerprint)


def _parse(text: str, path: Path, fingerprint: str) -> dict[str, Any]:
    deep = _DEEP_KEY.search(text)
    if deep is not None:  # tomllib takes memory by the square of a key's parts
        raise _too_deep(path, fingerprint, text.count("\n", 0, deep.start()) + 1)
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(path, fingerprint) from None
    except ValueError as error:  # TOMLDecodeError, and what int() and date() say of absurd values
        told = str(error)
        position = _POSITION.search(told)
        line = column = None
        if position is not None:
            told = told[: position.start()]
            line = int(position[1]) if position[1] else text.count("\n") + 1
            column = int(position[2]) if position[2] else None
        raise ConfigError(
            [Problem(str(path), "", line, f"is not TOML: {told}.", column=column)], fingerprint=fingerprint
        ) from None
    if _is_deeper(raw, _DEEPEST):
        raise _too_deep(path, fingerprint)
    return raw


def _too_deep(path: Path, fingerprint: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(str(path), "", line, "tables or lists are nested too deep.")], fingerprint=fingerprint)


def _is_deeper(raw: dict[str, Any], deepest: int) -> bool:
    """Measure nesting level by level: whoever walks the tables later may then recurse."""
    level: list[Any] = [raw]
    for _ in range(deepest):
        below: list[Any] = []
        for one in level:
            below.extend(
                each for each in (one.values() if isinstance(one, dict) else one) if isinstance(each, dict | list)
            )
        if not below:
            return False
        level = below
    return True


def _accept(
    path: Path | None, raw: dict[str, Any], lines: Lines, environ: Mapping[str, str], fingerprint: str
) -> Loaded:
    laid = overlay(raw, environ)
    findings = Findings("" if path is None else str(path), lines, laid.origins)
    for variable, sentence, remedy in laid.misfits:
        findings.wrong_variable(variable, sentence, remedy)
    records = make_records(laid.raw, findings)
    check(records, findings)
    problems = findings.problems()
    if problems:
        raise ConfigError(problems, fingerprint=fingerprint)
    config = records.config()
    simulated = not config.providers and not config.models
    if simulated:
        config = with_embedded_model(config)
    return Loaded(
        config=config,
        path=path,
        fingerprint=fingerprint,
        simulated=simulated,
        empty=path is not None and not raw,
        warnings=findings.warnings(),
        layers=_layers(path, raw, laid),
    )


def with_embedded_model(config: Config) -> Config:
    """Complete a configuration that names neither providers nor models with the embedded simulated ones."""
    parts = {name: getattr(config, name) for name in config.__struct_fields__}
    parts["providers"] = {EMBEDDED: Provider(dialect="simulated")}
    parts["models"] = (Model(name=EMBEDDED, provider=EMBEDDED, input_usd_per_1m=0.0, output_usd_per_1m=0.0),)
    return Config(**parts)


def _layers(path: Path | None, raw: Mapping[str, Any], laid: Overlay) -> tuple[Layer, ...]:
    found = [Layer("built-in", "", flatten(Config()))]
    if path is not None:
        found.append(Layer("file", str(path), flatten_raw(raw)))
    if laid.values:
        tables: dict[str, Any] = {}
        for place, value in laid.values.items():
            table = tables
            for part in place[:-1]:
                table = table.setdefault(str(part), {})
            table[str(place[-1])] = value
        found.append(Layer("environment", "", flatten_raw(tables)))
    return tuple(found)


def _fingerprint(content: bytes, environ: Mapping[str, str]) -> str:
    digest = hashlib.sha256(content)
    for name in sorted(environ):
        if name.startswith("AIORCH__"):
            digest.update(f"\0{name}={environ[name]}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]
