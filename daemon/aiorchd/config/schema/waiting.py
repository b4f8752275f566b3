"""`[queue]`, `[concurrency]` and `[limits]`: who waits, where, and how much goes on at once."""

from __future__ import annotations

from typing import Annotated, Literal

from aiorchd.config.key import key, span
from aiorchd.config.schema.table import Section


class Queue(Section, frozen=True):
    """How many calls may be in the house, and how many may wait for one model, before further ones are turned away."""

    max_inside: Annotated[
        int,
        span(1, 1_000_000),
        key(
            "Calls that may be under way or waiting at once, over all callers.",
            effect="Further ones get the error overloaded at once. Cached answers do not count.",
            unit="calls",
        ),
    ] = 2000
    max_inside_per_caller: Annotated[
        int,
        span(0, 1_000_000),
        key(
            "The same for one user; 0 sets no bound of its own.",
            effect="Keeps one busy user from filling the house for all.",
            unit="calls",
        ),
    ] = 1000
    max_waiting: Annotated[
        int,
        span(0, 1_000_000),
        key(
            "Calls that may wait for one model's permits and quotas.",
            effect="Further ones go to the next model of the chain, or get the error overloaded. 0 never waits.",
            unit="calls",
        ),
    ] = 1000
    max_start_wait_share: Annotated[
        float,
        span(0.001, 1),
        key(
            "How much of its time a call may wait to be begun, when more come than the daemon's CPU gets done.",
            effect="One that would wait longer gets the error overloaded at once, with the time after which to come again. Lower "
            "refuses earlier and answers the others sooner; 1 lets calls wait until nothing of their time is left. Answers "
            "in memory to a question asked before in the same words, ping and status are given all the same.",
            unit="share of timeout_s, 0.001 to 1",
        ),
    ] = 0.25
    max_start_wait_s: Annotated[
        float,
        span(0.01, 3600),
        key(
            "The same in seconds, for calls that have much time.",
            effect="Whichever is shorter holds. A client that sends thousands of calls at once needs as long as the daemon takes "
            "to begin them all.",
            unit="seconds",
        ),
    ] = 30.0
    calls_per_second: Annotated[
        Annotated[float, span(0.01, 100_000)] | None,
        key(
            "A throttle over all models together: so many attempts may be sent in a second.",
            effect="Further ones wait their turn, fair between callers. Left out, only the models' own limits pace. Cached "
            "answers do not count.",
            unit="attempts per second",
            example="100.0",
        ),
    ] = None
    low_priority_share: Annotated[
        float,
        span(0.001, 0.5),
        key(
            "What calls of a lower priority get at least while higher ones wait.",
            effect="A flood of interactive calls slows bulk work down to this share of what goes before it, and never stops it.",
            unit="share, 0.001 to 0.5",
        ),
    ] = 0.05


class Concurrency(Section, frozen=True):
    """How many attempts may run at one model at a time: it grows while that goes well and shrinks at once when it does not."""

    algorithm: Annotated[
        Literal["aimd", "gradient", "fixed"],
        key(
            "How the number moves: aimd, gradient, or fixed (always max).",
            effect="aimd grows step by step and shrinks to 0.7 when the provider answers 429 or 529. gradient also shrinks when "
            "answers take longer than they used to: for a server of your own whose answers take alike. Neither grows while "
            "less than half of it is used.",
        ),
    ] = "aimd"
    initial: Annotated[
        int,
        span(1, 100_000),
        key(
            "Attempts that may run at one model at once in the beginning.",
            effect="Higher meets a rush at the start at once; lower is more careful with a provider that is not known yet. "
            "Raised, models that have fewer get so many; above max, max holds.",
            unit="attempts",
        ),
    ] = 3
    min: Annotated[
        int,
        span(1, 100_000),
        key(
            "As many may always run.",
            effect="However often the provider refuses. Above max, max holds.",
            unit="attempts",
        ),
    ] = 1
    max: Annotated[
        int,
        span(1, 100_000),
        key(
            "The most that may run at one model at once; `max_concurrency` of a model overrides it.",
            effect="A model can answer at most so many calls in the time that one takes. Lowered, what runs is finished.",
            unit="attempts",
        ),
    ] = 10


class Limits(Section, frozen=True):
    """Keeping within the providers' rate limits. The limits themselves stand at [[models]] and [providers.NAME], or are
    learned: from what answers tell, or else from what is refused."""

    safety_margin: Annotated[
        float,
        span(0.1, 1),
        key(
            "Share of a configured limit that is used while the provider does not tell its own.",
            effect="Lower meets fewer refusals where a limit is guessed or others use the key too. What a provider reports of "
            "itself is used whole.",
            unit="share, 0.1 to 1",
        ),
    ] = 0.9
    burst_s: Annotated[
        float,
        span(0.1, 60),
        key(
            "How many seconds' worth of a configured limit may go at once after a pause.",
            effect="Providers judge limits of a minute over 1 to 10 seconds: higher risks refusals, lower makes short rushes "
            "wait. One request may always go. Where answers show how much goes at once, that counts.",
            unit="seconds",
        ),
    ] = 6.0
