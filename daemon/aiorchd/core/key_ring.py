"""Which of a provider's keys may be used, and which one is next.

A key that was refused (401) is set aside for every model, one that may not use a model (403) for that model, one whose
account has no credit left for every model. It gets another chance when the secret at its place has changed, and one call
in a while otherwise: providers do refuse good keys now and then, and nobody should have to restart a daemon for that. Where
there is only one key it is never set aside; that it was refused is told all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

ASIDE_S: Final = 300.0
"""A key that was set aside is tried again after so long."""

Trouble: TypeAlias = Literal["refused", "forbidden", "no_credit"]


@dataclass(frozen=True, slots=True)
class KeyState:
    """How one key fares. ``trouble`` is None while it is well; ``models`` are those that it may not use."""

    name: str
    trouble: str | None
    models: tuple[str, ...]
    since_s: float | None
    """How long ago it began."""
    used: int


class _Key:
    __slots__ = ("at", "last_used", "mark", "models", "trouble", "used")

    def __init__(self, mark: bytes) -> None:
        self.mark = mark
        self.trouble: Trouble | None = None
        self.at = 0.0
        self.models: dict[str, float] = {}
        self.used = 0
        self.last_used = 0


class KeyRing:
    """The keys of one provider, by name. Mutable; outlives the configuration."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self._turns = 0

    def reconfigure(self, marks: Mapping[str, bytes]) -> None:
        """Take the keys of a configuration, each with a mark of its secret: another mark is another key, and has done
        nothing wrong yet."""
        kept = self._keys
        self._keys = {
            name: kept[name] if name in kept and kept[name].mark == mark else _Key(mark) for name, mark in marks.items()
        }

    def usable(self, name: str, model: str, now: float) -> bool:
        """Tell whether a key may be tried for a model."""
        key = self._keys.get(name)
        if key is None or len(self._keys) == 1:
            return True
        if key.trouble is not None and now < key.at + ASIDE_S:
            return False
        at = key.models.get(model)
        return at is None or now >= at + ASIDE_S

    def use(self, name: str) -> None:
        """This key is used now."""
        key = self._keys.get(name)
        if key is not None:
            self._turns += 1
            key.last_used = self._turns
            key.used += 1

    def last_used(self, name: str) -> int:
        """Give a number that is lower the longer ago a key was used."""
        key = self._keys.get(name)
        return 0 if key is None else key.last_used

    def in_trouble(self, name: str, model: str, trouble: Trouble, now: float) -> bool:
        """A key cannot be used; tell whether that is news."""
        key = self._keys.get(name)
        if key is None:
            return False
        if trouble == "forbidden":
            news = model not in key.models
            key.models[model] = now
            return news
        news = key.trouble != trouble
        key.trouble, key.at = trouble, now
        return news

    def well(self, name: str, model: str) -> bool:
        """A key was taken; tell whether that is news."""
        key = self._keys.get(name)
        if key is None or (key.trouble is None and not key.models):
            return False
        news = key.trouble is not None or model in key.models
        key.trouble = None
        key.models.pop(model, None)
        return news

    def states(self, now: float) -> Sequence[KeyState]:
        """Tell how all of them fare."""
        return tuple(
            KeyState(
                name=name,
                trouble=key.trouble or ("forbidden" if key.models else None),
                models=tuple(key.models),
                since_s=now - (key.at if key.trouble else min(key.models.values()))
                if key.trouble or key.models
                else None,
                used=key.used,
            )
            for name, key in self._keys.items()
        )
