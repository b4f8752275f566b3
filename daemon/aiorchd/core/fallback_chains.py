"""Who is asked after whom: by model, and by what went wrong.

There are three lists, each for all models together and, where a model has its own, for that one instead:

* ``fallback``: after any failure that goes on at all;
* ``context_window``: after the prompt was too long. Left out, the usual list serves, without models that are known to take
  no more than the one that refused;
* ``content_filter``: after the answer was withheld. Left out, the usual list serves.

A chain is not transitive: the lists of the model that was asked first hold for the whole call, those for a kind of failure
are the lists of the model that failed so. Each model is asked once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

FallbackKind: TypeAlias = Literal["failure", "context_window", "content_filter", "switched_off"]

KIND_OF: Final[Mapping[str, FallbackKind]] = {
    "context_exceeded": "context_window",
    "content_filtered": "content_filter",
}
"""Error code to the kind of fallback it takes; any other code is a ``failure``."""


@dataclass(frozen=True, slots=True)
class Fallbacks:
    """The lists of one model, or of all; None where it has none of its own."""

    fallback: tuple[str, ...] | None = None
    context_window: tuple[str, ...] | None = None
    content_filter: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class FallbackChains:
    """The lists of all and of single models; immutable, as the configuration has it.

    ``context_tokens`` is how much a model takes, for those of which it is known; ``enabled`` the models there are, in their
    order. Names that are not among them are passed over.
    """

    enabled: tuple[str, ...]
    general: Fallbacks = Fallbacks()
    own: Mapping[str, Fallbacks] = field(default_factory=dict)
    context_tokens: Mapping[str, int] = field(default_factory=dict)

    def usual(self, first: str | None) -> tuple[str, ...]:
        """Give the usual chain: the model asked for, if it is there, and its fallbacks."""
        own = None if first is None else self.own.get(first, Fallbacks()).fallback
        following = own if own is not None else self.general.fallback or ()
        return self._there((first, *following) if first is not None else following)

    def after(
        self, failed: str, code: str, remaining: Sequence[str], asked: Iterable[str]
    ) -> tuple[FallbackKind, tuple[str, ...]]:
        """Say who is left to be asked after ``failed`` ended with this error code, and what kind of fallback that is."""
        kind = KIND_OF.get(code, "failure")
        if kind == "failure":
            return kind, tuple(remaining)
        own, general = self.own.get(failed, Fallbacks()), self.general
        special = getattr(own, kind) if getattr(own, kind) is not None else getattr(general, kind)
        if special is not None:
            gone = {failed, *asked}
            return kind, tuple(name for name in self._there(special) if name not in gone)
        takes = self.context_tokens.get(failed)
        if kind == "context_window" and takes is not None:
            return kind, tuple(name for name in remaining if self.context_tokens.get(name, takes + 1) > takes)
        return kind, tuple(remaining)

    def candidates(self, first: str | None) -> tuple[str, ...]:
        """Give everybody who may come to answer a call for this model: what its answers depend on."""
        found = dict.fromkeys(self.usual(first))
        waiting = list(found)
        while waiting:
            own = self.own.get(waiting.pop(), Fallbacks())
            for kind in ("context_window", "content_filter"):
                special = getattr(own, kind) if getattr(own, kind) is not None else getattr(self.general, kind)
                for name in self._there(special or ()):
                    if name not in found:
                        found[name] = None
                        waiting.append(name)
        return tuple(found)

    def _there(self, names: Iterable[str | None]) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(names) if name is not None and name in self.enabled)
