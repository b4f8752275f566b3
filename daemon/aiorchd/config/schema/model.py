"""`[[models]]`: what answers at a provider, with its prices and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, field

from aiorchd.config.key import key, longest, span
from aiorchd.config.schema.table import ModelName, Section, UsdPer1m


class Model(Section, frozen=True):
    """Something that answers at a provider. The first enabled one serves calls that name none; the order is yours."""

    name: Annotated[
        ModelName,
        key("What callers say.", effect="Each name once.", example='"small"', guarded=True),
    ]
    provider: Annotated[
        Annotated[str, Meta(min_length=1)],
        key("Where it answers: a NAME of [providers.NAME].", effect="Several models may share one.", example='"main"'),
    ]
    id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=500)] | None,
        key("What the provider calls it.", effect="Left out, it is the name.", example='"gpt-4o-mini"'),
    ] = None
    input_usd_per_1m: Annotated[
        UsdPer1m | None,
        key(
            "Price of a million input tokens.",
            effect="With no price of its own given here, the model has the one that the bundled table of prices lists for "
            "its provider's address and its id (`aiorchctl models list` says so), else its cost is unknown, which is never "
            "the same as nothing. With any, the table is not asked.",
            unit="US dollars",
            example="0.15",
        ),
    ] = None
    output_usd_per_1m: Annotated[
        UsdPer1m | None,
        key(
            "Price of a million output tokens, reasoning included.",
            effect="Left out where the input price is given, the cost of its calls is unknown.",
            unit="US dollars",
            example="0.60",
        ),
    ] = None
    cache_read_usd_per_1m: Annotated[
        UsdPer1m | None,
        key(
            "Price of a million input tokens that the provider read from its own prompt cache.",
            effect="Left out, the input price serves.",
            unit="US dollars",
            example="0.075",
        ),
    ] = None
    cache_write_usd_per_1m: Annotated[
        UsdPer1m | None,
        key(
            "Price of a million input tokens that the provider wrote to its own prompt cache.",
            effect="Left out, the cost of a call that wrote some is unknown: writing often costs more than reading.",
            unit="US dollars",
            example="0.15",
        ),
    ] = None
    cache_write_1h_usd_per_1m: Annotated[
        UsdPer1m | None,
        key(
            "Price of a million input tokens that the provider keeps in its prompt cache for an hour.",
            effect="Left out, the cost of a call that wrote some is unknown.",
            unit="US dollars",
            example="0.30",
        ),
    ] = None
    tier_above_tokens: Annotated[
        Annotated[int, span(1, 10**9)] | None,
        key(
            "With more prompt tokens than this, cached ones included, the tier prices hold for the whole request.",
            effect="Left out, one price holds for every length.",
            unit="tokens",
            example="200000",
        ),
    ] = None
    tier_input_usd_per_1m: Annotated[
        UsdPer1m | None,
        key(
            "Price of a million input tokens in the tier.",
            effect="Left out, the usual one holds; the same goes for the other tier prices.",
            unit="US dollars",
            example="0.30",
        ),
    ] = None
    tier_output_usd_per_1m: Annotated[
        UsdPer1m | None,
        key("Price of a million output tokens in the tier.", effect="As above.", unit="US dollars", example="1.20"),
    ] = None
    tier_cache_read_usd_per_1m: Annotated[
        UsdPer1m | None,
        key(
            "Price of a million tokens read from the provider's prompt cache in the tier.",
            effect="As above.",
            unit="US dollars",
            example="0.15",
        ),
    ] = None
    tier_cache_write_usd_per_1m: Annotated[
        UsdPer1m | None,
        key(
            "Price of a million tokens written to the provider's prompt cache in the tier.",
            effect="As above.",
            unit="US dollars",
            example="0.30",
        ),
    ] = None
    requests_per_minute: Annotated[
        Annotated[int, span(1, 100_000_000)] | None,
        key(
            "What the provider allows this model; calls wait their turn instead of getting a 429.",
            effect="Left out, it is learned from the provider's answers. See also limits.safety_margin.",
            unit="requests per minute",
            example="500",
        ),
    ] = None
    tokens_per_minute: Annotated[
        Annotated[int, span(1, 10**12)] | None,
        key(
            "What the provider allows this model, prompt and answer together.",
            effect="Left out, it is learned from the provider's answers. A call that expects more than may go at once is sent "
            "when all of it is there.",
            unit="tokens per minute",
            example="200000",
        ),
    ] = None
    requests_per_day: Annotated[
        Annotated[int, span(1, 10**11)] | None,
        key(
            "What the provider allows this model in a day.",
            effect="Counted over every stretch of 24 hours since the daemon started.",
            unit="requests per day",
            example="14400",
        ),
    ] = None
    tokens_per_day: Annotated[
        Annotated[int, span(1, 10**15)] | None,
        key(
            "What the provider allows this model in a day, prompt and answer together.",
            effect="Counted over every stretch of 24 hours since the daemon started.",
            unit="tokens per day",
            example="10000000",
        ),
    ] = None
    max_concurrency: Annotated[
        Annotated[int, span(1, 100_000)] | None,
        key(
            "The most attempts that may run at it at once.",
            effect="Left out, concurrency.max serves.",
            unit="attempts",
            example="10",
        ),
    ] = None
    context_tokens: Annotated[
        Annotated[int, span(1, 10**9)] | None,
        key(
            "How long prompt and answer may be together.",
            effect="A prompt that is surely too long (by estimate more than twice this) goes to a fallback, or is refused "
            "with context_exceeded, without being sent. Closer to the limit, or left out, the provider decides.",
            unit="tokens",
            example="128000",
        ),
    ] = None
    max_output_tokens: Annotated[
        Annotated[int, span(1, 10**9)] | None,
        key(
            "How long one answer may be at most, reasoning included, by what its provider says.",
            effect="What budgets and cost limits reserve for a call that sets no max_tokens. Left out, they reserve up to "
            "context_tokens (the bundled table knows many), else 131072 tokens.",
            unit="tokens",
            example="16384",
        ),
    ] = None
    fallback: Annotated[
        Annotated[tuple[ModelName, ...], longest(100)] | None,
        key(
            "Models to ask in this order when it fails; names from [[models]].",
            effect="Left out, routing.fallback serves. Empty fails with it.",
            example="[]",
        ),
    ] = None
    context_window_fallback: Annotated[
        Annotated[tuple[ModelName, ...], longest(100)] | None,
        key(
            "The same when a prompt is too long for it.",
            effect="Left out, routing.context_window_fallback serves, then the usual ones. Empty ends such calls.",
            example="[]",
        ),
    ] = None
    content_filter_fallback: Annotated[
        Annotated[tuple[ModelName, ...], longest(100)] | None,
        key(
            "The same when its content filter withheld an answer.",
            effect="Left out, routing.content_filter_fallback serves, then the usual ones. Empty ends such calls.",
            example="[]",
        ),
    ] = None
    enabled: Annotated[
        bool,
        key("Whether it may be asked.", effect="Switched off, what it is answering is finished.", example="true"),
    ] = True
    extra: Annotated[
        Mapping[str, Any],
        longest(100),
        key(
            "Fields put into every request to it, untouched.",
            effect="What a call says itself wins. Part of the cache key.",
            example='{reasoning_effort = "low"}',
        ),
    ] = field(default_factory=dict)

    @property
    def provider_model(self) -> str:
        """What the provider calls it."""
        return self.name if self.id is None else self.id
