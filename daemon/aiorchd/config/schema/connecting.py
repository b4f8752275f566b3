"""`[timeouts]` and `[pool]`: how long each part of a request may take, and the connections kept."""

from __future__ import annotations

from typing import Annotated

from aiorchd.config.key import key, span
from aiorchd.config.schema.table import Seconds, Section


class Timeouts(Section, frozen=True):
    """How long to wait for what. Each is a bound of its own; the shortest that applies wins."""

    connect_s: Annotated[
        Seconds,
        key(
            "For a connection to the provider, name lookup and TLS included.",
            effect="Lower notices a dead provider sooner.",
            unit="seconds",
        ),
    ] = 10.0
    first_byte_s: Annotated[
        Seconds,
        key(
            "From the request sent to the first byte of its answer.",
            effect="A model that does not stream sends its first byte when it has finished thinking: raise it for slow ones.",
            unit="seconds",
        ),
    ] = 60.0
    first_token_s: Annotated[
        Seconds,
        key(
            "From a streamed request sent to the first token of its answer, thoughts included.",
            effect="Lower finds a provider that has taken the request and does nothing; another one is asked then, since nothing "
            "has reached the caller.",
            unit="seconds",
        ),
    ] = 60.0
    idle_s: Annotated[
        Seconds,
        key(
            "Between two pieces of an answer once it has begun; of a streamed one, between two tokens.",
            effect="A stream that falls silent for longer counts as broken, also when its connection is kept warm.",
            unit="seconds",
        ),
    ] = 30.0
    attempt_s: Annotated[
        Seconds,
        key(
            "For one attempt from its start to its end.",
            effect="Lower leaves time for another attempt within the call's own time.",
            unit="seconds",
        ),
    ] = 120.0
    total_s: Annotated[
        Seconds,
        key(
            "For a call that names no `timeout_s`: waiting, attempts and fallbacks together.",
            effect="Then it gets the error deadline_exceeded.",
            unit="seconds",
        ),
    ] = 120.0
    max_total_s: Annotated[
        Seconds,
        key(
            "The longest `timeout_s` a caller may ask for.",
            effect="Longer ones are cut down to it.",
            unit="seconds",
        ),
    ] = 3600.0


class Pool(Section, frozen=True):
    """Connections to providers, kept and used again."""

    max_connections: Annotated[
        int,
        span(1, 100_000),
        key(
            "Requests under way at once to one provider's address.",
            effect="Attempts beyond it wait for a connection, no longer than timeouts.connect_s. Keep it at least as large as "
            "the permits of all models there. Lowered, what is under way is finished.",
            unit="connections",
        ),
    ] = 100
    max_keepalive: Annotated[
        int,
        span(0, 100_000),
        key(
            "Connections that are kept open to one provider's address while unused.",
            effect="Each saves a TCP and TLS handshake later and costs a descriptor now; 0 keeps none.",
            unit="connections",
        ),
    ] = 50
    idle_s: Annotated[
        Seconds,
        key(
            "How long an unused connection is kept.",
            effect="Longer than the provider keeps it means a failed first write and a retry.",
            unit="seconds",
        ),
    ] = 60.0
