"""Taking somebody's own words out of a text about them.

Providers repeat parts of a prompt in their errors (a validator shows the value it did not like), and what is kept of a
call holds no prompt. Every run of at least `SHORTEST_RUN` characters that the text shares with the content is replaced,
and every piece of content that stands in it whole.

A run that long holds at least one whole window of `_WINDOW` characters that begins at a multiple of it in the text, so only
those are looked for, and what is found is widened to both sides: for an error of 300 characters and a prompt of 10 kB some
40 searches, 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

REMOVED: Final = "[...]"

SHORTEST_RUN: Final = 15
"""Shorter ones are words that everybody uses."""

MOST_CHARACTERS: Final = 262_144
"""Content beyond this is not searched: it would hold everybody else up."""

_CONTENT: Final = ("messages", "input", "user", "metadata", "extra")
_WINDOW: Final = 8
_SHORTEST_PIECE: Final = 8
_PLACES: Final = 8
"""As many places of a window in the content are widened; a window that is there more often says little."""


def unquote(text: str, content: Iterable[str]) -> str:
    """Give ``text`` without what it quotes of ``content``; only a note that it was not kept when there is too much of it."""
    pieces = [piece for piece in content if len(piece) >= _SHORTEST_PIECE]
    if sum(map(len, pieces)) > MOST_CHARACTERS:
        return REMOVED
    runs = sorted(run for piece in pieces for run in _shared(text, piece))
    kept: list[str] = []
    at = 0
    for begin, end in runs:
        if end <= at:
            continue
        if begin > at or not kept:
            kept.append(text[at:begin])
        at = end
    if not runs:
        return text
    return REMOVED.join([*kept, text[at:]])


def content_of(request: Mapping[str, Any]) -> Iterator[str]:
    """Find the texts of a request that are somebody's own words, or tell who they are."""
    for name in _CONTENT:
        yield from texts_in(request.get(name))


def texts_in(value: Any) -> Iterator[str]:
    """Find every text in plain data, the names of fields aside."""
    level = [value]
    while level:
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                yield one
            elif isinstance(one, Mapping):
                below.extend(one.values())
            elif isinstance(one, list | tuple):
                below.extend(one)
        level = below


def _shared(text: str, piece: str) -> Iterator[tuple[int, int]]:
    """Find what of ``text`` stands in ``piece``, from where to where."""
    if len(piece) < SHORTEST_RUN:
        at = text.find(piece)
        while at >= 0:
            yield at, at + len(piece)
            at = text.find(piece, at + len(piece))
        return
    done = 0
    for begin in range(0, len(text) - _WINDOW + 1, _WINDOW):
        if begin + _WINDOW <= done:
            continue
        run = _widest(text, begin, piece)
        if run is not None:
            done = run[1]
            yield run


def _widest(text: str, begin: int, piece: str) -> tuple[int, int] | None:
    """Widen a window at the places where it stands in ``piece``; None when nothing long enough comes of it."""
    window = text[begin : begin + _WINDOW]
    best: tuple[int, int] | None = None
    place = piece.find(window)
    for _ in range(_PLACES):
        if place < 0:
            break
        left, right = begin, begin + _WINDOW
        back, on = place, place + _WINDOW
        while left > 0 and back > 0 and text[left - 1] == piece[back - 1]:
            left, back = left - 1, back - 1
        while right < len(text) and on < len(piece) and text[right] == piece[on]:
            right, on = right + 1, on + 1
        if right - left >= SHORTEST_RUN and (best is None or right - left > best[1] - best[0]):
            best = left, right
        place = piece.find(window, place + 1)
    return best
