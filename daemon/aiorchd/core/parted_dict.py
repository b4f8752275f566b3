"""A dict in parts, so that growing never copies all of it at once.

A dict of a hundred thousand keys that becomes too small is copied in one go, which takes some milliseconds, and three that
grow together take three times as long. Here a key belongs to a part by ``part_of``; a part that is empty goes. What is given
in order is the parts, the oldest first, and within a part its keys: where ``part_of`` never goes back to a part that others
came after (a number that counts up, without its last digits), that is the order in which all were put in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class PartedDict(Generic[KeyT, ValueT]):
    """As much of a dict as is needed."""

    def __init__(self, part_of: Callable[[KeyT], Hashable]) -> None:
        self._part_of = part_of
        self._parts: dict[Hashable, dict[KeyT, ValueT]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: KeyT) -> bool:
        return key in self._parts.get(self._part_of(key), ())

    def __iter__(self) -> Iterator[KeyT]:
        return chain.from_iterable(self._parts.values())

    def __getitem__(self, key: KeyT) -> ValueT:
        return self._parts[self._part_of(key)][key]

    def __setitem__(self, key: KeyT, value: ValueT) -> None:
        part = self._parts.setdefault(self._part_of(key), {})
        before = len(part)
        part[key] = value
        self._size += len(part) - before

    def get(self, key: KeyT) -> ValueT | None:
        """Give what is under a key, or None."""
        part = self._parts.get(self._part_of(key))
        return None if part is None else part.get(key)

    def pop(self, key: KeyT) -> ValueT | None:
        """Take out what is under a key; None when there is nothing."""
        place = self._part_of(key)
        part = self._parts.get(place)
        if part is None or key not in part:
            return None
        value = part.pop(key)
        self._size -= 1
        if not part:
            del self._parts[place]
        return value

    def values(self) -> Iterator[ValueT]:
        """Give all values; while going through them nothing may be put in or taken out."""
        return chain.from_iterable(part.values() for part in self._parts.values())
