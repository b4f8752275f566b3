"""Sums: found only where they are asked for, worked out exactly and within bounds."""

import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.textwork.arithmetic import NoExpression, evaluate, find_expression, written


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("What is 6 * 7?", "42"),
        ("what's 2+2", "4"),
        ("Calculate (3 + 4) * 2^3 please.", "56"),
        ("12 × 3 =", "36"),
        ("10 ÷ 4", "2.5"),
        ("Compute 1,000,000 / 8.", "125000"),
        ("What is 15% of 200?", "30"),
        ("7 // 2 =", "3"),
        ("-3 - -4", "1"),
        ("what is 0.1 + 0.2", "0.3"),
        ("Evaluate 2**200", str(2**200)),
    ],
)
def test_sums_are_found_and_worked_out(text, result):
    expression = find_expression(text)
    assert expression is not None
    assert written(evaluate(expression)) == result


@pytest.mark.parametrize(
    "text",
    [
        "The meeting is on 2024-01-05 at noon.",
        "Version 1.2-3 of the 3/4 inch pipe",
        "What is the capital of France?",
        "Call 555-1234 now",
        "15% of people agree",
        "What is 7?",
        "",
    ],
)
def test_prose_holds_no_sums(text):
    assert find_expression(text) is None


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "a + 1",
        "[1][0]",
        "1 if 1 else 2",
        "True + 1",
        "1j * 1j",
        "lambda: 1",
        "1 < 2",
        "",
        "(",
        "1 +",
    ],
)
def test_nothing_but_arithmetic_is_worked_out(expression):
    with pytest.raises(NoExpression):
        evaluate(expression)


@pytest.mark.parametrize(
    "expression", ["9**9**9", "2**100000", "9**1000*9**1000", "1e308*1e308", "10.0**400", "1" * 201, "(-8)**0.5"]
)
def test_what_is_too_large_is_refused_quickly(expression):
    with pytest.raises(NoExpression):
        evaluate(expression)


def test_division_by_zero_is_told():
    with pytest.raises(ZeroDivisionError):
        evaluate("1 / (2 - 2)")


OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@settings(deadline=None)
@given(st.integers(-(10**6), 10**6), st.sampled_from(sorted(OPERATORS)), st.integers(0, 10**6))
def test_integers_stay_exact(left, sign, right):
    expression = find_expression(f"What is {left} {sign} {right}?")
    assert expression is not None
    assert evaluate(expression) == OPERATORS[sign](left, right)


@settings(deadline=None)
@given(st.text(alphabet="0123456789+-*/()^%. ,=", max_size=60))
def test_whatever_looks_like_a_sum_is_a_number_or_refused(text):
    expression = find_expression(f"What is {text}?")
    if expression is not None:
        try:
            written(evaluate(expression))
        except (NoExpression, ZeroDivisionError):
            pass
