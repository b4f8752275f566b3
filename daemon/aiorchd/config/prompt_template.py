"""A template of a prompt: jinja2 over ``input``, compiled once, without files, chance or anything of this process.

The same input gives the same text, always: what a template renders to is what its answers are kept under. So there are no
``random`` and ``lipsum``, maps go by the order of their names where they are written out, and a name that is not in the input
is an error that says where, never an empty place in a prompt. ``{{ input.x }}`` of a map prefers the map's own member to a
method of that name; text goes in as it is, anything else as JSON.

jinja2 is imported when the first template is made: a daemon without operations neither waits for it nor holds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

MOST_CHARACTERS: Final = 16 * 1024 * 1024
"""A prompt that is longer is refused; nobody takes one."""

_VARIABLE: Final = "input"
_FORBIDDEN_FILTERS: Final = ("random", "pprint", "xmlattr")
_LONGEST_PATH: Final = 200


class TemplateError(ValueError):
    """A template that is none, or an input that it cannot be filled with. ``line`` is that in the template, if known."""

    def __init__(self, sentence: str, line: int | None = None) -> None:
        super().__init__(sentence if line is None else f"line {line} of the template: {sentence}")
        self.line = line


class PromptTemplate:
    """One compiled template. Raises `TemplateError` for one that jinja2 does not take or that wants more than ``input``."""

    def __init__(self, source: str) -> None:
        from jinja2 import TemplateSyntaxError

        environment = _environment()
        try:
            tree = environment.parse(source)
            _check(tree)
            self._template = environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise TemplateError(f"{(error.message or 'is not a template').rstrip('.')}.", error.lineno) from None
        except RecursionError:
            raise TemplateError("is nested too deep.") from None
        self.source = source
        self.constant_share = _constant_share(tree)
        """How much of its own text comes before the first place that is filled in, 0 to 1."""

    def render(self, value: Any) -> str:
        """Fill in ``value`` as ``input``. Raises `TemplateError`, naming the place in the input where something is missing; of
        what is there, it quotes nothing.
        """
        from jinja2 import TemplateError as JinjaError

        try:
            text = self._template.render(input=value)
        except _MissingError as error:
            raise TemplateError(f"{_place(value, error.holder, error.name)} is missing.", _line(error)) from None
        except JinjaError as error:
            raise TemplateError(f"cannot be filled in: {type(error).__name__}.", _line(error)) from None
        except TypeError as error:
            raise TemplateError(f"cannot be filled in: {error}.", _line(error)) from None
        except (ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError) as error:
            raise TemplateError(f"cannot be filled in: {type(error).__name__}.", _line(error)) from None
        if len(text) > MOST_CHARACTERS:
            raise TemplateError(f"makes a prompt of {len(text)} characters; the most is {MOST_CHARACTERS}.")
        return text


class _MissingError(Exception):
    """Something that the template wants is not there."""

    def __init__(self, holder: Any, name: Any) -> None:
        super().__init__()
        self.holder = holder
        self.name = name


def as_text(value: Any) -> str:
    """Write a value of an input as text: text as it is, anything else as JSON, maps by the order of their names."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError):
        raise TypeError("a method or something else that is no data stands where a value should") from None


def _environment() -> Environment:
    from jinja2 import StrictUndefined
    from jinja2.runtime import Undefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Missing(StrictUndefined):
        __slots__ = ()

        def __init__(self, hint: str | None = None, obj: Any = None, name: Any = None, exc: Any = None) -> None:  # noqa: ARG002
            super().__init__(hint, obj, name, lambda _: _MissingError(obj, name))  # type: ignore[arg-type]

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("*", "**"))

        def getattr(self, obj: Any, attribute: str) -> Any:
            if type(obj) is dict and attribute in obj:
                return obj[attribute]
            return super().getattr(obj, attribute)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                raise TypeError("powers have no place in a prompt")
            for many, count in ((left, right), (right, left)):
                if (
                    isinstance(many, (str, list, tuple))
                    and isinstance(count, int)
                    and len(many) * count > MOST_CHARACTERS
                ):
                    raise TypeError("something is repeated too often")
            return super().call_binop(context, operator, left, right)

    def written(value: Any) -> Any:
        return value if isinstance(value, (str, Undefined)) else as_text(value)

    environment = Sandbox(
        undefined=Missing, autoescape=False, keep_trailing_newline=True, finalize=written, cache_size=0, loader=None
    )
    environment.globals = {name: environment.globals[name] for name in ("range", "dict", "namespace")}
    for name in _FORBIDDEN_FILTERS:
        del environment.filters[name]
    environment.filters["tojson"] = _tojson
    return environment


def _tojson(value: Any, indent: int | None = None) -> str:
    """Write JSON for a model to read: nothing is escaped for HTML."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent)


def _check(tree: nodes.Template) -> None:
    from jinja2 import meta, nodes

    reading = next(tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)), None)
    if reading is not None:
        raise TemplateError("templates read no files: include, import and extends have no place here.", reading.lineno)
    for name in sorted(meta.find_undeclared_variables(tree) - {_VARIABLE, "range", "dict", "namespace"}):
        line = next((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), None)
        raise TemplateError(f'there is no variable "{name[:60]}": what is filled in is called input.', line)


def _constant_share(tree: nodes.Template) -> float:
    from jinja2 import nodes

    before = after = 0
    filled = False
    for statement in tree.body:
        for part in statement.nodes if isinstance(statement, nodes.Output) else (statement,):
            if isinstance(part, nodes.TemplateData):
                before, after = (before, after + len(part.data)) if filled else (before + len(part.data), after)
            else:
                filled = True
                after += sum(len(data.data) for data in part.find_all(nodes.TemplateData))
    return before / (before + after) if before + after else 1.0


def _place(value: Any, holder: Any, name: Any) -> str:
    """Find by identity where in the input the holder of what is missing is."""
    found = next((path for path, one in _places(value) if one is holder), None)
    if found is None:
        return f"something called {str(name)[:60]!r}"
    return f"{found}[{name}]" if isinstance(name, int) else f"{found}.{str(name)[:60]}"


def _places(value: Any) -> Iterator[tuple[str, Any]]:
    waiting = [(_VARIABLE, value)]
    while waiting:
        path, one = waiting.pop()
        yield path, one
        if len(path) > _LONGEST_PATH:
            continue
        if isinstance(one, dict):
            waiting += [(f"{path}.{name}", below) for name, below in one.items() if isinstance(below, (dict, list))]
        elif isinstance(one, list):
            waiting += [
                (f"{path}[{number}]", below) for number, below in enumerate(one) if isinstance(below, (dict, list))
            ]


def _line(error: BaseException) -> int | None:
    """Find the line of the template in a traceback, which jinja2 has rewritten to name it."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
