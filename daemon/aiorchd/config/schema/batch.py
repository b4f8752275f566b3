"""`[batch]`: several questions of one operation in one prompt."""

from __future__ import annotations

from typing import Annotated

from aiorchd.config.key import key, span
from aiorchd.config.schema.table import Section


class Batch(Section, frozen=True):
    """Questions of the same operation, caller, model and parameters that come at about the same time are asked in one prompt, and
    the answer is taken apart. Only operations with a `batch_size` take part. See docs/batching.md.
    """

    max_size: Annotated[
        int,
        span(1, 100),
        key(
            "Most questions in one prompt, whatever an operation's batch_size says.",
            effect="How many there really are is found out: as many as are answered as well as alone. 1 switches it off.",
            unit="questions",
        ),
    ] = 10
    max_wait_s: Annotated[
        float,
        span(0.0, 60.0),
        key(
            "How long a question waits for others at most.",
            effect="It waits only while others are to be expected by what came lately, and never a fifth of its own time.",
            unit="seconds",
        ),
    ] = 0.3
    check_share: Annotated[
        float,
        span(0.01, 1.0),
        key(
            "Share of the questions in batches that are asked alone, too, to compare.",
            effect="These calls are paid for besides. In the beginning and in doubt more are asked, and a third as many once it "
            "is sure.",
            unit="share of 1",
        ),
    ] = 0.05
    target_agreement: Annotated[
        float,
        span(0.5, 1.0),
        key(
            "How well answers from batches must agree with single ones, where 1 is as well as single ones do with each other.",
            effect="Where it is missed, batches become smaller by themselves, until none are made. Lower allows larger ones.",
            unit="share of 1",
        ),
    ] = 0.99
