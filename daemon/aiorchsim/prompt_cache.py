"""Prompt caching as providers do it: the beginning of a prompt that came before counts as cached.

A dialect marks the places of a prompt up to which it can be cached (`Mark`): after every 128 tokens where caching is
automatic, at the breakpoints of the request where it is asked for. Looked up is from the last mark to the first; what
was found is read again for another lifetime, and the marks behind it are written. An entry can be read once the call
that wrote it has begun to be answered. Pure: the time is handed in. At most `MOST_ENTRIES` are kept, the one used
longest ago goes first.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

MOST_ENTRIES: Final = 50_000
LEAST_TOKENS: Final = 1024
"""Shorter beginnings are not cached, by any of the providers simulated here."""
STEP_TOKENS: Final = 128
KEPT_S: Final = 300.0
LONG_KEPT_S: Final = 3600.0
CHARACTERS_PER_STEP: Final = STEP_TOKENS * 4


class Mark(NamedTuple):
    """A place in a prompt. `digest` stands for everything before it, `tokens` is how long that is."""

    digest: bytes
    tokens: int
    kept_s: float
    """How long an entry written here is kept after its last use; 0: only looked up here."""
    billed: bool
    """Whether writing counts, at its own price."""


class Cached(NamedTuple):
    """What the cache meant for one prompt, in tokens; they are part of the prompt's tokens."""

    read: int = 0
    written: int = 0
    written_long: int = 0
    """Written to be kept for an hour."""


NOTHING_CACHED: Final = Cached()


class PromptCache:
    """The entries of one provider, of all its models."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, bytes], tuple[float, float, float]] = {}

    def use(self, model: str, marks: Sequence[Mark], now: float, ready: float) -> Cached:
        """Look a prompt up and write it; `ready` is when the answer begins."""
        read = 0
        for mark in reversed(marks):
            entry = self._entries.get((model, mark.digest))
            if entry is not None and entry[0] <= now < entry[1]:
                read = mark.tokens
                break
        written = {KEPT_S: 0, LONG_KEPT_S: 0}
        behind = read
        for mark in marks:
            if mark.tokens <= read:
                entry = self._entries.get((model, mark.digest))
                if entry is not None and entry[0] <= now < entry[1]:
                    self._keep((model, mark.digest), entry[0], now, entry[2])
            elif mark.kept_s:
                self._keep((model, mark.digest), ready, ready, mark.kept_s)
                if mark.billed:
                    written[mark.kept_s] += mark.tokens - behind
                    behind = mark.tokens
        return Cached(read, written[KEPT_S], written[LONG_KEPT_S])

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _keep(self, place: tuple[str, bytes], ready: float, used: float, kept_s: float) -> None:
        before = self._entries.pop(place, None)
        if before is not None and before[0] < ready and before[1] > used:
            ready = before[0]  # it can be read already
        elif len(self._entries) >= MOST_ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[place] = (ready, used + kept_s, kept_s)


def automatic_marks(prompt: str, tokens: int) -> tuple[Mark, ...]:
    """The marks where a provider caches by itself: from 1,024 tokens on, every 128. `prompt` is all of it as one text."""
    return tuple(_automatic_marks(prompt, tokens)) if tokens >= LEAST_TOKENS else ()


def _automatic_marks(prompt: str, tokens: int) -> Iterator[Mark]:
    material = prompt.encode("utf-32-le", "surrogatepass")
    size = CHARACTERS_PER_STEP * 4
    hashed = blake2b(digest_size=12)
    for step in range(1, min(len(material) // size, tokens // STEP_TOKENS) + 1):
        hashed.update(material[(step - 1) * size : step * size])
        if step * STEP_TOKENS >= LEAST_TOKENS:
            yield Mark(hashed.digest(), step * STEP_TOKENS, KEPT_S, billed=False)
