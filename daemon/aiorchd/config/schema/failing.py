"""`[retry]`, `[breaker]` and `[hedge]`: what follows when a provider fails or is late."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from aiorchd.config.key import key, span
from aiorchd.config.schema.table import Seconds, Section


class Retry(Section, frozen=True):
    """Asking the same model again after a failure that may pass: a broken connection, a 5xx, a 429."""

    max_attempts: Annotated[
        int,
        span(1, 20),
        key(
            "How often one call is sent in all, over its model and the fallbacks together, the first time included.",
            effect="More rides out longer disturbances. Retries at one model leave at least one attempt for each fallback "
            "that is still to come; 1 switches retries off.",
            unit="attempts",
        ),
    ] = 4
    backoff_s: Annotated[
        tuple[Annotated[float, span(0, 3600)], ...],
        Meta(min_length=1, max_length=20),
        key(
            "Waits before the second, third, ... attempt; beyond the last one they double, up to 30 s.",
            effect="A provider's Retry-After wins when it is longer. No permit, token or money is held meanwhile, and no "
            "wait goes past the call's deadline.",
            unit="seconds",
        ),
    ] = (0.5, 1.0, 2.0)
    jitter: Annotated[
        float,
        span(0, 1),
        key(
            "Share of each wait that is random, up and down.",
            effect="Keeps callers that failed together from coming back together; 0 makes every wait exact.",
            unit="share, 0 to 1",
        ),
    ] = 0.25
    budget_share: Annotated[
        float,
        span(0, 1),
        key(
            "Retries that one model may get from all callers together, as a share of the calls it gets.",
            effect="Keeps a failing provider from several times its usual load: beyond it a failure goes to the fallback at "
            "once. A 429 does not draw on it; the model's queue says when that may come again.",
            unit="share, 0 to 1",
        ),
    ] = 0.2
    budget_retries: Annotated[
        int,
        span(0, 1_000_000),
        key(
            "Retries that are saved up for it; as many again come with each minute.",
            effect="Lets a model that is asked seldom be asked again all the same. 0 with budget_share 0 retries only what was "
            "throttled.",
            unit="retries",
        ),
    ] = 20


class Breaker(Section, frozen=True):
    """Leaving a model alone while it fails: further calls go to its fallbacks at once, and single calls find out whether it
    has recovered. A 429 is no failure here. When nothing else is left to ask, the least bad model is asked all the same.
    """

    enabled: Annotated[
        bool,
        key("Whether models that fail are left alone.", effect="Off, every call tries and waits for itself."),
    ] = True
    failure_rate: Annotated[
        float,
        span(0.01, 1),
        key(
            "Share of a model's attempts that must have failed for it to be left alone.",
            effect="Lower reacts to half-broken models, and to chance. When min_calls in a row have failed, it is left alone "
            "at once.",
            unit="share, 0 to 1",
        ),
    ] = 0.5
    min_calls: Annotated[
        int,
        span(1, 1_000_000),
        key(
            "So many attempts at least are judged.",
            effect="Fewer reacts sooner; one bad answer is no outage.",
            unit="attempts",
        ),
    ] = 10
    window_s: Annotated[
        Seconds,
        key(
            "Attempts of so long a time count.",
            effect="A model that has been well for this long is left alone only for open_s the next time.",
            unit="seconds",
        ),
    ] = 30.0
    open_s: Annotated[
        Seconds,
        key(
            "How long it is left alone the first time; each further time twice as long, up to max_open_s.",
            effect="Then one call is let through to see.",
            unit="seconds",
        ),
    ] = 5.0
    max_open_s: Annotated[
        Seconds,
        key(
            "The longest time it is left alone before the next call is let through to see.",
            effect="Longer spares calls that fail in vain (they go on to a fallback); shorter is back sooner.",
            unit="seconds",
        ),
    ] = 12.0
    recovery_s: Annotated[
        Seconds,
        key(
            "Over how long its calls come back to it, once one was answered.",
            effect="Longer is gentler on a provider that has just come up.",
            unit="seconds",
        ),
    ] = 3.0


class Hedge(Section, frozen=True):
    """A second try for a call that is late: whoever answers first answers, the other one is given up. For slow ends of fast
    models; each second try costs what it had used when it was given up.
    """

    enabled: Annotated[
        bool,
        key(
            "Whether late calls are asked twice.", effect="On, the slowest calls become faster and some are paid twice."
        ),
    ] = False
    quantile: Annotated[
        float,
        span(0.5, 0.999),
        key(
            "A call is late when it takes longer than this share of the latest calls of its model took; of streamed calls, to "
            "their first token.",
            effect="Lower asks twice sooner and more often. What a call waits for its turn does not count.",
            unit="share, 0 to 1",
        ),
    ] = 0.95
    min_samples: Annotated[
        int,
        span(2, 256),
        key("So many calls must be known for that.", effect="Fewer begins sooner after a start.", unit="calls"),
    ] = 20
    max_share: Annotated[
        float,
        span(0, 1),
        key(
            "Second tries, as a share of a model's calls.",
            effect="Bounds the extra cost, and keeps a model that is slow for everybody from twice its load.",
            unit="share, 0 to 1",
        ),
    ] = 0.05
    target: Annotated[
        Literal["next", "same"],
        key(
            "Where the second try goes: to the next model of the chain, if there is one, or to the same model again.",
            effect="The next one may answer differently; the same one may be slow for the same reason.",
        ),
    ] = "next"
