"""Manual pages as one Markdown document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiorchctl.manual.page import Block, Heading, Lines, ManualPage, Prose


def markdown(title: str, opening: Sequence[str], pages: Sequence[ManualPage]) -> str:
    """Write pages one after the other, below a title and opening lines."""
    lines = [f"# {title}", "", *opening, ""]
    for page in pages:
        lines += [f"## {page.name}", "", f"{page.purpose[0].upper()}{page.purpose[1:]}.", ""]
        for block in page.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f"#{'#' * (block.level + 1)} {block.text}"
    elif isinstance(block, Prose):
        yield _text(block.text)
    elif isinstance(block, Lines):
        yield "```"
        yield from block.lines
        yield "```"
    else:
        yield from (f"- `{term}`: {_text(meaning)}" for term, meaning in block.rows)


def _text(text: str) -> str:
    """Keep what is not between backticks from being read as markup."""
    parts = " ".join(text.split()).split("`")
    return "`".join(
        part if number % 2 else part.replace("*", "\\*").replace("<", "\\<") for number, part in enumerate(parts)
    )
