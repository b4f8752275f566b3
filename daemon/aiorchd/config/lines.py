"""On which line of a TOML text each key stands.

`tomllib` gives values without positions. This reads the same text once more, only for the places of keys, and trusts
that `tomllib` accepted it; on anything else it finds fewer places and never fails.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

DEEPEST: Final = 16
"""Parts of a path that are looked at; nothing in the schema is deeper, and a hostile text may be."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_BASIC = re.compile(r'"((?:[^"\\\n]+|\\.)*)"')
_LITERAL = re.compile(r"'([^'\n]*)'")
_LONG_BASIC = re.compile(r'"""(?:[^\\"]+|\\[\s\S]|"(?!""))*"""(?:"{0,2})')
_LONG_LITERAL = re.compile(r"'''[\s\S]*?'''(?:'{0,2})")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_SHORT_ESCAPES: Final[Mapping[str, str]] = MappingProxyType({"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"})


class Lines:
    """Lines by path. A path that has none of its own answers with the nearest one above it."""

    def __init__(self, found: Mapping[Path, int]) -> None:
        self._found = found

    def line(self, path: Path) -> int | None:
        """Give the line, from 1, of the key or of the nearest table around it; None when neither is in the text."""
        for length in range(min(len(path), DEEPEST), 0, -1):
            line = self._found.get(path[:length])
            if line is not None:
                return line
        return None

    def paths(self) -> frozenset[Path]:
        """Every path that has a place in the text."""
        return frozenset(self._found)


def find_lines(text: str) -> Lines:
    """Read the places of all keys from a text that `tomllib` accepts. Takes time in proportion to its length."""
    return Lines(_Reader(text.replace("\r\n", "\n")).read())


class _Reader:
    """One pass over the text: headers, keys, and the keys inside inline tables and arrays."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._found: dict[Path, int] = {}
        self._items: dict[Path, int] = {}  # how many [[headers]] an array of tables has had

    def read(self) -> dict[Path, int]:
        table: Path = ()
        while True:
            self._skip_blank()
            if self._at >= len(self._text):
                return self._found
            before = self._at
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            if self._at == before:  # not TOML after all
                return self._found

    def _skip_blank(self) -> None:
        match = _BLANK.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _note(self, path: Path, at: int) -> None:
        """Remember a path and the tables that it brings into being, each at its first mention."""
        line = bisect_right(self._breaks, at - 1) + 1
        for length in range(1, min(len(path), DEEPEST) + 1):
            self._found.setdefault(path[:length], line)

    def _header(self) -> Path:
        start = self._at
        many = self._text.startswith("[[", start)
        self._at += 2 if many else 1
        parts = self._key()
        self._at = self._end_of_line()
        path: Path = ()
        for number, part in enumerate(parts):
            path = (*path, part)
            if many and number == len(parts) - 1:
                self._items[path] = self._items.get(path, -1) + 1
            if path in self._items:
                path = (*path, self._items[path])
        self._note(path, start)
        return path

    def _end_of_line(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _pair(self, table: Path) -> None:
        start = self._at
        path = (*table, *self._key())
        self._note(path, start)
        self._skip_blank()
        if self._peek() == "=":
            self._at += 1
            self._value(path)

    def _key(self) -> Path:
        """Read a key, dotted or not, up to what follows it."""
        parts: list[str] = []
        while True:
            self._skip_blank()
            part = self._key_part()
            if part is None:
                return tuple(parts)
            if len(parts) < DEEPEST:
                parts.append(part)
            self._skip_blank()
            if self._peek() != ".":
                return tuple(parts)
            self._at += 1

    def _key_part(self) -> str | None:
        for pattern in (_BASIC, _LITERAL, _BARE_KEY):
            match = pattern.match(self._text, self._at)
            if match is not None:
                self._at = match.end()
                return _unescape(match[1]) if pattern is _BASIC else match[match.re.groups]
        return None

    def _value(self, path: Path) -> None:
        """Pass over one value, noting the keys inside it; nested ones on a stack, for texts that nest without end."""
        inside: list[tuple[str, Path]] = []
        positions: list[int] = []
        while True:
            self._skip_blank()
            opened = self._peek()
            if opened in ("[", "{"):
                self._at += 1
                inside.append((opened, path))
                positions.append(0)
            else:
                self._scalar()
            next_path = self._next_inside(inside, positions)
            if next_path is None:
                return
            path = next_path

    def _next_inside(self, inside: list[tuple[str, Path]], positions: list[int]) -> Path | None:
        """After a value or an opening bracket: the path of the next value, or None when all brackets are closed."""
        while inside:
            self._skip_blank()
            character = self._peek()
            kind, path = inside[-1]
            if character == ",":
                self._at += 1
                positions[-1] += 1
            elif character in ("]", "}", ""):
                self._at += 1
                inside.pop()
                positions.pop()
            elif kind == "[":
                item = (*path[:DEEPEST], positions[-1])
                self._note(item, self._at)
                return item
            else:
                start = self._at
                item = (*path[:DEEPEST], *self._key())
                self._note(item, start)
                self._skip_blank()
                if self._peek() != "=":
                    return None
                self._at += 1
                return item
        return None

    def _scalar(self) -> None:
        for pattern in (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL, _SCALAR):
            match = pattern.match(self._text, self._at)
            if match is not None:
                self._at = match.end()
                return


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else _SHORT_ESCAPES.get(match[3], match[3])

    return _ESCAPE.sub(one, text)
