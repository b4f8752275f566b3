"""Templates: filled in the same way every time, without reach beyond the input, and clear about what is wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from aiorchd.config.prompt_template import PromptTemplate, TemplateError
from aiorchd.config.template_sizes import MOST_CHARACTERS


@pytest.mark.parametrize(
    ("source", "value", "text"),
    [
        ("Tag: {{ input.text }}\n", {"text": "a <b>"}, "Tag: a <b>\n"),
        ("{{ input }}", "plain", "plain"),
        ("{{ input }}", {"b": [1, True, None], "a": "é"}, '{"a": "é", "b": [1, true, null]}'),
        ("{{ input.n }} {{ input.t }}", {"n": 1.5, "t": False}, "1.5 false"),
        ("{{ input.items }}{{ input['keys'] }}", {"items": "x", "keys": "y"}, "xy"),
        ("{{ input | tojson }}", {"b": "<&>", "a": 1}, '{"a": 1, "b": "<&>"}'),
        ("{% for x in input.l %}{{ loop.index }}{{ x.n }} {% endfor %}", {"l": [{"n": "a"}, {"n": "b"}]}, "1a 2b "),
        ("{% if input.x is defined %}x{% else %}none{% endif %}", {}, "none"),
        ("{{ input.x | default('none') }}", {}, "none"),
        ("{% set a = input.a %}{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(a) }}", {"a": 1}, "[1]"),
        ("{{ input.a[1:] | upper }}", {"a": "text"}, "EXT"),
    ],
)
def test_what_is_filled_in(source: str, value: Any, text: str) -> None:
    assert PromptTemplate(source).render(value) == text


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ input.x", "line 1 of the template: unexpected end of template"),
        ("a\nb {% if %}", "line 2 of the template: Expected an expression"),
        (
            "\n{{ page.text }}",
            'line 2 of the template: there is no variable "page": what is filled in is called input.',
        ),
        ("{% include '/etc/passwd' %}", "templates read no files"),
        ("{% extends 'x' %}", "templates read no files"),
        ("{% import 'x' as y %}", "templates read no files"),
        ("{{ input | random }}", "No filter named 'random'"),
        ("{{ lipsum() }}", 'there is no variable "lipsum"'),
        ("{{ cycler(1) }}", 'there is no variable "cycler"'),
        ("{{ input | nope }}", "No filter named 'nope'"),
    ],
)
def test_what_is_no_template(source: str, told: str) -> None:
    with pytest.raises(TemplateError) as caught:
        PromptTemplate(source)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("source", "value", "told"),
    [
        ("{{ input.text }}", {}, "line 1 of the template: input.text is missing."),
        ("\n{{ input.a.b.c }}", {"a": {"b": {}}}, "line 2 of the template: input.a.b.c is missing."),
        ("{% for x in input.l %}{{ x.n }}{% endfor %}", {"l": [{"n": 1}, {}]}, "input.l[1].n is missing."),
        ("{{ input.a }}", "text", "input.a is missing."),
        ("{{ input[3] }}", [1], "input[3] is missing."),
        ("{{ input.x.y }}", {}, "input.x is missing."),
        ("{% for x in input.missing %}{% endfor %}", {}, "input.missing is missing."),
        ("{{ input.keys }}", {}, "a method or something else that is no data"),
        ("{{ input.a + 1 }}", {"a": "canary"}, "cannot be filled in"),
        ("{{ input.a | int(default=none) + 1 }}", {"a": "canary"}, "cannot be filled in"),
        ("{{ 1 / input.n }}", {"n": 0}, "cannot be filled in: ZeroDivisionError."),
        ("{{ ''.__class__ }}", {}, "is missing"),
        ("{{ input.a.__init__.__globals__ }}", {"a": "canary"}, "is missing"),
        ("{{ input.l.append(1) }}", {"l": []}, "missing"),
        ("{{ input.a.format(1) }}", {"a": "{0.__class__}"}, "missing"),
        ("{{ 'x' * input.n }}", {"n": 10**10}, "* would make too much"),
        ("{{ input.n ** input.n }}", {"n": 10**6}, "powers"),
        ("{{ input.s }}{{ input.s }}", {"s": "x" * (MOST_CHARACTERS // 2 + 1)}, "the most is"),
        ("{{ input.a | truncate(2) }}", {"a": "canary"}, "cannot be filled in: AssertionError."),
        ("{% for x in range(1000000000) %}{% endfor %}", {}, "cannot be filled in: OverflowError."),
    ],
)
def test_what_cannot_be_filled_in(source: str, value: Any, told: str) -> None:
    with pytest.raises(TemplateError) as caught:
        PromptTemplate(source).render(value)
    assert told in str(caught.value)
    assert "canary" not in str(caught.value)


def test_how_much_of_it_is_a_constant_beginning() -> None:
    assert PromptTemplate("all of it").constant_share == 1
    assert PromptTemplate("half{{ input }}half").constant_share == 0.5
    assert PromptTemplate("{% if input %}no{% endif %}").constant_share == 0


def test_jinja2_is_not_there_until_there_is_a_template() -> None:
    """A daemon without operations neither waits for it nor holds it."""
    code = (
        "import sys; import aiorchd.app.start, aiorchd.pipeline.order; assert 'jinja2' not in sys.modules;"
        "from aiorchd.config.prompt_template import PromptTemplate; PromptTemplate('x'); assert 'jinja2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
