"""Whether the operations of a configuration fit together, and what they are made of besides their keys: the compiled template,
and the schema out of its file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final

from aiorchd.config.findings import Findings
from aiorchd.config.lines import Path
from aiorchd.config.problems import ConfigError, did_you_mean, show
from aiorchd.config.prompt_template import PromptTemplate, TemplateError
from aiorchd.config.reading import read_guarded
from aiorchd.config.records import Records
from aiorchd.config.schema import Operation

_PATH: Final = re.compile(r'input(\.\*{1,2}|\.[^\s.\[\]"*]+|\[\d{1,9}\]|\[\*\]|\["(?:[^"\\]|\\.)*"\])+')
"""The same as `core.input_paths` reads."""

_LATE_SHARE: Final = 0.5
_LONG_CHARACTERS: Final = 4000


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that a key names; ``mark`` changes with its content."""

    key: str
    path: FilePath
    mark: str


@dataclass(frozen=True, slots=True)
class Material:
    """What one operation is made of; None where there is none. ``files`` are those it was read from."""

    template: PromptTemplate | None = None
    output_schema: Any = None
    tools: list[Any] | None = None
    files: tuple[ReadFile, ...] = ()


NOTHING: Final[Mapping[str, Material]] = MappingProxyType({})


def furnish(
    records: Records,
    findings: Findings,
    *,
    path: FilePath | None,
    owners: frozenset[int],
    before: Mapping[str, Material] = NOTHING,
) -> dict[str, Material]:
    """Check every operation and give what it is made of; templates that are the same as ``before`` are not compiled again.

    ``path`` is the TOML, beside which schemas stand. Reads files: not for the loop.
    """
    known = {
        material.template.source: material.template for material in before.values() if material.template is not None
    }
    made: dict[str, Material] = {}
    for name, operation in records.operations.items():
        at: Path = ("operations", name)
        _models(at, operation, records, findings)
        _paths(at, operation, findings)
        template = _template(at, operation, known, findings)
        files: list[ReadFile] = []
        read = partial(_read, path=path, owners=owners, files=files, findings=findings)
        schema = read((*at, "output_schema"), operation.output_schema)
        if schema is not None and not isinstance(schema, (dict, bool)):
            findings.wrong((*at, "output_schema"), f"a JSON Schema is a map, not {show(schema)}.")
        tools = read((*at, "tools"), operation.tools)
        if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
            findings.wrong((*at, "tools"), f"must be a list of maps, one for each tool, not {show(tools)}.")
        made[name] = Material(template, schema, tools or None, tuple(files))
    return made


def mark_of(content: bytes) -> str:
    """Give what changes with the content of a file."""
    return sha256(content).hexdigest()[:32]


def _models(at: Path, operation: Operation, records: Records, findings: Findings) -> None:
    enabled = {model.name: model.enabled for _, model in records.models}
    seen: set[str] = set()
    for number, name in enumerate(operation.models):
        here: Path = (*at, "models", number)
        if name in seen:
            findings.wrong(here, f"{show(name)} is named twice.")
        seen.add(name)
        if name not in enabled:
            if records.all_models:
                findings.wrong(here, f"there is no model {show(name)}.", did_you_mean(name, enabled))
        elif not enabled[name]:
            findings.doubtful(here, f"the model {show(name)} is not enabled and will be passed over.")


def _paths(at: Path, operation: Operation, findings: Findings) -> None:
    for key in ("cache_ignore", "cache_unordered"):
        for number, text in enumerate(getattr(operation, key)):
            if not _PATH.fullmatch(text):
                findings.wrong(
                    (*at, key, number), f"{show(text)} is no path into the input.", "Write for instance input.a.b"
                )
    for key in ("document_id", "document_version"):
        path = getattr(operation, key)
        if path is not None and (not _PATH.fullmatch(path) or "*" in path):
            findings.wrong(
                (*at, key), f"{show(path)} is no path of one place in the input.", "Write for instance input.id"
            )
    if operation.document_version is not None and operation.document_id is None:
        findings.wrong((*at, "document_version"), "has no document_id beside it.")


def _template(
    at: Path, operation: Operation, known: Mapping[str, PromptTemplate], findings: Findings
) -> PromptTemplate | None:
    source = operation.template
    if source is None:
        return None
    template = known.get(source)
    if template is None:
        try:
            template = PromptTemplate(source)
        except TemplateError as error:
            findings.wrong((*at, "template"), str(error))
            return None
    if len(source) >= _LONG_CHARACTERS and template.constant_share < _LATE_SHARE:
        findings.doubtful(
            (*at, "template"),
            "most of its text that never changes comes after what does, where providers cannot cache it.",
            "Put the input last.",
        )
    return template


def _read(
    here: Path,
    written: Any,
    *,
    path: FilePath | None,
    owners: frozenset[int],
    files: list[ReadFile],
    findings: Findings,
) -> Any:
    """Give what a key says, out of the JSON file that it names if it names one; None for nothing, and for what is wrong."""
    if isinstance(written, Mapping):
        return dict(written)
    if written is None or not isinstance(written, str):
        return None if written is None else [dict(one) for one in written]
    file = FilePath(written)
    if not file.is_absolute():
        if path is None:
            findings.wrong(here, "there is no file that it could be beside.", "Write the whole path.")
            return None
        file = path.parent / file
    try:
        content = read_guarded(file, owners)
        value = json.loads(content)
    except ConfigError as error:
        (problem,) = error.problems
        findings.wrong(here, f"{file}: {problem.sentence}", "" if "--config" in problem.remedy else problem.remedy)
        return None
    except RecursionError:
        findings.wrong(here, f"{file}: is nested too deep.")
        return None
    except ValueError as error:
        findings.wrong(here, f"{file}: is not JSON: {error}.")
        return None
    files.append(ReadFile(str(here[-1]), file, mark_of(content)))
    return value
