"""How many files and sockets this process may hold open, and how many it does."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path


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


def _number(limit: int) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit
