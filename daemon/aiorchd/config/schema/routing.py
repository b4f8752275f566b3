"""`[routing]` and `[validation]`: which model is asked, and what makes an answer a good one."""

from __future__ import annotations

from typing import Annotated

from aiorchd.config.key import key, longest, span
from aiorchd.config.schema.table import ModelName, Section


class Routing(Section, frozen=True):
    """Which model answers."""

    fallback: Annotated[
        tuple[ModelName, ...],
        longest(100),
        key(
            "Models to ask in this order when the chosen one fails; names from [[models]].",
            effect="Empty fails with the chosen one. A call that only its sender can mend, a malformed one for instance, "
            "is not passed on. `aiorchctl limits --rules` prints what is.",
        ),
    ] = ()
    context_window_fallback: Annotated[
        tuple[ModelName, ...],
        longest(100),
        key(
            "Models to ask in this order instead of `fallback` when the prompt is too long for the chosen one.",
            effect="Empty, `fallback` serves, without models whose context_tokens are known to be no more.",
        ),
    ] = ()
    content_filter_fallback: Annotated[
        tuple[ModelName, ...],
        longest(100),
        key(
            "Models to ask in this order instead of `fallback` when a provider's content filter withheld the answer.",
            effect="Empty, `fallback` serves.",
        ),
    ] = ()
    cost_limit_usd: Annotated[
        float,
        span(0.000001, 10_000_000),
        key(
            "What one call may cost over all its attempts, where it has no cost_limit of its own.",
            effect="A model that could cost more is passed over for the next of the chain, and without one the call is "
            "refused with budget_exceeded. Counted is what is known before: the prompt, and the answer where max_tokens or "
            "max_output_tokens bound it. Models of unknown price are not held to it.",
            unit="US dollars",
        ),
    ] = 1.0


class Validation(Section, frozen=True):
    """Checking of answers for calls that ask for JSON."""

    max_reasks: Annotated[
        int,
        span(0, 10),
        key(
            "How often a model is asked again, told what was wrong, when its answer breaks the schema.",
            effect="Each costs a whole call. 0 gives the error validation_failed at once.",
            unit="calls",
        ),
    ] = 1
