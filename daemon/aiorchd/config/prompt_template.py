"""A template of a prompt: jinja2 over ``input``, compiled once, without files, chance or anything of this process.

The same input gives the same text, always: what a template renders to is what its answers are kept under. So there are no
``random`` and ``lipsum``, maps go by the order of their names where they are written out, and a name that is not in the input
is an error that says where, never an empty place in a prompt. ``{{ input.x }}`` of a map prefers the map's own member to a
method of that name; text goes in as it is, anything else as JSON.

What a template makes on its way is bounded, too, operation by operation (`template_bounds`): a width or a count that comes from
the input costs nobody anything.

jinja2 is imported when the first template is made: a daemon without operations neither waits for it nor holds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiorchd.config.template_bounds import Allowance, Sizes
from aiorchd.config.template_sizes import weight

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

_VARIABLE: Final = "input"
_JOINED: Final = "~"
_FORBIDDEN_FILTERS: Final = ("random", "pprint", "xmlattr")
_COMPOSING_FILTERS: Final = ("batch", "slice", "sum", "map")
_LONGEST_PATH: Final = 200
_to_json: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


class TemplateError(ValueError):
    """A template that is none, or an input that it cannot be filled with. ``line`` is that in the template, if known."""

    def __init__(self, sentence: str, line: int | None = None) -> None:
        super().__init__(sentence if line is None else f"line {line} of the template: {sentence}")
        self.line = line


class PromptTemplate:
    """One compiled template. Raises `TemplateError` for one that jinja2 does not take or that wants more than ``input``."""

    def __init__(self, source: str) -> None:
        from jinja2 import TemplateSyntaxError

        self._allowance = Allowance()
        environment = _environment(self._allowance)
        try:
            tree = environment.parse(source)
            _check(tree)
            constant_share = _constant_share(tree)
            self._allowance.composes = _composes(tree)
            self._template = environment.from_string(_with_judged_joins(tree, environment))
        except TemplateSyntaxError as error:
            raise TemplateError(f"{(error.message or 'is not a template').rstrip('.')}.", error.lineno) from None
        except RecursionError:
            raise TemplateError("is nested too deep.") from None
        self.source = source
        self.constant_share = constant_share
        """How much of its own text comes before the first place that is filled in, 0 to 1."""

    def render(self, value: Any) -> str:
        """Fill in ``value`` as ``input``. Raises `TemplateError`, naming the place in the input where something is missing; of
        what is there, it quotes nothing.
        """
        from jinja2 import TemplateError as JinjaError

        self._allowance.begin()
        try:
            return self._template.render(input=value)
        except _MissingError as error:
            raise TemplateError(f"{_place(value, error.holder, error.name)} is missing.", _line(error)) from None
        except JinjaError as error:
            raise TemplateError(f"cannot be filled in: {type(error).__name__}.", _line(error)) from None
        except TypeError as error:
            raise TemplateError(f"cannot be filled in: {error}.", _line(error)) from None
        except (
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            AssertionError,  # by which jinja2's truncate says that its end is longer than it
            RecursionError,
            MemoryError,
        ) as error:
            raise TemplateError(f"cannot be filled in: {type(error).__name__}.", _line(error)) from None


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
        return _to_json(value)
    except (TypeError, ValueError):
        raise TypeError("a method or something else that is no data stands where a value should") from None


def _environment(allowance: Allowance) -> Environment:
    from jinja2 import StrictUndefined, pass_environment
    from jinja2.filters import make_attrgetter
    from jinja2.runtime import Undefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
    from jinja2.utils import Namespace

    class Missing(StrictUndefined):
        __slots__ = ()

        def __init__(self, hint: str | None = None, obj: Any = None, name: Any = None, exc: Any = None) -> None:  # noqa: ARG002
            super().__init__(hint, obj, name, lambda _: _MissingError(obj, name))  # type: ignore[arg-type]

    class Names(Namespace):
        def __repr__(self) -> str:
            return "a namespace"  # and not all that is in it

    class Measure(SandboxedFormatter):
        """Formats like `str.format`, and raises before a field would make too much."""

        def __init__(self, environment: Environment) -> None:
            super().__init__(environment)
            self._sizes = Sizes(allowance)

        def convert_field(self, value: Any, conversion: Any) -> Any:
            self._sizes.add(value)
            return super().convert_field(value, conversion)

        def format_field(self, value: Any, format_spec: str) -> Any:
            self._sizes.add(value, format_spec)
            return super().format_field(value, format_spec)

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("+", "*", "**", "%"))

        def getattr(self, obj: Any, attribute: str) -> Any:
            if type(obj) is dict and attribute in obj:
                return obj[attribute]
            return super().getattr(obj, attribute)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                raise TypeError("powers have no place in a prompt")
            return allowance.operator(
                operator, left, right, partial(super().call_binop, context, operator, left, right)
            )

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063  as jinja2 has it
            owner = getattr(__obj, "__self__", None)
            if not isinstance(owner, (str, bytes, int, float)):
                return super().call(__context, __obj, *args, **kwargs)
            named = {name: value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")}
            return allowance.method(__obj.__name__, owner, partial(super().call, __context, __obj), args, named)

        def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
            wrapped = super().wrap_str_format(value)
            if wrapped is None:
                return None

            def judged(*args: Any, **named: Any) -> str:
                if value.__name__ == "format_map":
                    Measure(self).vformat(value.__self__, (), args[0])
                else:
                    Measure(self).vformat(value.__self__, args, named)
                made = wrapped(*args, **named)
                allowance.charge("format", 0, made)
                return made

            return judged

    def written(value: Any) -> Any:
        if isinstance(value, (str, Undefined)):
            return value
        if allowance.composes and isinstance(value, (dict, list, tuple)):
            allowance.check("writing JSON", weight(value))
        text = as_text(value)
        allowance.charge("writing JSON", 0, text)
        return text

    @pass_environment
    def join(environment: Environment, value: Any, d: Any = "", attribute: Any = None) -> str:
        return allowance.joined(
            "join", str(d), value if attribute is None else map(make_attrgetter(environment, attribute), value)
        )

    @pass_environment
    def total(environment: Environment, value: Any, attribute: Any = None, start: Any = 0) -> Any:
        return allowance.summed(
            value if attribute is None else map(make_attrgetter(environment, attribute), value), start
        )

    environment = Sandbox(
        undefined=Missing, autoescape=False, keep_trailing_newline=True, finalize=written, cache_size=0, loader=None
    )
    environment.globals = {"range": environment.globals["range"], "dict": dict, "namespace": Names}
    filters = {name: one for name, one in environment.filters.items() if name not in _FORBIDDEN_FILTERS}
    filters["tojson"] = _tojson
    environment.filters = {name: allowance.filter(name, one) for name, one in filters.items()}
    environment.filters.update({"join": join, "sum": total, _JOINED: partial(allowance.joined, "~", "")})
    environment.concat = allowance.concat  # type: ignore[method-assign]
    return environment


def _composes(tree: nodes.Template) -> bool:
    """Whether the template may make lists or maps in which one thing is at many places."""
    from jinja2 import nodes

    makers = (nodes.List, nodes.Tuple, nodes.Dict, nodes.Call, nodes.CallBlock, nodes.Add, nodes.Mul, nodes.Filter)
    return any(
        not (isinstance(node, nodes.Tuple) and node.ctx == "store")
        and not (isinstance(node, nodes.Filter) and node.name not in _COMPOSING_FILTERS)
        for node in tree.find_all(makers)
    )


def _with_judged_joins(tree: nodes.Template, environment: Environment) -> nodes.Template:
    """Have ``~`` done by a filter: it is the one operator that jinja2 lets nobody intercept."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    class Joins(NodeTransformer):
        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  named by jinja2
            self.generic_visit(node)
            parts = nodes.List(node.nodes, lineno=node.lineno)
            judged = nodes.Filter(parts, _JOINED, [], [], None, None, lineno=node.lineno)
            return judged.set_environment(environment)

    Joins().visit(tree)
    return tree


def _tojson(value: Any, indent: int | None = None) -> str:
    """Write JSON for a model to read: nothing is escaped for HTML."""
    if indent is None:
        return _to_json(value)
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
