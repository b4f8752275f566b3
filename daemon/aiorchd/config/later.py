"""Names of the public face that this release does not carry out: refused, but with a sentence that says so.

A key that would be accepted and then ignored is worse than one that is refused. A name leaves this list when it enters
the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NOT_YET: Final[Mapping[str, str]] = MappingProxyType(
    {
        "http": "the HTTP face",
        "features": "switching features off",
        "embeddings": "batching of embeddings",
        "plans": "plans",
        "bulk": "bulk jobs",
        "alerts": "alerts",
        "advice": "advice",
        "migration": "migration modes",
        "routing.strategy": "learned routing",
        "routing.quality_threshold": "learned routing",
    }
)
"""Dotted key, ``*`` for any name, to what it will do."""


def not_yet(path: tuple[str | int, ...]) -> str | None:
    """Say what a key that is known but not carried out would do; None for any other key."""
    for pattern, what in NOT_YET.items():
        parts = pattern.split(".")
        if len(parts) == len(path) and all(want in ("*", part) for want, part in zip(parts, path, strict=True)):
            return what
    return None
