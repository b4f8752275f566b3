"""How much of some stretches of time lies on top of each other, so that what runs side by side is not added up as if it came
one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Stretch: TypeAlias = tuple[float, float]
"""From when to when, in seconds."""


def together(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Join those that touch, in order: what is left covers the same moments, each once."""
    joined: list[Stretch] = []
    for begin, end in sorted(stretches):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined


def length_s(stretches: Iterable[Stretch]) -> float:
    """Add up their lengths."""
    return sum(end - begin for begin, end in stretches)


def doubled_s(stretches: Sequence[Stretch]) -> float:
    """Tell how much too long the sum of their lengths is for the time in which any of them was."""
    return length_s(stretches) - length_s(together(stretches))


def shared_s(stretch: Stretch, others: Iterable[Stretch]) -> float:
    """Tell how much of one lies within others that do not touch each other."""
    return sum(max(0.0, min(stretch[1], end) - max(stretch[0], begin)) for begin, end in others)
