"""What a caller asked, checked and in plain records, before it becomes a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["chat", "embed"]
CacheMode: TypeAlias = Literal["use", "refresh", "bypass", "only"]
CacheTier: TypeAlias = Literal["hybrid", "memory", "disk", "off"]
Priority: TypeAlias = Literal["interactive", "normal", "bulk"]


class Question(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The arguments of ``complete`` or ``embed``.

    ``request`` is what determines the answer (see `Call.request`); everything else says how to treat the call, by the
    names of the wire. ``timeout_s``, ``cache_ttl_s`` and ``cache_samples`` are None where the configuration decides. ``key``
    is the caller's own name for this question: the same key from the same caller gets the same answer for ten minutes.
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
    cache_samples: int | None = None
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
    operation: str | None = None
    """The kind of work that is done on ``input``; ``request`` then holds only what the caller said besides."""
    input: Any = None
    models: tuple[str, ...] = ()
    """Who may answer, in order; empty where the usual chain serves."""
    keep_s: float | None = None
    """How long its answer is fresh where ``cache_ttl_s``, which is the caller's own, does not say."""
    stale_s: float | None = None
    """How long after that it may still be given; None where the configuration of the cache alone decides."""
    tier: CacheTier | None = None
    """Where its answer may be kept; None where the configuration of the cache alone decides."""
    shared: bool = False
    """Whether its kept answer is everybody's within the partition."""
    batch: bool = True
    """Whether it may be asked together with others, where its operation allows that."""


class Prepared(msgspec.Struct, frozen=True, eq=False):
    """A question with its identity worked out by the pipeline that made it."""

    question: Question
    key: bytes | None
    """None when the answer may neither be looked up nor shared."""
    owner: object
    quick: bool
    """Whether a hit may be answered in the reader: not streamed, and nothing about it needs a task."""
    samples: int = 0
    """See `Call.samples`."""
    exact_key: bytes | None = None
    """Where ``key`` is that of the question without its noise: the question's own."""
    asked: Question | None = None
    """As the caller asked, where an operation made the question of it."""
