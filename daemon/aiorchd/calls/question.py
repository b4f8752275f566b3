"""What a caller asked, checked and in plain records, before it becomes a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["chat", "embed"]
CacheMode: TypeAlias = Literal["use", "refresh", "bypass", "only"]
Priority: TypeAlias = Literal["interactive", "normal", "bulk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The arguments of ``complete`` or ``embed``.

    ``request`` is what determines the answer (see `Call.request`); everything else says how to treat the call, by the
    names of the wire. ``timeout_s`` and ``cache_ttl_s`` are None where the configuration decides. ``key`` is the caller's
    own name for this question: the same key from the same caller gets the same answer for ten minutes.
    """

    kind: Kind
    request: Mapping[str, Any]
    model: str | None = None
    task: str | None = None
    timeout_s: float | None = None
    priority: Priority = "normal"
    stream: bool = False
    cache: CacheMode = "use"
    cache_ttl_s: float | None = None
    cache_samples: int = 0
    partition: str = ""
    key: str | None = None
    call_id: str | int | None = None
    notify: tuple[Any, ...] | None = None
    tags: tuple[str, ...] = ()
    session: str | None = None
    quality_threshold: float | None = None
    cost_limit_usd: float | None = None
    vectors_as_bytes: bool = False
    host: tuple[Any, ...] | None = None
    """Not None: the caller itself answers for the model of this call. Empty, or the method and the leading arguments by
    which it wants to be asked."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A question with its identity worked out by the pipeline that made it."""

    question: Question
    key: bytes | None
    """None when the answer may neither be looked up nor shared."""
    owner: object
    quick: bool
    """Whether a hit may be answered in the reader: not streamed, and nothing about it needs a task."""
    samples: int = 0
    """See `Call.samples`."""
