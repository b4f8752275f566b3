"""`[operations.NAME]`: a kind of work that hosts ask for by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from aiorchd.config.key import key, longest, span
from aiorchd.config.schema.table import DAY_S, MIB, ModelName, Seconds, Section, Usd


class Operation(Section, frozen=True):
    """A kind of work that hosts ask for by NAME and give an input: what is asked of whom, and what makes two inputs the same
    question. See docs/operations.md.
    """

    template: Annotated[
        Annotated[str, Meta(min_length=1, max_length=262_144)] | None,
        key(
            "The prompt, a jinja2 template over `input`.",
            effect="Left out, the input is the prompt: text as it is, anything else as JSON. Part of the cache key by what it "
            "renders to, so an edit asks anew. Put what never changes first: providers cache the common beginning of prompts.",
            example='"Give three tags for this page:\\n{{ input.text }}"',
        ),
    ] = None
    system: Annotated[
        Annotated[str, Meta(min_length=1, max_length=262_144)] | None,
        key(
            "Instructions that stand before the prompt, as they are.",
            effect="Part of the cache key.",
            example='"You tag pages."',
        ),
    ] = None
    task: Annotated[
        Annotated[str, Meta(min_length=1, max_length=256)] | None,
        key(
            "Kind of task, for choosing a model.",
            effect="A call's own task wins.",
            example='"classification"',
        ),
    ] = None
    models: Annotated[
        tuple[ModelName, ...],
        longest(100),
        key(
            "Models that may answer, in order of fallback; names from [[models]].",
            effect="A call may name one of them, which is then asked first. Empty, the usual chain serves.",
            example='["small", "large"]',
        ),
    ] = ()
    output_schema: Annotated[
        Annotated[str, Meta(min_length=1, max_length=4096)] | Mapping[str, Any] | None,
        key(
            "JSON Schema of the answer: the path of a JSON file (beside this one unless absolute), or a table.",
            effect="Answers are checked and parsed into `data`. The file is read with this one, and must not be writable by "
            "others either. Part of the cache key.",
            example='"tags.schema.json"',
            guarded=True,
        ),
    ] = None
    tools: Annotated[
        Annotated[str, Meta(min_length=1, max_length=4096)] | tuple[Mapping[str, Any], ...] | None,
        key(
            "Tools that the model may call, in OpenAI's form: the path of a JSON file with a list of them (beside this one "
            "unless absolute), or the list.",
            effect="Read once and sent in this order, before what changes, so that providers' prompt caches know them. A call's "
            "own tools win. Part of the cache key.",
            example='"tools.json"',
            guarded=True,
        ),
    ] = None
    temperature: Annotated[
        Annotated[float, span(0, 10)] | None,
        key(
            "Temperature of calls that name none.",
            effect="Above 0 answers are meant to differ, and are neither shared nor, without cache_samples, kept.",
            example="0",
        ),
    ] = None
    max_tokens: Annotated[
        Annotated[int, span(1, 10**9)] | None,
        key("Longest answer of calls that name none.", effect="Part of the cache key.", unit="tokens", example="200"),
    ] = None
    timeout_s: Annotated[
        Seconds | None,
        key(
            "How long a call may take that does not say itself.",
            effect="Left out, timeouts.total_s serves; timeouts.max_total_s bounds both.",
            unit="seconds",
            example="120",
        ),
    ] = None
    max_input_bytes: Annotated[
        int,
        span(1, 1024 * MIB),
        key(
            "Largest input, as JSON.",
            effect="A larger one is refused with too_large at once. Keep it below daemon.max_frame_bytes.",
            unit="bytes",
        ),
    ] = 2 * MIB
    document_id: Annotated[
        Annotated[str, Meta(max_length=500)] | None,
        key(
            "Where in the input the document's id is, as a dotted path.",
            effect="Id and version are then part of every key, beside the content: an input without them is refused.",
            example='"input.page_id"',
        ),
    ] = None
    document_version: Annotated[
        Annotated[str, Meta(max_length=500)] | None,
        key(
            "Where in the input the document's version is.",
            effect="As above: a new version is a new question, though its text be the same.",
            example='"input.version"',
        ),
    ] = None
    cache: Annotated[
        Literal["hybrid", "memory", "disk", "off"] | None,
        key(
            "Where its answers are kept; never more than cache.strategy allows.",
            effect="Left out, as cache.strategy says.",
            example='"memory"',
        ),
    ] = None
    cache_ttl_s: Annotated[
        Annotated[float, span(0, 3650 * DAY_S)] | None,
        key(
            "How long its answers are fresh.",
            effect="Left out, cache.ttl_s serves; a call's own cache_ttl_s wins.",
            unit="seconds",
            example="86400",
        ),
    ] = None
    cache_stale_s: Annotated[
        Annotated[float, span(0, 3650 * DAY_S)] | None,
        key(
            "How long an answer of its that is no longer fresh is still given, marked `stale`, while it is asked for anew.",
            effect="Left out, cache.stale_s serves. 0 never gives one that is not fresh.",
            unit="seconds",
            example="3600",
        ),
    ] = None
    cache_samples: Annotated[
        int,
        span(0, 100),
        key(
            "How many answers to one input are kept where its temperature is above 0.",
            effect="So many are asked for, then each call gets one of them by chance; 0 keeps none. A call's own "
            "cache_samples wins.",
            unit="answers",
        ),
    ] = 0
    cache_ignore: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=500)], ...],
        longest(200),
        key(
            "Paths in the input that do not change the answer: `input.fetched_at`, `input.entries[*].seen`, `input.**.uuid`.",
            effect="Inputs that differ only there share an answer, at the depth `normalised`. `*` is any name or place, `**` any "
            "number of levels.",
            example='["input.fetched_at"]',
        ),
    ] = ()
    cache_unordered: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=500)], ...],
        longest(200),
        key(
            "Paths of lists in the input whose order does not matter.",
            effect="Inputs that differ only in their order share an answer, as above.",
            example='["input.authors"]',
        ),
    ] = ()
    cache_ignore_parameters: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=100)], ...],
        longest(200),
        key(
            "Names of query parameters of URLs in the input that do not change the answer; `*` stands for anything.",
            effect="As above, besides those that the default rules know (utm_*, gclid …).",
            example='["ref", "sid_*"]',
        ),
    ] = ()
    noise: Annotated[
        tuple[Literal["default", "uuids", "hashes", "timestamps", "ids", "whitespace"], ...],
        longest(10),
        key(
            "What else is noise in its input. `default`: fields that by name and form hold an id of a request, a moment of "
            "observation and the like, in inputs that are JSON maps or lists; never in free text. The others are stronger and "
            "look into text, too: `uuids`, `hashes` (hexadecimal, 16 digits and more), `timestamps` (date and time), `ids` "
            "(every field called id or ending in it), `whitespace` (runs of blanks and line breaks).",
            effect="More finds more equal questions; too much answers one question with the answer of another. Empty switches "
            "all of them off. `aiorchctl cache explain` shows what they make of two inputs.",
        ),
    ] = ("default",)
    batch_size: Annotated[
        Annotated[int, span(1, 100)] | None,
        key(
            "Most of its questions that may be asked together in one prompt, when they come at about the same time; never more "
            "than batch.max_size.",
            effect="Left out or 1, each is asked for itself. Larger saves more calls and tokens; how many there really are is "
            "found out by asking some alone, too. For questions that do not depend on each other.",
            unit="questions",
            example="10",
        ),
    ] = None
    per_day_usd: Annotated[
        Usd | None,
        key(
            "What it may spend in a day, whoever asks for it.",
            effect="Beside the budgets of all and of the caller, each holds by itself.",
            unit="US dollars",
            example="5.0",
        ),
    ] = None
    per_month_usd: Annotated[
        Usd | None,
        key(
            "What it may spend in a calendar month.",
            effect="As above.",
            unit="US dollars",
            example="50.0",
        ),
    ] = None
    semantic: Annotated[
        bool,
        key(
            "Whether an answer to a nearly equal question will do, when cache.semantic is on.",
            effect="Off, only equal ones are answered from the cache. Not looked at where document_id or document_version "
            "is set, nor in prompts longer than cache.semantic.max_characters. Calls without an operation follow cache.semantic "
            "alone.",
        ),
    ] = False
    shared: Annotated[
        bool,
        key(
            "Whether kept answers are shared between users, within the same `partition`.",
            effect="On, whoever may use the daemon may get what another user's call brought. Off, all have their own.",
            guarded=True,
        ),
    ] = False
