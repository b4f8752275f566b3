"""One file and what lies below and above it, turned into a whole configuration, or into everything that is wrong with it.

Built-in, profile, file, environment, override: the later layer wins, key by key. The same code serves the daemon's start,
its reloads and overrides, and `aiorchctl config` offline.
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
from aiorchd.config.environment import overlay, read_names
from aiorchd.config.findings import ENVIRONMENT, OVERRIDE, Findings, Origin
from aiorchd.config.lines import Lines, find_lines
from aiorchd.config.lines import Path as KeyPath
from aiorchd.config.operations import NOTHING, Material, furnish
from aiorchd.config.overrides import NO_OVERRIDES, Overrides, lay
from aiorchd.config.presets import PROFILES, Preset, presets_of
from aiorchd.config.problems import ConfigError, Problem, dotted
from aiorchd.config.reading import read_guarded
from aiorchd.config.records import make_records
from aiorchd.config.schema import Config, Model, Provider
from aiorchd.config.tables import laid_over, paths_of

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
    """Where values came from: ``built-in``, ``profile``, ``file``, ``environment`` or ``override``, and the dotted keys it
    sets, in plain data.

    Later layers win. ``source`` is the path of a file, the name of a profile, and empty otherwise.
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
    interrupted write than a wish. ``warnings`` are for the log and `status`. ``content`` is the file as it was read, so
    that an override can be laid over what is in force whatever became of the file since; ``overrides`` are those in it.
    """

    config: Config
    path: Path | None
    fingerprint: str
    simulated: bool = False
    empty: bool = False
    warnings: tuple[Problem, ...] = ()
    layers: tuple[Layer, ...] = field(default=())
    content: bytes = field(default=b"", repr=False)
    overrides: Overrides = field(default_factory=lambda: NO_OVERRIDES)
    materials: Mapping[str, Material] = field(default_factory=lambda: NOTHING, repr=False)
    """By operation: its compiled template and its schema."""


def load(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    owners: frozenset[int] | None = None,
    overrides: Overrides = NO_OVERRIDES,
    before: Mapping[str, Material] = NOTHING,
) -> Loaded:
    """Read, check and complete a configuration; None stands for the built-in one, over which the environment still goes.

    ``owners`` are the users, besides root, to whom the file may belong: this process's own unless told otherwise.
    ``before`` is what operations were made of so far, so that nothing is compiled twice.
    Reads files and asks the user database: call it in a thread. Raises `ConfigError` and nothing else, whatever the
    file holds.
    """
    if path is None:
        return load_text(b"", None, environ, overrides=overrides)
    content = read_guarded(path, frozenset({os.geteuid()}) if owners is None else owners)
    return load_text(content, path, environ, owners=owners, overrides=overrides, before=before)


def load_text(
    content: bytes,
    path: Path | None,
    environ: Mapping[str, str],
    *,
    owners: frozenset[int] | None = None,
    overrides: Overrides = NO_OVERRIDES,
    before: Mapping[str, Material] = NOTHING,
) -> Loaded:
    """Do the same with content that was read already, or is about to be written to ``path``."""
    fingerprint = _fingerprint(content, environ, overrides)
    furnishing = _Furnishing(frozenset({os.geteuid()}) if owners is None else owners, before)
    if path is None:
        return _accept(_Read(None, b"", {}, find_lines(""), fingerprint), environ, overrides, furnishing)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        so_far = content[: error.start]
        line, column = so_far.count(b"\n") + 1, error.start - (so_far.rfind(b"\n") + 1) + 1
        sentence = f"byte 0x{content[error.start]:02x} is not UTF-8."
        raise ConfigError(
            [Problem(str(path), "", line, sentence, "Save the file as UTF-8.", column)], fingerprint=fingerprint
        ) from None
    raw = _parse(text, path, fingerprint)
    return _accept(_Read(path, content, raw, find_lines(text), fingerprint), environ, overrides, furnishing)


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as far as it could be read without knowing what it means."""

    path: Path | None
    content: bytes
    raw: Mapping[str, Any]
    lines: Lines
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Furnishing:
    """To whom files of operations may belong, and what operations were made of so far."""

    owners: frozenset[int]
    before: Mapping[str, Material]


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


def _accept(read: _Read, environ: Mapping[str, str], overrides: Overrides, furnishing: _Furnishing) -> Loaded:
    surrounded = overlay(read.raw, environ)
    laid = lay(surrounded.raw, overrides)
    presets = _presets(laid.raw.get("profile"))
    raw: dict[str, Any] = {}
    origins: dict[KeyPath, Origin] = {}
    for preset in presets:
        raw = laid_over(raw, preset.tables)
        origins |= {path: Origin(f"profile {preset.name}", dotted(path)) for path in paths_of(preset.tables)}
    for path in paths_of(laid.raw):  # what the file says itself is the file's
        origins.pop(path, None)
    raw = laid_over(raw, laid.raw)
    origins |= surrounded.origins
    origins |= laid.origins
    findings = Findings("" if read.path is None else str(read.path), read.lines, origins)
    for variable, sentence, remedy in surrounded.misfits:
        findings.wrong_variable(variable, sentence, remedy)
    for variable, sentence, remedy in surrounded.doubts:
        findings.doubtful_at(Origin(ENVIRONMENT, variable), sentence, remedy)
    for key in laid.left_out:
        findings.doubtful_at(Origin(OVERRIDE, key), "is passed over: there is no such model any more.")
    records = make_records(raw, findings)
    check(records, findings)
    _doubt_hidden(read, {**surrounded.origins, **laid.origins}, findings)
    materials = furnish(records, findings, path=read.path, owners=furnishing.owners, before=furnishing.before)
    problems = findings.problems()
    if problems:
        raise ConfigError(problems, fingerprint=read.fingerprint)
    config = records.config()
    simulated = not config.providers and not config.models
    if simulated:
        config = with_embedded_model(config)
    layers = [Layer("built-in", "", flatten(Config()))]
    layers += [Layer("profile", preset.name, flatten_raw(preset.tables)) for preset in presets]
    if read.path is not None:
        layers.append(Layer("file", str(read.path), flatten_raw(read.raw)))
    if surrounded.values:
        layers.append(Layer("environment", "", _dotted(surrounded.values)))
    if laid.values:
        layers.append(Layer("override", "", _dotted(laid.values)))
    return Loaded(
        config=config,
        path=read.path,
        fingerprint=_with_files(read.fingerprint, materials),
        simulated=simulated,
        empty=read.path is not None and not read.raw,
        warnings=findings.warnings(),
        layers=tuple(layers),
        content=read.content,
        overrides=overrides,
        materials=materials,
    )


def _doubt_hidden(read: _Read, over: Mapping[KeyPath, Origin], findings: Findings) -> None:
    """Warn of what is wrong in the file and goes unnoticed, because something above the file says otherwise: it will be
    refused on the day when that is taken away."""
    if read.path is None or not over:
        return
    alone = Findings(str(read.path), read.lines, {})
    make_records(read.raw, alone)
    hiding = {dotted(path): origin for path, origin in over.items()}
    for problem in alone.problems():
        origin = next(
            (
                origin
                for key, origin in hiding.items()
                if problem.key == key or problem.key.startswith((f"{key}.", f"{key}["))
            ),
            None,
        )
        if origin is not None:
            findings.doubtful_still(problem, f"Without {origin.place} {origin.name}, which hides it, it is refused.")


def _presets(name: Any) -> tuple[Preset, ...]:
    """Find what a profile sets; nothing for a name that there is not, which is told where it is written."""
    return presets_of(name) if isinstance(name, str) and name in PROFILES else ()


def _dotted(values: Mapping[KeyPath, Any]) -> dict[str, Any]:
    return {dotted(path): value for path, value in values.items()}


def with_embedded_model(config: Config) -> Config:
    """Complete a configuration that names neither providers nor models with the embedded simulated ones."""
    parts = {name: getattr(config, name) for name in config.__struct_fields__}
    parts["providers"] = {EMBEDDED: Provider(dialect="simulated")}
    parts["models"] = (Model(name=EMBEDDED, provider=EMBEDDED, input_usd_per_1m=0.0, output_usd_per_1m=0.0),)
    return Config(**parts)


def _with_files(fingerprint: str, materials: Mapping[str, Material]) -> str:
    """Let the files beside the TOML count as parts of it."""
    marks = [file.mark for material in materials.values() for file in material.files]
    return hashlib.sha256(" ".join((fingerprint, *marks)).encode()).hexdigest()[:32] if marks else fingerprint


def _fingerprint(content: bytes, environ: Mapping[str, str], overrides: Overrides) -> str:
    digest = hashlib.sha256(content)
    for name in read_names(environ):
        digest.update(f"\0{name}={environ[name]}".encode("utf-8", "surrogateescape"))
    for path, value in overrides.items():
        digest.update(f"\0{path!r}={value!r}".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:32]
