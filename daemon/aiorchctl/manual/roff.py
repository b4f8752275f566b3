"""Manual pages in the man(7) language, as groff and mandoc read it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from aiorch.version import __version__
from aiorchctl.manual.page import Block, Heading, Lines, ManualPage, Prose, Terms

RELEASED: Final = "2026-11-28"
"""The date in the foot of the pages; it changes with the version."""

_WIDTH: Final = 78

_NOTE: Final = '.\\" Made from the programs and the schema: make docs'


def roff(page: ManualPage) -> str:
    """Write a page."""
    lines = [
        _NOTE,
        f'.TH {page.name.upper()} {page.section} {RELEASED} "aiorch {__version__}" "aiorch"',
        ".SH NAME",
        f"{_plain(page.name)} \\- {_escaped(page.purpose)}",
    ]
    before: Block | None = None
    for block in page.blocks:
        lines += _block(block, before)
        before = block
    return "\n".join(lines) + "\n"


def _block(block: Block, before: Block | None) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f".{'SH' if block.level == 1 else 'SS'} {_quoted(block.text.upper() if block.level == 1 else block.text)}"
    elif isinstance(block, Prose):
        if not isinstance(before, Heading):
            yield ".PP"
        yield from _inline(block.text)
    elif isinstance(block, Terms):
        for term, meaning in block.rows:
            yield ".TP"
            yield f"\\fB{_plain(term)}\\fR"
            yield from _inline(meaning)
    else:
        yield from _lines(block, before)


def _lines(block: Lines, before: Block | None) -> Iterator[str]:
    if not isinstance(before, Heading):
        yield ".PP"
    yield ".RS 4"
    yield ".nf"
    yield from (_plain(line) for line in block.lines)
    yield ".fi"
    yield ".RE"


def _inline(text: str) -> Iterator[str]:
    """Write prose; what is between backticks in bold, as manual pages have it."""
    parts = re.split(r"`([^`]*)`", " ".join(text.split()))
    written = "".join(
        f"\\fB{_escaped(part)}\\fR" if number % 2 else _escaped(part) for number, part in enumerate(parts)
    )
    yield from map(_guarded, textwrap.wrap(written, _WIDTH, break_long_words=False, break_on_hyphens=False))


def _plain(text: str) -> str:
    return _guarded(_escaped(text))


def _quoted(text: str) -> str:
    return '"' + _escaped(text).replace('"', "\\(dq") + '"' if " " in text else _escaped(text)


def _escaped(text: str) -> str:
    """Escape what roff would read as its own. A minus stays one, so that options can be copied; hyphens within words do not
    need it.
    """
    escaped = text.replace("\\", "\\e").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    return re.sub(r"(?<![A-Za-z])-|-(?![A-Za-z])", r"\\-", escaped)


def _guarded(line: str) -> str:
    """Keep a line that begins with a full stop from being read as a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
