r"""A string that matches a regular expression, written from the expression itself rather than searched for.

Understood: literals, `.`, classes with ranges and negation, \d \w \s, groups, alternatives (the first is taken),
the quantifiers ? * + {m} {m,} {m,n} (the least that is allowed, at least one where that is allowed) and the anchors ^
$. Nothing is ever matched, so a pattern cannot take long. Look-arounds and back-references are not understood.
"""

from collections.abc import Mapping
from typing import Final

LONGEST: Final = 2_000
DEEPEST: Final = 40

_PREFERRED: Final = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_- .,:/@#!%&+=~;'\"()*$?<>[]{}|^`\\"
_DIGITS: Final = "0123456789"
_WORDS: Final = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_ESCAPES: Final[Mapping[str, str]] = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}


class NotUnderstood(ValueError):
    """The pattern uses something that is not supported here, or is no regular expression."""


def matching(pattern: str, start: int = 0) -> str:
    """A string that the pattern matches; `start` chooses among the members of each class. Raises NotUnderstood."""
    writer = _Writer(pattern, start)
    text = writer.alternatives(0)
    if writer.position != len(pattern):
        raise NotUnderstood(f"unbalanced bracket at character {writer.position}")
    return text


class _Writer:
    def __init__(self, pattern: str, start: int) -> None:
        self._pattern = pattern
        self._start = start
        self.position = 0

    def alternatives(self, depth: int) -> str:
        if depth > DEEPEST:
            raise NotUnderstood("groups are nested too deeply")
        first = self._sequence(depth)
        while self._peek() == "|":
            self.position += 1
            self._sequence(depth)
        return first

    def _sequence(self, depth: int) -> str:
        written: list[str] = []
        length = 0
        while (character := self._peek()) not in ("", "|", ")"):
            if character in "^$":
                self.position += 1
                continue
            choices = self._atom(depth)
            times = self._times()
            for turn in range(times):
                piece = choices if isinstance(choices, str) else choices[(self._start + turn + length) % len(choices)]
                length += len(piece)
                if length > LONGEST:
                    raise NotUnderstood("the pattern asks for too long a string")
                written.append(piece)
        return "".join(written)

    def _atom(self, depth: int) -> str | list[str]:
        character = self._take()
        if character == "(":
            if self._peek() == "?":
                self._group_kind()
            text = self.alternatives(depth + 1)
            if self._take() != ")":
                raise NotUnderstood("a group is not closed")
            return text
        if character == "[":
            return self._class()
        if character == ".":
            return list("abcdefghij")
        if character == "\\":
            return self._escape()
        if character in "*+?":
            raise NotUnderstood("a quantifier has nothing to repeat")
        return character

    def _group_kind(self) -> None:
        rest = self._pattern[self.position :]
        if rest.startswith("?:"):
            self.position += 2
        elif rest.startswith(("?P<", "?<")) and not rest.startswith(("?<=", "?<!")) and ">" in rest:
            self.position += rest.index(">") + 1
        else:
            raise NotUnderstood("look-arounds and back-references are not understood")

    def _escape(self) -> str | list[str]:
        letter = self._take()
        match letter:
            case "d":
                return list(_DIGITS)
            case "w":
                return list(_WORDS)
            case "s":
                return " "
            case "D" | "S" | "W":
                return list("-.!" if letter == "W" else _WORDS[:26])
            case "A" | "Z" | "z":
                return ""
            case "b" | "B":
                raise NotUnderstood("word boundaries are not understood")
            case "x" | "u":
                return chr(self._hexadecimal(2 if letter == "x" else 4))
            case _ if letter.isdigit() and letter != "0":
                raise NotUnderstood("look-arounds and back-references are not understood")
            case _:
                return _ESCAPES.get(letter, letter)

    def _class(self) -> list[str]:
        negated = self._peek() == "^"
        if negated:
            self.position += 1
        members: list[str] = []
        first = True
        while first or self._peek() != "]":
            first = False
            member = self._member()
            following = self._pattern[self.position : self.position + 2]
            if len(member) == 1 and following[:1] == "-" and following[1:] not in ("", "]"):
                self.position += 1
                last = self._member()
                if len(last) != 1 or ord(last[0]) < ord(member[0]):
                    raise NotUnderstood("a class has a range that goes nowhere")
                members.extend(chr(code) for code in range(ord(member[0]), min(ord(last[0]), ord(member[0]) + 200) + 1))
            else:
                members.extend(member)
        self.position += 1
        if negated:
            forbidden = set(members)
            members = [character for character in _PREFERRED if character not in forbidden]
        if not members:
            raise NotUnderstood("a class has no member that could be written")
        return members

    def _member(self) -> list[str]:
        character = self._take()
        if character == "\\":
            choices = self._escape()
            return [choices] if isinstance(choices, str) else choices
        return [character]

    def _times(self) -> int:
        character = self._peek()
        if character in ("*", "+", "?"):
            self.position += 1
            times = 1
        elif character == "{" and (end := self._pattern.find("}", self.position)) > 0:
            least, comma, most = self._pattern[self.position + 1 : end].partition(",")
            if not least.isascii() or not least.isdigit() or not (most == "" or (most.isascii() and most.isdigit())):
                raise NotUnderstood("a quantifier is not a number")
            if len(least) > 5:
                raise NotUnderstood("the pattern asks for too long a string")
            self.position = end + 1
            times = max(int(least), 1) if comma and most != "0" else int(least)
        else:
            return 1
        if self._peek() in ("?", "+"):  # lazy or possessive: the same string serves
            self.position += 1
        return times

    def _hexadecimal(self, digits: int) -> int:
        written = self._pattern[self.position : self.position + digits]
        self.position += digits
        try:
            return int(written, 16)
        except ValueError:
            raise NotUnderstood("an escape is not hexadecimal") from None

    def _peek(self) -> str:
        return self._pattern[self.position : self.position + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise NotUnderstood("the pattern ends too soon")
        self.position += 1
        return character
