"""What a command shows a person, apart from where: blocks of text, fields and tables.

On a terminal rich draws them (`aiorchctl.terminal`, loaded only then); into a pipe or a file they go as plain aligned
text that does not change with the width of anything, fit for ``grep`` and ``awk``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TextIO, TypeAlias

Tone: TypeAlias = Literal["plain", "good", "bad", "doubtful", "quiet", "strong"]


@dataclass(frozen=True, slots=True)
class Words:
    """Text with a tone, which is its colour on a terminal and nothing elsewhere."""

    text: str
    tone: Tone = "plain"


Cell: TypeAlias = str | Words


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One or more lines of text."""

    words: Cell


@dataclass(frozen=True, slots=True)
class Fields:
    """Names with values, one a line, the values aligned."""

    rows: Sequence[tuple[str, Cell]]
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; numbers stand to the right."""

    name: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str | None = None


Block: TypeAlias = Paragraph | Fields | Table
Page: TypeAlias = Sequence[Block]

_GAP: Final = "  "


def show(page: Page, stream: TextIO | None = None) -> None:
    """Write a page to a stream (standard output), drawn when that is a terminal."""
    stream = sys.stdout if stream is None else stream
    if stream.isatty():
        from aiorchctl.terminal import draw

        draw(page, stream)
    else:
        stream.write(plain(page))


def plain(page: Page) -> str:
    """Write a page as plain text; blocks are parted by an empty line, except paragraphs that follow each other."""
    parts: list[str] = []
    before: Block | None = None
    for block in page:
        if before is not None and not (isinstance(before, Paragraph) and isinstance(block, Paragraph)):
            parts.append("")
        parts.extend(_lines(block))
        before = block
    return "".join(f"{line.rstrip()}\n" for line in parts)


def text_of(cell: Cell) -> str:
    """Take the text, without its tone and without what would steer a terminal."""
    return harmless(cell if isinstance(cell, str) else cell.text)


def harmless(text: str) -> str:
    """Replace control characters except line breaks and tabs: names and answers come from elsewhere, and escape
    sequences in them could steer the terminal they are shown on.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character in "\n\t" or not (ord(character) < 32 or 127 <= ord(character) < 160)
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _lines(block: Block) -> list[str]:
    if isinstance(block, Paragraph):
        return text_of(block.words).split("\n")
    lines = [block.title] if block.title is not None else []
    if isinstance(block, Fields):
        width = max((len(name) for name, _ in block.rows), default=0)
        for name, value in block.rows:
            first, *more = text_of(value).split("\n")
            lines.append(f"{name.ljust(width)}{_GAP}{first}")
            lines.extend(f"{' ' * width}{_GAP}{line}" for line in more)
        return lines
    rows = [[text_of(cell).replace("\n", " ") for cell in row] for row in block.rows]
    widths = [max([len(column.name), *(len(row[i]) for row in rows)]) for i, column in enumerate(block.columns)]
    for row in ([column.name for column in block.columns], *rows):
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, block.columns, strict=True)
        ]
        lines.append(_GAP.join(cells))
    return lines
