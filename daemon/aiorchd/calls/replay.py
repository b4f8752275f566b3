"""A whole answer as a stream: for whoever asked for pieces of what is there already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aiorchd.calls.ports import DeltaSink
from aiorchd.calls.reply import Reply

_PIECES: Final = 64
"""A long text comes in about so many."""
_LEAST_CHARACTERS: Final = 24
_MOST_CHARACTERS: Final = 2000


async def replay(reply: Reply, sink: DeltaSink) -> None:
    """Send ``reply`` to ``sink``: its text in pieces, then its tool calls in OpenAI's delta shape, one at a time."""
    for piece in pieces(reply.text):
        await sink.send(text=piece)
    for index, call in enumerate(reply.tool_calls):
        await sink.send(tool_calls=[{"index": index, **call}])


def pieces(text: str) -> Iterator[str]:
    """Cut a text after blanks where there are some: a few words in each piece, more in those of a long text."""
    size = min(max(_LEAST_CHARACTERS, len(text) // _PIECES), _MOST_CHARACTERS)
    start = 0
    while start < len(text):
        end = start + size
        if end < len(text):
            blank = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
            end = blank + 1 if blank > start else end
        yield text[start:end]
        start = end
