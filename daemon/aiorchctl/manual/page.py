"""A manual page apart from its form: headings, prose, terms with their meaning, and lines to be typed.

In all text, what stands between backticks is literal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section (``level`` 1) or of a part of one (2)."""

    text: str
    level: int = 1


@dataclass(frozen=True, slots=True)
class Prose:
    """One paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Terms:
    """Literal terms, such as options or keys, each with what it means."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines as they are typed or stand in a file."""

    lines: Sequence[str]


Block: TypeAlias = Heading | Prose | Terms | Lines


@dataclass(frozen=True, slots=True)
class ManualPage:
    """One page: ``name`` and ``section`` as in aiorchctl(1), ``purpose`` in a few words without a full stop."""

    name: str
    section: int
    purpose: str
    blocks: Sequence[Block]

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.{self.section}"
