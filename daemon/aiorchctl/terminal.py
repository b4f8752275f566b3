"""Pages on a terminal, drawn by rich. Loaded only when there is one: rich costs a command more than everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from aiorchctl.page import Block, Cell, Fields, Page, Paragraph, Table, Tone, text_of

_CLEAR: Final = "\x1b[H\x1b[J"
_SLIVER: Final = 14
"""Text is folded to no fewer characters in a column than this."""
_BETWEEN: Final = 3
"""Characters between two columns."""
_STYLES: Final[Mapping[Tone, str]] = {
    "plain": "",
    "good": "green",
    "bad": "bold red",
    "doubtful": "yellow",
    "quiet": "dim",
    "strong": "bold",
}


def draw(page: Page, stream: TextIO) -> None:
    """Draw a page on a terminal."""
    _draw(page, Console(file=stream, highlight=False))


def redraw(page: Page, stream: TextIO) -> None:
    """Draw a page in place of what the terminal shows, in one go so that nothing flickers; what does not fit below its
    last line is left out.
    """
    console = Console(file=stream, highlight=False)
    with console.capture() as drawn:
        _draw(page, console)
    lines = drawn.get().splitlines()[: max(1, console.height - 1)]
    stream.write(_CLEAR + "\n".join(lines) + "\n")


def _draw(page: Page, console: Console) -> None:
    before: Block | None = None
    for block in page:
        if before is not None and not (isinstance(before, Paragraph) and isinstance(block, Paragraph)):
            console.print()
        title = None if isinstance(block, Paragraph) else block.title
        if title is not None:
            console.print(Text(title, style="bold"))
        console.print(renderable(block, console.width))
        before = block


def renderable(block: Block, width: int) -> RenderableType:
    """Give a block, without its title, the form that rich draws in so many columns of characters."""
    if isinstance(block, Paragraph):
        return _text(block.words)
    if isinstance(block, Fields):
        grid = RichTable.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in block.rows:
            grid.add_row(Text(name), _text(value))
        return grid
    if _least_width(block) > width:
        return _cards(block)
    table = RichTable(box=box.SIMPLE_HEAD, header_style="cyan", show_edge=False, pad_edge=False)
    for number, column in enumerate(block.columns):
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=column.right or number == 0,
        )
    for row in block.rows:
        table.add_row(*(_text(cell) for cell in row))
    return table


def _least_width(table: Table) -> int:
    """How narrow a table may be drawn: names and numbers whole, other text folded, but not to slivers."""
    widths = []
    for number, column in enumerate(table.columns):
        widest = max(map(cell_len, [column.name, *(text_of(row[number]) for row in table.rows)]))
        widths.append(widest if column.right or number == 0 else min(widest, max(_SLIVER, cell_len(column.name))))
    return sum(widths) + _BETWEEN * (len(widths) - 1)


def _cards(table: Table) -> RenderableType:
    """Draw each row for itself, a line for each of its cells: on a terminal where the columns have no room."""
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for number, row in enumerate(table.rows):
        if number:
            grid.add_row()
        for column, cell in zip(table.columns, row, strict=True):
            if text_of(cell):
                grid.add_row(Text(column.name), _text(cell))
    return grid


def _text(cell: Cell) -> Text:
    """Make rich's text; never markup, since names and answers may hold brackets."""
    return Text(text_of(cell), style="" if isinstance(cell, str) else _STYLES[cell.tone])
