"""From the name of an operation and an input to a question: rendered, completed, and with its identity at both depths.

What an operation makes of an input is what its answers are kept under, so an edit of its template asks anew. Its prompt is laid
out for the prompt caches of providers, which know prompts by how they begin: the instructions first, as they are, then the
template's own constant beginning, then what changes.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from aiorch.errors import InvalidRequest, TooLarge, UnknownOperation
from aiorchd.calls.question import Question
from aiorchd.config.operations import Material
from aiorchd.config.prompt_template import PromptTemplate, TemplateError, as_text
from aiorchd.config.schema import Operation
from aiorchd.core.differences import Difference, differences
from aiorchd.core.input_paths import InputPath, find_at, parse_path, written
from aiorchd.core.normalise import NOISE_VERSION, NoiseRules, Normaliser, Told
from aiorchd.core.request_key import canonical

MOST_NORMALISED_BYTES: Final = 1024 * 1024
MOST_NORMALISED_VALUES: Final = 4000
"""Larger inputs are known by their exact key alone: to take the noise out of them (some 5 microseconds a value) would hold up
everybody else."""

_WHOLE_DOUBLES: Final = 2**53
_NAMES_SHOWN: Final = 10
_Limit = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an input. ``document`` is its id and version, None where the operation knows none. ``plain_request`` is
    the request that the input without its noise would make, None where no rule looks at it; ``plain_kind`` is the kind of
    its key, which has the rules: what other rules left over is another question, be it the same text.
    """

    question: Question
    document: tuple[Any, ...] | None
    plain_request: Mapping[str, Any] | None
    plain_kind: str


@dataclass(frozen=True, slots=True)
class Compared:
    """Two inputs beside each other: what was taken for noise in each, where they differ without it, and with it."""

    noise: Mapping[str, Sequence[Told]]
    differs: Sequence[Difference]
    differs_in_noise: Sequence[Difference]


class Operations:
    """The operations of one configuration. ``limit`` bounds the CPU that one template may take."""

    def __init__(self, operations: Mapping[str, Operation], materials: Mapping[str, Material], limit: _Limit) -> None:
        self._work = {
            name: _Work(name, operation, materials.get(name, Material()), limit)
            for name, operation in operations.items()
        }

    def make(self, question: Question) -> Made:
        """Make the question that an operation stands for. Raises `UnknownOperation`, `InvalidRequest` and `TooLarge`."""
        return self._find(question.operation or "").make(question)

    def compare(self, name: str, a: Any, b: Any) -> Compared:
        """Tell where two inputs differ, and what is noise in them. Raises `UnknownOperation` and `InvalidRequest`."""
        work = self._find(name)
        (plain_a, told_a), (plain_b, told_b) = work.noise(a), work.noise(b)
        return Compared(
            noise={"a": told_a, "b": told_b},
            differs=differences(plain_a, plain_b),
            differs_in_noise=differences(_with_whole_numbers(a), _with_whole_numbers(b)),
        )

    def _find(self, name: str) -> _Work:
        work = self._work.get(name)
        if work is None:
            shown = name if len(name) <= 100 else f"{name[:100]}…"
            near = difflib.get_close_matches(name[:100], self._work, n=1)
            if near:
                hint = f"did you mean {near[0]}?"
            elif self._work:
                hint = f"there are {', '.join(list(self._work)[:_NAMES_SHOWN])}"
            else:
                hint = "the configuration defines none ([operations.NAME])"
            raise UnknownOperation(f"operation: there is no operation {shown!r}; {hint}")
        return work


class _Work:
    """One operation."""

    def __init__(self, name: str, operation: Operation, material: Material, limit: _Limit) -> None:
        self._name = name
        self._operation = operation
        self._template: PromptTemplate | None = material.template
        self._schema = material.output_schema
        self._tools = material.tools
        self._limit = limit
        self._document: tuple[InputPath, ...] = tuple(
            parse_path(path) for path in (operation.document_id, operation.document_version) if path is not None
        )
        self._normaliser = Normaliser(_rules(operation, self._document))
        self._plain_kind = _plain_kind(operation)

    def make(self, question: Question) -> Made:
        operation = self._operation
        if question.model is not None and operation.models and question.model not in operation.models:
            raise InvalidRequest(
                f"model: the operation {self._name} allows {', '.join(operation.models)}, not {question.model[:100]!r}"
            )
        if question.host is not None and operation.models:
            raise InvalidRequest(
                f"host: the operation {self._name} asks {', '.join(operation.models)}, and nobody else"
            )
        size, values = _size(question.input)
        if size > operation.max_input_bytes:
            raise TooLarge(
                f"input: is {size} bytes large; the operation {self._name} takes {operation.max_input_bytes} "
                f"(operations.{self._name}.max_input_bytes)"
            )
        value = _with_whole_numbers(question.input)
        document = self._read_document(value)
        request = {**self._defaults(), **question.request, "messages": self._messages(self._render(value))}
        return Made(
            replace(
                question,
                request=request,
                input=None,
                task=question.task or operation.task,
                timeout_s=operation.timeout_s if question.timeout_s is None else question.timeout_s,
                keep_s=operation.cache_ttl_s,
                stale_s=operation.cache_stale_s,
                cache_samples=(operation.cache_samples if question.cache_samples is None else question.cache_samples),
                models=operation.models,
                tier=operation.cache,
                shared=operation.shared,
            ),
            document,
            self._plain_request(request, value) if _is_small(size, values) else None,
            self._plain_kind,
        )

    def noise(self, value: Any) -> tuple[Any, list[Told]]:
        value = _with_whole_numbers(value)
        told: list[Told] = []
        if not self._normaliser.applies(value) or not _is_small(*_size(value)):
            return value, told
        return self._normaliser.normalise(value, told=told), told

    def _defaults(self) -> dict[str, Any]:
        operation = self._operation
        found = {
            "temperature": operation.temperature,
            "max_tokens": operation.max_tokens,
            "output_schema": self._schema,
            "tools": self._tools,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _messages(self, prompt: str) -> list[dict[str, str]]:
        asked = [{"role": "user", "content": prompt}]
        return (
            asked if self._operation.system is None else [{"role": "system", "content": self._operation.system}, *asked]
        )

    def _render(self, value: Any) -> str:
        try:
            with self._limit():
                prompt = as_text(value) if self._template is None else self._template.render(value)
        except TemplateError as error:
            raise InvalidRequest(f"input: operations.{self._name}.template, {error}") from None
        except TimeoutError as error:
            raise InvalidRequest(f"input: operations.{self._name}.template takes {error} for it") from None
        if not prompt:
            raise InvalidRequest(f"input: the operation {self._name} makes an empty prompt of it")
        return prompt

    def _plain_request(self, request: Mapping[str, Any], value: Any) -> Mapping[str, Any] | None:
        normaliser = self._normaliser
        if not normaliser.applies(value):
            return None
        for leave_places in (False, True):
            try:
                with self._limit():
                    plain = normaliser.normalise(value, leave_places=leave_places)
                    prompt = as_text(plain) if self._template is None else self._template.render(plain)
            except (TemplateError, TimeoutError):
                continue  # what was taken out is wanted there: a mark in its place may do
            return {**request, "messages": self._messages(prompt)}
        return None

    def _read_document(self, value: Any) -> tuple[Any, ...] | None:
        if not self._document:
            return None
        found = []
        for path in self._document:
            there, one = find_at(value, path)
            if not there or one is None or isinstance(one, (dict, list)):
                what = "is missing" if not there or one is None else "must be text or a number"
                raise InvalidRequest(f"{written(path)}: {what}; the operation {self._name} knows documents by it")
            found.append(one)
        return tuple(found)


def _rules(operation: Operation, document: tuple[InputPath, ...]) -> NoiseRules:
    noise = operation.noise
    return NoiseRules(
        default="default" in noise,
        uuids="uuids" in noise,
        hashes="hashes" in noise,
        timestamps="timestamps" in noise,
        ids="ids" in noise,
        whitespace="whitespace" in noise,
        ignored=tuple(parse_path(path) for path in operation.cache_ignore),
        unordered=tuple(parse_path(path) for path in operation.cache_unordered),
        parameters=operation.cache_ignore_parameters,
        kept=document,
    )


def _plain_kind(operation: Operation) -> str:
    """Give what stands in the key of a question without its noise where the kind of the request does: docs/keys.md."""
    document = [path for path in (operation.document_id, operation.document_version) if path is not None]
    rules = [operation.noise, operation.cache_ignore, operation.cache_unordered, operation.cache_ignore_parameters]
    form = canonical([*(sorted(set(names)) for names in rules), document])
    return f"chat without noise {NOISE_VERSION} {form.decode('utf-8', 'surrogatepass')}"


def _is_small(size: int, values: int) -> bool:
    return size <= MOST_NORMALISED_BYTES and values <= MOST_NORMALISED_VALUES


def _size(value: Any) -> tuple[int, int]:
    """Tell how long a value is as JSON, in bytes, and about how many values are in it."""
    if isinstance(value, str):
        values = value.count(",") + 1 if value[:64].lstrip()[:1] in ("{", "[") else 1
        return (len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))), values
    try:
        # Control characters are escaped in texts, so what separates the values can be counted.
        text = json.dumps(value, ensure_ascii=False, separators=("\x1e", ":"))
        return len(text.encode("utf-8", "surrogatepass")), text.count("\x1e") + 1
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("input: must be text, numbers, booleans, lists and maps") from None


def _with_whole_numbers(value: Any) -> Any:
    """Write numbers in one form: some languages have no integers, and 2.0 is 2 there."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_DOUBLES:
        return int(value)
    if isinstance(value, dict):
        return {name: _with_whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(one) for one in value]
    return value
