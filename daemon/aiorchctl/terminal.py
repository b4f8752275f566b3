"""Pages on a terminal, drawn by rich. Loaded only when there is one: rich costs a command more than everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from aiorchctl.page import Block, Cell, Fields, Page, Paragraph, Tone, text_of

_CLEAR: Final = "\x1b[H\x1b[J"
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
        console.print(renderable(block))
        before = block


def renderable(block: Block) -> RenderableType:
    """Give a block, without its title, the form that rich draws."""
    if isinstance(block, Paragraph):
        return _text(block.words)
    if isinstance(block, Fields):
        grid = RichTable.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in block.rows:
            grid.add_row(Text(name), _text(value))
        return grid
    table = RichTable(box=box.SIMPLE_HEAD, header_style="cyan", show_edge=False, pad_edge=False)
    for column in block.columns:
        table.add_column(column.name, justify="right" if column.right else "left", overflow="fold")
    for row in block.rows:
        table.add_row(*(_text(cell) for cell in row))
    return table


def _text(cell: Cell) -> Text:
    """Make rich's text; never markup, since names and answers may hold brackets."""
    return Text(text_of(cell), style="" if isinstance(cell, str) else _STYLES[cell.tone])
