"""How much one rendering of a template may make, so that a width or a count from an input does not take the host's memory.

What an operation would make is judged before it is made, by what it is given; what it has made is charged to the rendering: what
it adds in full, of what it only passes on a part, since most of what was before is let go of. Every method of text, every
operator and every filter is judged by the one rule that no number given to it exceeds `MOST_WIDTH`; only those that repeat
something as often as something else occurs have a rule of their own. A filter of which this module knows nothing is taken for one
that makes text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from itertools import islice
from typing import Any, Final

from aiorchd.config.template_sizes import ITEM, MOST_CHARACTERS, RULES, formatted, length, number, weight

MOST_WIDTH: Final = 1024 * 1024
"""The largest number that may say how wide or how many."""

_MOST_MADE: Final = 4 * MOST_CHARACTERS
_PASSED_ON: Final = 2
_BUILT_UPON: Final = 8
"""Of what an operation passes on, one part in so many is charged: a text that is made anew may be kept beside the one it was made
of; one to which something is added, bit by bit, hardly ever is."""
_PIECES: Final = 1024
_MOST_BITS: Final = 65_536
_AS_THEY_ARE: Final = frozenset(
    "abs attr count d default filesizeformat first float int items last length map max min reject rejectattr round select "
    "selectattr unique".split()
)
"""Filters that give back what is there, or a number, or one thing after another, each of which is judged for itself."""
_OF_ITEMS: Final = frozenset("batch dictsort groupby list reverse slice sort".split())
"""Filters that make lists of what is there, and write nothing out."""
_SORTING: Final = frozenset(("dictsort", "groupby", "sort"))
"""Those of them that write each thing in small letters, to sort by."""
_DIGITS: Final = re.compile("[0-9]+")


class TooMuchError(TypeError):
    """An operation of a template would make too much of what it is given."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} would make too much of what it is given: the most is {MOST_CHARACTERS} characters, and {MOST_WIDTH} for a "
            "width or a count; bound the numbers and texts that the template takes from the input"
        )


class Allowance:
    """What the rendering that goes on may still make. One at a time: a rendering waits for nothing."""

    def __init__(self) -> None:
        self._left = _MOST_MADE
        self.composes = True
        """Whether the template may put one thing at many places of a list or map; else none weighs more than the input."""

    def begin(self) -> None:
        """Another rendering begins."""
        self._left = _MOST_MADE

    def check(self, name: str, size: int) -> None:
        """Raise `TooMuchError` if so many characters are too many for the operation ``name``."""
        if size > MOST_CHARACTERS or size > self._left:
            raise TooMuchError(name)

    def charge(self, name: str, given: int, made: Any, part: int = _PASSED_ON) -> None:
        """The operation ``name`` has made this, where so much (in characters) was before, of which one ``part`` counts."""
        if isinstance(made, (str, bytes)):
            size = len(made)
        elif isinstance(made, (list, tuple, dict)):
            size = len(made) * ITEM
        else:
            return
        self._left -= size - given + given // part if size > given else size // part
        if self._left < 0:
            raise TooMuchError(name)

    def joined(self, name: str, between: str, values: Iterable[Any]) -> str:
        """Write values one after another."""
        texts: list[str] = []
        size = longest = 0
        for value in values:
            if not isinstance(value, str):
                self.check(name, size + weight(value))
            texts.append(str(value))
            size += len(texts[-1]) + len(between)
            longest = max(longest, len(texts[-1]))
            self.check(name, size)
        text = between.join(texts)
        self.charge(name, longest, text, _BUILT_UPON)
        return text

    def summed(self, values: Iterable[Any], start: Any) -> Any:
        """Add values up; lists are put one after another."""
        if isinstance(start, (list, tuple)):
            values = list(values)
            self.check("sum", sum(map(length, values)))
        total = sum(values, start)
        self.charge("sum", 0, total)
        return total

    def concat(self, pieces: Iterable[str]) -> str:
        """Join the pieces of a template, a macro or a block, as long as they are not too many."""
        one_by_one = iter(pieces)
        parts: list[str] = []
        size = 0
        while some := list(islice(one_by_one, _PIECES)):
            size += sum(map(len, some))
            if size > MOST_CHARACTERS or size > self._left:
                raise TypeError(f"all of it together is too long; the most is {MOST_CHARACTERS} characters")
            if len(some) < _PIECES and not parts:
                parts = some
                break
            parts.append("".join(some))
        self._left -= size
        return "".join(parts)

    def filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give a filter that is judged before, and charged after."""
        if name in _AS_THEY_ARE:
            return function
        first = 1 if hasattr(function, "jinja_pass_arg") else 0
        writes, plain, sorts = name not in _OF_ITEMS, name not in RULES, name in _SORTING

        @wraps(function)
        def judged(*args: Any, **named: Any) -> Any:
            value = args[first]
            if sorts:
                if not isinstance(value, (str, list, tuple, dict)):
                    value = list(value)
                    args = (*args[:first], value, *args[first + 1 :])
                by = sum(map(weight, (*args[first + 1 :], *named.values())))
                self.check(name, (weight(value) if self.composes else 0) + len(value) * by)
            if not (plain and len(args) == first + 1 and not named and type(value) is str):
                others = (*args[first + 1 :], *named.values())
                self._check_numbers(name, others)
                if writes:
                    self._check_text(name, value, args[first + 1 :], others, named)
            made = function(*args, **named)
            if made is not value:
                self.charge(name, length(value), made)
            return made

        return judged

    def method(
        self, name: str, owner: Any, call: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        """Call a method of a text or a number, judged and charged."""
        if name == "join" and args and not isinstance(args[0], (str, list, tuple, dict)):
            args = (list(args[0]), *args[1:])
        others = (*args, *named.values())
        self._check_numbers(name, others)
        if isinstance(owner, (str, bytes)):
            self._check_text(name, owner, args, others, named)
        made = call(*args, **named)
        if made is not owner:
            self.charge(name, length(owner), made)
        return made

    def operator(self, sign: str, left: Any, right: Any, operate: Callable[[], Any]) -> Any:
        """Carry out ``%``, ``+`` or ``*`` on these, judged and charged."""
        if sign == "%":
            if isinstance(left, (str, bytes)):
                self.check(sign, formatted(left, right))
        elif sign == "+":
            if isinstance(left, (str, bytes, list, tuple)) and isinstance(right, (str, bytes, list, tuple)):
                self.check(sign, length(left) + length(right))
        elif isinstance(left, int) and isinstance(right, int):
            if left.bit_length() + right.bit_length() > _MOST_BITS:
                raise TooMuchError(sign)
        else:
            for many, count in ((left, right), (right, left)):
                if isinstance(many, (str, bytes, list, tuple)) and isinstance(count, int):
                    self.check(sign, length(many) * count)
        made = operate()
        self.charge(sign, max(length(left), length(right)), made, _BUILT_UPON)
        return made

    def _check_numbers(self, name: str, others: Iterable[Any]) -> None:
        for other in others:
            if isinstance(other, int) and other > MOST_WIDTH:
                raise TooMuchError(name)

    def _check_text(
        self, name: str, value: Any, args: tuple[Any, ...], others: tuple[Any, ...], named: Mapping[str, Any]
    ) -> None:
        rule = RULES.get(name)
        if name == "tojson" and not self.composes and not others:
            return
        if rule is not None:
            self.check(name, rule(value, args, named))
        elif not isinstance(value, (str, bytes)):
            self.check(name, weight(value))
        elif others:
            self.check(name, len(value) + sum(map(weight, others)))


@dataclass(slots=True)
class Sizes:
    """Adds up what the fields of one format make, before they are made."""

    allowance: Allowance
    size: int = 0

    def add(self, value: Any, spec: str = "") -> None:
        """One field writes this value like that."""
        self.size += weight(value) + sum(map(number, _DIGITS.findall(spec)))
        self.allowance.check("format", self.size)
