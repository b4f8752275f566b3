"""The records of the semantic cache: a kept question, what was found out about one that is asked, and how the cache stands."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from aiorchd.core.semantic_model import Row
from aiorchd.core.text_sketch import TextSketch


class Entry(msgspec.Struct, gc=False, eq=False):
    """A kept question. It refers to nothing that could refer back, so the search for garbage passes it by."""

    number: int
    key: bytes
    scope: bytes
    sketch: bytes
    mark: bytes
    source_id: str
    uid: int
    right: int
    wrong: int


class Thought(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What was found out about a question before the model is asked. ``nearest`` is the entry whose answer might serve,
    ``row`` what the model looked at (None: vetoed, or there is no entry), ``likeness`` the cosine, ``sureness`` the
    probability that its answer is right, ``threshold`` what was needed. ``would_hit`` says that it is enough, ``serve`` that
    it is to be given. ``era`` counts the embedders there were before: `learn` takes nothing from under another one."""

    scope: bytes
    vector: bytes
    sketch: TextSketch
    nearest: Entry | None = None
    row: Row | None = None
    likeness: float = 0.0
    sureness: float | None = None
    threshold: float = 1.0
    veto: str | None = None
    would_hit: bool = False
    serve: bool = False
    era: int = 0


@dataclass(frozen=True, slots=True)
class SemanticStatistics:
    """``active`` tells whether answers are given, ``why`` not; ``entries`` are kept in ``scopes``. ``labels`` are pairs whose
    answers were compared. Since the start: ``lookups``, ``hits``, ``would_hits`` (hits among them), ``shadow_checks`` of those
    that asked the model anyway, ``vetoed`` lookups, ``marked_wrong`` by a caller, ``shut_off``. Of the last ``checked``,
    ``wrong`` were: ``error_rate``, with 95 % confidence between ``error_low`` and ``error_high``. ``embedder`` is the model
    that makes the vectors, None for the one that is installed here."""

    enabled: bool
    active: bool
    why: str
    embedder: str | None
    entries: int
    scopes: int
    labels: int
    target_error_rate: float
    threshold: float
    lookups: int
    would_hits: int
    hits: int
    shadow_checks: int
    vetoed: int
    marked_wrong: int
    shut_off: int
    checked: int
    wrong: int
    error_rate: float | None
    error_low: float | None
    error_high: float | None
