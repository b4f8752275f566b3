"""`[daemon]`: who may use the daemon, how much one connection may ask, how it stops, what it logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import field

from aiorchd.config.key import key, longest, span
from aiorchd.config.schema.table import MIB, Level, Seconds, Section, UserOrGroup

LOG_AREAS: Final = (
    "batch",
    "breaker",
    "calls",
    "coalesce",
    "door",
    "hedge",
    "keys",
    "libraries",
    "refresh",
    "reload",
    "repeats",
    "semantic",
    "spend",
    "store",
)
"""What `log_levels` may name: who logs, and ``libraries`` for all that is not aiorch's own."""


class Daemon(Section, frozen=True):
    """The daemon itself: who may use it, how much one connection may ask of it, how it stops, what it logs."""

    allow_users: Annotated[
        tuple[UserOrGroup, ...],
        longest(1000),
        key(
            "Users, by name or number, who may use the daemon at all.",
            effect="With this and allow_groups empty, whoever the socket's permissions let in may. Administrators always may. "
            "Connections that are already open keep what they had.",
            guarded=True,
        ),
    ] = ()
    allow_groups: Annotated[
        tuple[UserOrGroup, ...],
        longest(1000),
        key(
            "Groups, by name or number, whose members may use the daemon.",
            effect="Added to allow_users: a caller needs to be in one of the two.",
            guarded=True,
        ),
    ] = ()
    admin_users: Annotated[
        tuple[UserOrGroup, ...],
        longest(1000),
        key(
            "Users who may administer: change the configuration, clear caches, see everybody's statistics.",
            effect="Root and the daemon's own user always may.",
            guarded=True,
        ),
    ] = ()
    admin_groups: Annotated[
        tuple[UserOrGroup, ...],
        longest(1000),
        key("Groups whose members may administer.", effect="Added to admin_users.", guarded=True),
    ] = ()
    max_connections: Annotated[
        int,
        span(1, 1_000_000),
        key(
            "Connections held open at once.",
            effect="Further ones are refused politely. An idle one costs about 60 kB and one descriptor, "
            "so the process needs a descriptor limit above this.",
            unit="connections",
        ),
    ] = 4096
    max_frame_bytes: Annotated[
        int,
        span(64 * 1024, 1024 * MIB),
        key(
            "Largest message taken from a client.",
            effect="A larger one closes its connection with an error that says so. This bounds what one client can make "
            "the daemon hold. New connections take a change.",
            unit="bytes",
        ),
    ] = 16 * MIB
    max_elements: Annotated[
        int,
        span(1000, 100_000_000),
        key(
            "Most values (of lists and maps, nested ones included) in one message.",
            effect="Small messages can unfold into much memory; this is the bound on that. New connections take a change.",
            unit="values",
        ),
    ] = 100_000
    max_incoming_bytes: Annotated[
        int,
        span(64 * 1024, 1024 * MIB),
        key(
            "Held of messages above 64 KiB that have come in part, over all connections.",
            effect="Beyond it their senders take turns: who began first goes on, the others are read from when there is room. "
            "So one message of max_frame_bytes may come besides.",
            unit="bytes",
        ),
    ] = 4 * MIB
    frame_timeout_s: Annotated[
        Seconds,
        key(
            "How long a message that has begun may take to come whole.",
            effect="Counted while the daemon waits for it. Then its connection is closed with an error that says so: half a "
            "message holds memory, and its place among large ones. New connections take a change.",
            unit="seconds",
        ),
    ] = 10.0
    max_in_flight_per_connection: Annotated[
        int,
        span(1, 1_000_000),
        key(
            "Calls of one connection that may be under way at once; other requests besides, as many.",
            effect="Further calls are read and wait; beyond 16 times as many the daemon stops reading from that connection until "
            "some are answered; nothing is lost. New connections take a change.",
            unit="requests",
        ),
    ] = 256
    max_host_calls_per_connection: Annotated[
        int,
        span(1, 1_000_000),
        key(
            "Questions to one connection that answers for models, awaiting their answers at once.",
            effect="Beyond it calls for its models are refused with overloaded; max_concurrency of a model keeps below it. New "
            "connections take a change.",
            unit="requests",
        ),
    ] = 256
    max_host_models_per_connection: Annotated[
        int,
        span(1, 100_000),
        key(
            "Models that one connection may register.",
            effect="More are refused with too_large. New connections take a change.",
            unit="models",
        ),
    ] = 100
    host_return_s: Annotated[
        float,
        span(0, 3600),
        key(
            "How long after its start calls wait for a model that a process had registered with the daemon before, and has not "
            "registered again.",
            effect="Processes come back within moments of a restart. Calls for names that nobody had registered do not wait. "
            "With 0 none does, and those that come too early fail with unknown_model.",
            unit="seconds",
        ),
    ] = 5.0
    max_pending_write_bytes: Annotated[
        int,
        span(64 * 1024, 1024 * MIB),
        key(
            "Answers kept for a client that does not read them.",
            effect="At the bound its further answers wait, and so does reading from it: this is all that such a client costs. "
            "New connections take a change.",
            unit="bytes",
        ),
    ] = MIB
    write_stall_s: Annotated[
        Seconds,
        key(
            "How long a client may leave a full buffer unread before its connection is cut.",
            effect="Lower frees memory sooner; higher is kinder to hosts that pause, in a debugger for instance. "
            "New connections take a change.",
            unit="seconds",
        ),
    ] = 30.0
    drain_timeout_s: Annotated[
        float,
        span(0, 3600),
        key(
            "How long calls that are under way may go on when the daemon is told to stop.",
            effect="What is not finished then is cut. A second signal ends the wait at once. "
            "Keep it below the unit's TimeoutStopSec.",
            unit="seconds",
        ),
    ] = 30.0
    log_level: Annotated[
        Level,
        key(
            "What is logged: this and everything graver.",
            effect="debug tells the story of each call, decision by decision, and of connections that come and go; it is slow.",
        ),
    ] = "info"
    log_levels: Annotated[
        Mapping[str, Level],
        longest(100),
        key(
            "Levels for single areas, over log_level.",
            effect='For instance {reload = "debug", libraries = "info"}: an area is the word before the colon of a log line '
            "(breaker, calls, coalesce, door, hedge, keys, refresh, reload, repeats, semantic, spend, store), libraries stands "
            "for all that is not aiorch's own. Another name has no effect, and is warned of.",
        ),
    ] = field(default_factory=dict)
    log_calls: Annotated[
        bool,
        key(
            "Log one line per call at level info.",
            effect="Who asked, which model, from where it was answered, tokens, cost and time; never prompts or answers.",
        ),
    ] = False
