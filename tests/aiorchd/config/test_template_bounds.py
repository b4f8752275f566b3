"""What one rendering may make: refused before it is made, by name, and without a price for templates that are usual."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aiorchd.config.prompt_template import PromptTemplate, TemplateError, as_text
from aiorchd.config.template_sizes import MOST_CHARACTERS, weight

INPUT = {"n": 2_000_000_000, "t": "x" * 300_000, "s": "x" * 20_000, "tabs": "\t" * 20_000, "one": 1, "text": "a b"}
MOST_MEMORY = 150_000_000


def grow(start: str, more: str, end: str = "", turns: int = 40) -> str:
    loop = f"{{% for i in range({turns}) %}}{{% set ns.s = {more} %}}{{% endfor %}}"
    return f"{{% set ns = namespace(s={start}) %}}{loop}{end}"


def rendered(source: str, value: Any = INPUT) -> tuple[str | TemplateError, int]:
    """What a template makes or why not, and the most memory that was taken for it."""
    template = PromptTemplate(source)
    tracemalloc.start()
    try:
        return template.render(value), tracemalloc.get_traced_memory()[1]
    except TemplateError as error:
        return error, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("{{ 'x'.center(input.n) }}", "center"),
        ("{{ 'x'['center'](input.n) }}", "center"),
        ("{{ 'x'.encode().center(input.n) }}", "center"),
        ("{{ ('x' | safe).center(input.n) }}", "center"),
        ("{% for i in [1] %}{{ 'x'.zfill(input.n) }}{% endfor %}", "zfill"),
        ("{{ input.one.to_bytes(input.n, 'big') }}", "to_bytes"),
        ("{{ input.tabs.expandtabs(100000) }}", "expandtabs"),
        ("{{ input.t.replace('x', input.t) }}", "replace"),
        ("{{ input.t.replace('', input.t) }}", "replace"),
        ("{{ input.t.translate({120: input.t}) }}", "translate"),
        ("{{ input.t.join(range(9999) | map('string')) }}", "join"),
        ("{{ '%2000000000d' % 1 }}", "%"),
        ("{{ '%*d' % (input.n, 1) }}", "%"),
        ("{{ '%.*f' % (input.n, 1.5) }}", "%"),
        ("{{ '%(a)2000000000d' % {'a': 1} }}", "%"),
        ("{{ '%(a)s' * 1000 % {'a': input.t} }}", "%"),
        ("{{ '{:2000000000}'.format(1) }}", "format"),
        ("{{ '{:{}}'.format(1, input.n) }}", "format"),
        ("{{ '{a:>{n}}'.format(a='', n=input.n) }}", "format"),
        ("{{ '{a:2000000000}'.format_map({'a': 1}) }}", "format"),
        ("{{ ('{0}' * 1000).format(input.t) }}", "format"),
        ("{{ ('{:2000000000}' | safe).format(1) }}", "format"),
        ("{{ 'x' | center(input.n) }}", "center"),
        ("{{ 'x' | center(width=input.n) }}", "center"),
        ("{% filter center(input.n) %}x{% endfilter %}", "center"),
        ("{{ ['x'] | map('center', input.n) | list }}", "center"),
        ("{{ 'x' | indent(input.n, first=true) }}", "indent"),
        ("{{ '%*d' | format(input.n, 1) }}", "format"),
        ("{{ input.t | replace('x', input.t) }}", "replace"),
        ("{{ input.t | wordwrap(1, wrapstring=input.t) }}", "wordwrap"),
        ("{{ input.t | urlize(target=input.t) }}", "urlize"),
        ("{{ input.t | join(input.t) }}", "join"),
        ("{{ input | tojson(indent=input.n) }}", "tojson"),
        ("{{ [1] | batch(input.n, 'x') | list }}", "batch"),
        ("{{ [1] | slice(input.n) | list }}", "slice"),
        ("{{ ([[1] * 100000] * 100000) | sum(start=[]) }}", "sum"),
        ("{{ 'x' * input.n }}", "*"),
        ("{{ [1] * input.n }}", "*"),
        (grow("'x'", "ns.s ~ ns.s"), "~"),
        (grow("'x'", "ns.s + ns.s"), "+"),
        (grow("[1]", "ns.s + ns.s"), "+"),
        (grow("7", "ns.s * ns.s"), "*"),
        (grow("[input.t]", "[ns.s, ns.s]", "{{ ns.s }}", 9), "writing JSON"),
        ("{{ ([input.t] * 9999) | sort }}", "sort"),
        ("{{ range(9999) | map('string') | groupby('x', input.t) | list }}", "groupby"),
        (grow("[input.t]", "[ns.s, ns.s]", "{{ ns.s | string }}"), "string"),
        (grow("[input.t]", "[ns.s, ns.s]", "{{ ns.s | tojson }}", 9), "tojson"),
        (grow("[input.t]", "{'a': ns.s, 'b': ns.s}", "{{ 'x' ~ ns.s }}", 9), "~"),
        (grow("[input.t]", "[ns.s, ns.s]", "{{ '%s' % ns.s }}", 9), "%"),
        (grow("[input.t]", "[ns.s, ns.s]", "{{ '{!r}'.format(ns.s) }}", 9), "format"),
        ("{% set x %}{% for i in range(100000) %}{{ 'x'.center(1000000) }}{% endfor %}{% endset %}", "center"),
        ("{% set x %}{% for i in range(100000) %}{{ input.t | upper }}{% endfor %}{% endset %}", "upper"),
    ],
)
def test_what_would_make_too_much_is_refused_by_name_before_it_is_made(source: str, name: str) -> None:
    made, memory = rendered(source)
    assert f"cannot be filled in: {name} would make too much" in str(made)
    assert memory < MOST_MEMORY


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(100000) %}{{ input.t }}{% endfor %}",
        "{% macro m(s) %}{{ s }}{{ s }}{% endmacro %}" + grow("'x'", "m(ns.s)"),
        grow("input.t", "ns.s", "{% set s %}" + "{{ input.t }}" * 99 + "{% endset %}"),
    ],
)
def test_what_comes_to_too_much_in_all_is_refused(source: str) -> None:
    made, memory = rendered(source)
    assert f"the most is {MOST_CHARACTERS} characters" in str(made)
    assert memory < MOST_MEMORY


def operations() -> list[str]:
    environment = ImmutableSandboxedEnvironment()
    filters = sorted(set(environment.filters) - {"random", "pprint", "xmlattr"})
    arguments = ["", "input.n", "input.s", "'x', input.n", "'x', input.s", "input.s, input.s", "1, true, input.s"]
    owners = {"input.s": str, "input.tabs": str, "'x'.encode()": bytes, "input.one": int, "1.5": float}
    calls = [
        f"{owner}.{name}"
        for owner, kind in owners.items()
        for name in dir(kind)
        if not name.startswith("_") and callable(getattr(kind, name))
    ]
    return [f"{{{{ {call}({given}) }}}}" for call in calls for given in arguments] + [
        f"{{{{ ({value}) | {name}({given}) | string | length }}}}"
        for value in ("input.s", "input.tabs", "[input.s] * 9999")
        for name in filters
        for given in arguments
    ]


def test_no_operation_is_forgotten() -> None:
    """Every method of text and numbers and every filter there is, with all that may be wide, many or long."""
    greedy = [(source, memory) for source in operations() for memory in (rendered(source)[1],) if memory > MOST_MEMORY]
    assert not greedy


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ input.t[:5].center(9) }}|", "  xxxxx  |"),
        ("{{ '%s: %5d 100%% %(x)s' | replace('%(x)s', '') % ('a', 7) }}", "a:     7 100% "),
        ("{{ '%(a)s/%(a)s, in 4915112345678 of 2000000000' % {'a': 'b'} }}", "b/b, in 4915112345678 of 2000000000"),
        ("{{ '{0:>4}{a!r}, in 2000000000'.format(1, a='x') }}", "   1'x', in 2000000000"),
        ("{{ 'n' ~ input.one ~ none }}", "n1None"),
        ("{{ [3000000000, 5] | select('gt', 2000000000) | join(', ') }}", "3000000000"),
        ("{{ input.absent | default(3000000000) }}", "3000000000"),
        ("{{ {3000000000: 'x'}.get(3000000000) }}", "x"),
        ("{{ 3000000000 | filesizeformat }}", "3.0 GB"),
        ("{{ [{'a': 1}, {'a': 2}] | sum(attribute='a') }}", "3"),
        ("{{ [{'a': [1]}, {'a': [2]}] | sum(attribute='a', start=[]) }}", "[1, 2]"),
        ("{{ [{'a': 1}, {'a': none}] | join('-', attribute='a') }}", "1-None"),
        ("{{ input.text | indent(2, first=true) }}", "  a b"),
        ("{{ ' '.join(input.text.split()) }}", "a b"),
        ("{{ input.t | replace('x', 'yy') | length }}", "600000"),
        ("{{ [1, 2] * 2 + [3] }}", "[1, 2, 1, 2, 3]"),
        ("{% for i in range(300) %}{% if input.t | upper %}{% endif %}{% endfor %}ok", "ok"),
    ],
)
def test_what_is_usual_is_made_as_ever(source: str, text: str) -> None:
    assert PromptTemplate(source).render(INPUT) == text


def test_a_text_that_is_built_line_by_line_is_not_too_much() -> None:
    lines = (
        "{% set ns = namespace(s='') %}{% for i in range(2000) %}{% set ns.s = ns.s ~ 'x' * 60 ~ '\n' %}{% endfor %}"
    )
    assert PromptTemplate(lines + "{{ ns.s }}").render({}) == ("x" * 60 + "\n") * 2000
    listed = "{% set ns = namespace(s=[]) %}{% for i in range(5000) %}{% set ns.s = ns.s + [i] %}{% endfor %}{{ ns.s | length }}"
    assert PromptTemplate(listed).render({}) == "5000"


def test_one_rendering_does_not_pay_for_another() -> None:
    template = PromptTemplate("{{ input | upper | length }}")
    for _ in range(300):
        assert template.render("x" * 1_000_000) == "1000000"


@pytest.mark.parametrize("value", ["x" * 5000, ["xyz"] * 500, {"a": {"b": [1, 2.5, None, True, 10**50]}}, 7, None])
def test_what_something_weighs_is_not_far_from_what_is_written(value: Any) -> None:
    assert len(as_text(value)) / 2 <= weight(value) + 8 <= len(as_text(value)) * 2 + 10
