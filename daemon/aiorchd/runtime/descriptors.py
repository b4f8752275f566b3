"""How many files and sockets this process may hold open, and how many it does."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OWN: Final = 48
"""What the daemon opens besides connections: three files of SQLite with their logs, twice each; watches, pipes, lookups."""


@dataclass(frozen=True, slots=True)
class DescriptorStatistics:
    """The limit in force (``soft``), the one it may be raised to (``hard``), both None when there is none, and how many
    are ``open``, None where /proc does not tell.
    """

    soft: int | None
    hard: int | None
    open: int | None


def raise_limit() -> None:
    """Raise the limit in force as far as this process may. It is low by custom only, for programs that use select(2),
    which cannot count beyond 1024; nothing here does, and children, who might, are never started.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # then the lower one holds; `aiorchctl doctor` says what that means


def descriptor_statistics() -> DescriptorStatistics:
    """Tell limit and use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        count: int | None = len(tuple(Path("/proc/self/fd").iterdir())) - 1  # one of them is that of the listing
    except OSError:
        count = None
    return DescriptorStatistics(_number(soft), _number(hard), count)


def most_connections(wanted: int, pools: Iterable[int]) -> int:
    """Give how many clients may come of the ``wanted`` ones, so that files and providers can be reached however many do.

    ``pools`` are the connections that each provider may take; all together are given a quarter of the limit at most.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - _OWN - min(sum(pools), soft // 4)))


def _number(limit: int) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit
