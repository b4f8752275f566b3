"""`[cache]` and `[cache.semantic]`: which answers are kept, where, for how long and for whom."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import field

from aiorchd.config.key import key, span
from aiorchd.config.schema.table import DAY_S, MIB, Count, Section


class SemanticCache(Section, frozen=True):
    """Answers kept for questions that are nearly equal. It learns from calls that ask the model anyway whether the answer to a
    near question would have been right, and gives none until it has proved that it keeps the error rate you set. Needs the
    extra `semantic`. See docs/semantic-cache.md.
    """

    enabled: Annotated[
        bool,
        key(
            "Learn which questions have the same answer, and answer from them once that is proved.",
            effect="Hits among questions that are worded differently, for some wrong ones: at most the share below. Questions "
            "wait half a millisecond longer for it.",
        ),
    ] = False
    target_error_rate: Annotated[
        float,
        span(0.0001, 0.5),
        key(
            "Share of its answers that may be wrong.",
            effect="Higher gives more hits and more wrong answers. A change is judged at once by what was measured.",
            unit="share of 1",
        ),
    ] = 0.01
    shadow_share: Annotated[
        float,
        span(0.01, 1.0),
        key(
            "Share of its hits that ask the model all the same, to compare.",
            effect="These calls are paid for; they are what the error rate is measured by. 1 gives no answers, and measures all.",
            unit="share of 1",
        ),
    ] = 0.05
    min_checks: Annotated[
        int,
        span(20, 1000),
        key(
            "Would-be hits that must have been compared before the first is given.",
            effect="More prove more and give hits later.",
            unit="checks",
        ),
    ] = 150
    min_likeness: Annotated[
        float,
        span(0.0, 1.0),
        key(
            "Likeness (cosine of the vectors) below which nothing is looked at.",
            effect="No threshold for answers, which is learned; lower only makes it learn from more hopeless pairs.",
        ),
    ] = 0.5
    max_entries: Annotated[
        Count,
        key(
            "Questions kept, in memory and on disk.",
            effect="Each takes some 2 kB of memory. The oldest go first.",
            unit="questions",
        ),
    ] = 50_000
    max_characters: Annotated[
        int,
        span(1, 8000),
        key(
            "Longest text of a question that is looked at.",
            effect="The likeness of long texts says little about their answers.",
            unit="characters",
        ),
    ] = 1000
    embedding_model: Annotated[
        str,
        key(
            "Name of one of [[models]] that makes the vectors, by its embeddings endpoint; empty: what is installed.",
            effect="Other languages, and what else the model knows, at its price: each question that is looked at goes into a "
            "batch of embeddings. What was learned is learned anew after a change.",
        ),
    ] = ""
    embedding_wait_s: Annotated[
        float,
        span(0.01, 10.0),
        key(
            "Longest wait of a question for its vector from embedding_model.",
            effect="Each question that is looked at waits for it; when it does not come in time, the question is asked as if "
            "nothing was near.",
            unit="seconds",
        ),
    ] = 0.3


class Cache(Section, frozen=True):
    """Answers kept for equal questions, for each user and partition apart."""

    strategy: Annotated[
        Literal["hybrid", "memory", "disk", "off"],
        key(
            "Where answers are kept: hybrid (memory before disk), memory, disk, or off.",
            effect="memory forgets at a restart; off still joins equal calls that are under way at the same moment.",
        ),
    ] = "hybrid"
    max_entries: Annotated[
        Count,
        key(
            "Answers kept in memory; what is seldom used goes first (S3-FIFO).",
            effect="More hits without the disk, for more memory.",
            unit="answers",
        ),
    ] = 1000
    max_bytes: Annotated[
        int,
        span(MIB, 10**13),
        key("Bytes of answers kept in memory.", effect="Whichever bound is reached first holds.", unit="bytes"),
    ] = 64 * MIB
    ttl_s: Annotated[
        float,
        span(0, 3650 * DAY_S),
        key(
            "How long an answer is fresh; `cache_ttl_s` of a call overrides it.",
            effect="Longer saves more calls and answers with older knowledge. It is fixed when an answer is kept, so a "
            "change holds for answers kept from then on. 0 keeps nothing.",
            unit="seconds",
        ),
    ] = 3600.0
    stale_s: Annotated[
        float,
        span(0, 3650 * DAY_S),
        key(
            "How long an answer that is no longer fresh is still given, marked `stale`, while it is asked for anew in the "
            "background.",
            effect="Callers do not wait when answers grow old, and get an answer up to ttl_s + stale_s old. 0 never "
            "gives one that is not fresh.",
            unit="seconds",
        ),
    ] = 0.0
    disk_max_bytes: Annotated[
        int,
        span(MIB, 10**15),
        key("Size that the answers on disk may reach.", effect="The least recently used go first.", unit="bytes"),
    ] = 1024 * MIB
    disk_max_entries: Annotated[
        Count,
        key("Answers kept on disk.", effect="Whichever bound is reached first holds.", unit="answers"),
    ] = 1_000_000
    semantic: SemanticCache = field(default_factory=SemanticCache)
