"""Sums found in a text and worked out without ever running code.

An expression is parsed by Python's own grammar and walked: numbers, + - * / // % ** (also written ^, ×, ÷) and
brackets, nothing else. Everything is bounded: length, digits, exponents. Integers stay exact.
"""

import ast
import math
import re
from typing import Final

LONGEST_EXPRESSION: Final = 200
LARGEST_EXPONENT: Final = 1_000
LARGEST_BITS: Final = 4_096

_ASKED: Final = re.compile(
    r"\b(?:what(?:'s| is| are)|calculate|compute|evaluate|work out|solve|how much is|result of|sum of)\b", re.IGNORECASE
)
_PERCENT_OF: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|percent) of (\d+(?:\.\d+)?)", re.IGNORECASE)
_CANDIDATE: Final = re.compile(r"[-+(]*\d[\d\s.,()+\-*/^%×÷−]*")
_OPERATOR: Final = re.compile(r"[\d)]\s*(?:\*\*|//|[-+*/^%])\s*[-+(]*\s*[\d(]")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SYMBOLS: Final = str.maketrans({"×": "*", "÷": "/", "−": "-"})


class NoExpression(ValueError):
    """The text is not an arithmetic expression, or it is too big to work out."""


def find_expression(text: str) -> str | None:
    """The sum that a text asks for, in plain notation, or None.

    It must be asked for ("what is 6 * 7?", "calculate ...", "6 * 7 =") or be the whole text: dates, versions and
    ranges in prose are not sums.
    """
    text = text[:2_000]
    if percent := _PERCENT_OF.search(text):
        return f"{percent[1]} / 100 * {percent[2]}" if _ASKED.search(text) or percent[0] == text.strip(" ?.=") else None
    plain = _THOUSANDS.sub("", text).translate(_SYMBOLS)
    asked = _ASKED.search(plain) is not None
    for found in _CANDIDATE.finditer(plain):
        expression = found[0].rstrip(" \t\n.,(+-*/^%")
        if len(expression) > LONGEST_EXPRESSION or _OPERATOR.search(expression) is None:
            continue
        rest = plain[found.start() + len(expression) :].lstrip()
        if asked or rest.startswith("=") or expression == plain.strip(" \t\r\n?.="):
            return " ".join(expression.split())
    return None


def evaluate(expression: str) -> int | float:
    """Work out one expression. Raises NoExpression when it is none, and ZeroDivisionError when it divides by zero."""
    if len(expression) > LONGEST_EXPRESSION:
        raise NoExpression("the expression is too long")
    try:
        tree = ast.parse(expression.replace("^", "**").strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NoExpression("this is not an arithmetic expression") from error
    try:
        value = _value(tree.body)
    except OverflowError as error:
        raise NoExpression("the numbers are too large") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise NoExpression("the numbers are too large")
    return value


def written(value: float) -> str:
    """A result as a person writes it: whole numbers without a point, others with at most ten decimals."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    return repr(round(value, 10))


def _value(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=bool()):
            raise NoExpression("only numbers can be calculated with")
        case ast.Constant(value=int() | float() as number):
            return _bounded(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            return _bounded(_combined(_value(left), operator, _value(right)))
        case _:
            raise NoExpression("only numbers can be calculated with")


def _combined(left: float, operator: ast.operator, right: float) -> int | float:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
                return left // right
            return left / right
        case ast.FloorDiv():
            return left // right
        case ast.Mod():
            return left % right
        case ast.Pow():
            return _power(left, right)
        case _:
            raise NoExpression("this operator is not arithmetic")


def _power(left: float, right: float) -> int | float:
    if abs(right) > LARGEST_EXPONENT:
        raise NoExpression("the exponent is too large")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > LARGEST_BITS:
        raise NoExpression("the numbers are too large")
    result: int | float | complex = left**right
    if isinstance(result, complex):
        raise NoExpression("the result is not a real number")
    return result


def _bounded(number: float) -> int | float:
    if isinstance(number, int) and number.bit_length() > LARGEST_BITS:
        raise NoExpression("the numbers are too large")
    return number
