"""Every key of the TOML: its type, unit, bounds, default, meaning, consequence, and whether it changes live.

A section is a frozen record whose docstring opens its part of the manual. Only what this release does is here; names of
the public face that come later are in `later.py` and are refused with a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct, field
from msgspec.structs import fields as msgspec_fields

from aiorchd.config.key import Field, described_fields_of, key, longest, span

MIB: Final = 1024 * 1024
DAY_S: Final = 86400.0

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
UserOrGroup: TypeAlias = Annotated[int, span(0, 2**32 - 2)] | Annotated[str, Meta(min_length=1, max_length=256)]
Seconds: TypeAlias = Annotated[float, span(0.001, DAY_S)]
Count: TypeAlias = Annotated[int, span(1, 10**12)]
Usd: TypeAlias = Annotated[float, span(0.001, 10_000_000)]
UsdPer1m: TypeAlias = Annotated[float, span(0, 1_000_000)]
ModelName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
Profile: TypeAlias = Literal[
    "basic",
    "moderate",
    "aggressive",
    "large_repository_analysis",
    "real_time_validation",
    "batch_processing",
    "api_heavy_workload",
]
"""Three levels and four scenarios; a file of each name stands in `presets/`."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML, immutable; a change makes a new one."""


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
            "(calls, coalesce, door, reload, repeats, store), libraries stands for all that is not aiorch's own.",
        ),
    ] = field(default_factory=dict)
    log_calls: Annotated[
        bool,
        key(
            "Log one line per call at level info.",
            effect="Who asked, which model, from where it was answered, tokens, cost and time; never prompts or answers.",
        ),
    ] = False


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


class Budget(Section, frozen=True):
    """What may be spent in all, by day and by month; single callers have theirs in [callers.NAME].

    Every attempt (retries, fallbacks and re-asks alike) reserves the most it can cost, on the disk, before it starts, and
    what it did cost takes that place when it ends. So no budget is ever passed, whoever asks how much at once, and a crash
    forgets nothing. One that ends without telling what it used counts with all it had reserved. See docs/money.md.
    """

    per_day_usd: Annotated[
        Usd | None,
        key(
            "What all callers together may spend in a day.",
            effect="Left out, nothing bounds a day. It counts from when it is set; changing it keeps what was counted.",
            unit="US dollars",
            example="20.0",
        ),
    ] = None
    per_month_usd: Annotated[
        Usd | None,
        key(
            "What all callers together may spend in a calendar month.",
            effect="Beside the day's, each holds by itself.",
            unit="US dollars",
            example="200.0",
        ),
    ] = None
    on_exhausted: Annotated[
        Literal["refuse", "cheapest", "cache_only"],
        key(
            "What becomes of a call that a budget has not enough left for.",
            effect="refuse: budget_exceeded, with when the budget begins anew; models that cost nothing still answer. cheapest: "
            "the next models of its fallback chain are tried, as long as one can still be paid for. cache_only: from then "
            "on only kept answers are given, nothing is sent for that budget, not even to models that cost nothing.",
        ),
    ] = "refuse"
    timezone: Annotated[
        str,
        Meta(min_length=1, max_length=100),
        key(
            'Time zone in which days and months begin: "UTC" or a name like "Europe/Berlin".',
            effect="A change during a day begins that day's accounts where the new zone's day has another name.",
        ),
    ] = "UTC"
    assumed_usd_per_1m: Annotated[
        float,
        span(0.001, 100_000),
        key(
            "What a million tokens of unknown price count in budgets and in the cost_limit of a call.",
            effect="It should be above the dearest model in use. What a call cost stays unknown in every other place.",
            unit="US dollars",
        ),
    ] = 100.0


class Metrics(Section, frozen=True):
    """The record of calls behind `aiorchctl stats` and `explain`: who, which model, tokens, cost, time; never content."""

    keep_calls: Annotated[
        int,
        span(0, 10**12),
        key(
            "Single calls kept, for `explain`.",
            effect="The oldest go first; about 300 bytes of disk each. Sums over time are kept apart.",
            unit="calls",
        ),
    ] = 100_000
    keep_days: Annotated[
        float,
        span(0, 36500),
        key("How long calls and sums are kept.", effect="Older ones are deleted by themselves.", unit="days"),
    ] = 30.0


DEFAULT_BASE_URLS: Final[Mapping[str, str]] = {
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}
"""Where a dialect is spoken when the file does not say."""


WITHOUT_ADDRESS: Final[Mapping[str, str]] = {
    "simulated": "it answers inside the daemon",
    "host": "a process of the host answers, over its own connection to the daemon",
}
"""Dialects that are spoken with nobody far away, and why; they need no key either."""


class Provider(Section, frozen=True):
    """An endpoint that speaks one wire dialect. NAME is yours to choose; models refer to it.

    Secrets are never in this file: `api_key_env` or `api_key_credential` say where the key is. Proxies are taken from
    HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the daemon's environment, further authorities from SSL_CERT_FILE.
    """

    dialect: Annotated[
        Literal["openai", "anthropic", "gemini", "simulated", "host"],
        key(
            "What it speaks: openai (also Azure, Ollama, vLLM, llama.cpp, DeepSeek, Mistral, Groq, OpenRouter, ...), "
            "anthropic (the Messages API), gemini (Google's generateContent), simulated (inside the daemon, without a "
            "network) or host (a process of the caller's own user that registered for the model).",
            effect="docs/providers.md says what each supports, docs/host-models.md what host is. Simulated answers say so and "
            "are never written to disk.",
            guarded=True,
        ),
    ] = "openai"
    base_url: Annotated[
        str | None,
        key(
            "Where it is, up to and with the version: what comes before /chat/completions, /messages or /models.",
            effect="Part of every cache key: another address has other answers. Needed for the dialect openai; left out, "
            "anthropic is at https://api.anthropic.com/v1 and gemini at https://generativelanguage.googleapis.com/v1beta.",
            example='"https://api.openai.com/v1"',
            guarded=True,
        ),
    ] = None
    api_key_env: Annotated[
        str | None,
        key(
            "Name of the environment variable of the daemon that holds the key.",
            effect="While it is unset, calls to this provider fail with provider_auth. The environment is read at start.",
            example='"OPENAI_API_KEY"',
            guarded=True,
        ),
    ] = None
    api_keys_env: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...],
        longest(100),
        key(
            "Names of several environment variables with a key each, instead of api_key_env.",
            effect="Each key has permits, quotas and a breaker of its own; the one that can start soonest is used. A key that is "
            "refused is set aside and told by `status`, `doctor` and the log, and the others go on.",
            example='["KEY_1", "KEY_2"]',
            guarded=True,
        ),
    ] = ()
    api_keys_credential: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...],
        longest(100),
        key(
            "Names of several systemd credentials with a key each, instead of api_key_credential.",
            effect="Like api_keys_env.",
            example='["openai_1", "openai_2"]',
            guarded=True,
        ),
    ] = ()
    api_key_credential: Annotated[
        str | None,
        key(
            "Name of the systemd credential (LoadCredential=NAME:/path) that holds the key.",
            effect="Instead of api_key_env. systemd hands over a changed file at the next start.",
            example='"openai"',
            guarded=True,
        ),
    ] = None
    headers: Annotated[
        Mapping[str, Annotated[str, longest(4096)]],
        longest(50),
        key(
            "Further headers for each request.",
            effect='For instance {"OpenAI-Organization" = "org-1"}; headers that carry secrets are refused here.',
            guarded=True,
        ),
    ] = field(default_factory=dict)
    http2: Annotated[
        bool,
        key(
            "Speak HTTP/2 where the provider does.",
            effect="Many calls share one connection: fewer handshakes, a little more work for each byte.",
        ),
    ] = False
    requests_per_minute: Annotated[
        Annotated[int, span(1, 100_000_000)] | None,
        key(
            "What it allows the key, over all its models together.",
            effect="Beside a model's own limit. What answers tell of requests then counts for the key, unless the model has a "
            "limit of its own.",
            unit="requests per minute",
            example="1000",
        ),
    ] = None
    tokens_per_minute: Annotated[
        Annotated[int, span(1, 10**12)] | None,
        key(
            "What it allows the key, over all its models together, prompts and answers.",
            effect="As for requests_per_minute.",
            unit="tokens per minute",
            example="1000000",
        ),
    ] = None
    requests_per_day: Annotated[
        Annotated[int, span(1, 10**11)] | None,
        key(
            "What it allows the key in a day, over all its models together.",
            effect="Counted over every stretch of 24 hours since the daemon started.",
            unit="requests per day",
            example="14400",
        ),
    ] = None
    tokens_per_day: Annotated[
        Annotated[int, span(1, 10**15)] | None,
        key(
            "What it allows the key in a day, over all its models together, prompts and answers.",
            effect="Counted over every stretch of 24 hours since the daemon started.",
            unit="tokens per day",
            example="10000000",
        ),
    ] = None
    authorisation: Annotated[
        Literal["auto", "bearer", "api-key", "none"],
        key(
            "How the key is sent: bearer (Authorization: Bearer), api-key (the dialect's own header: api-key, x-api-key or "
            "x-goog-api-key), none (not at all).",
            effect="auto is bearer for openai, api-key at Azure and for anthropic and gemini.",
            guarded=True,
        ),
    ] = "auto"
    api_version: Annotated[
        Annotated[str, Meta(min_length=1, max_length=100)] | None,
        key(
            "Version of the provider's interface: Azure's query argument api-version, Anthropic's header anthropic-version.",
            effect="Left out, 2024-10-21 at Azure's older addresses (those that name deployments), none at others, and "
            "2023-06-01 for anthropic.",
            example='"2024-10-21"',
            guarded=True,
        ),
    ] = None
    structured_output: Annotated[
        Literal["json_schema", "json_object", "tool", "none"],
        key(
            "How an output_schema is passed on: json_schema (as a schema), json_object (only as a wish for JSON; openai and "
            "gemini), tool (as a tool that must be called with the answer; anthropic), none (not at all).",
            effect="For servers and models that refuse schemas. The answer is validated here in any case.",
        ),
    ] = "json_schema"
    max_tokens_field: Annotated[
        Literal["auto", "max_tokens", "max_completion_tokens"],
        key(
            "What the bound on the answer is called (openai only).",
            effect="auto says max_completion_tokens to OpenAI's reasoning models, by their names, and max_tokens to others.",
        ),
    ] = "auto"
    embedding_encoding: Annotated[
        Literal["base64", "float", "none"],
        key(
            "How vectors are asked for (openai only); either is understood.",
            effect="base64 is a third of the bytes. none asks for nothing, for servers that do not know encoding_format.",
        ),
    ] = "base64"

    @property
    def address(self) -> str | None:
        """Where it is: what the file says, or the dialect's own place; None for what has no address."""
        return self.base_url or DEFAULT_BASE_URLS.get(self.dialect)


class CallerTable(Section, frozen=True):
    """One caller: NAME is a user's name or number, or a systemd unit like `[callers."web.service"]`.

    A unit is for accounting, not for authority: whoever may start processes in it counts as it.
    """

    weight: Annotated[
        Annotated[float, span(0.01, 100)] | None,
        key(
            "Its share of a model's permits and quotas while others wait too, against 1 for everybody else.",
            effect="With 2 it gets twice as much, 0.5 half. A unit with a weight is served beside its user's other processes. "
            "Left out, 1.",
            unit="times the usual share",
            example="2.0",
        ),
    ] = None

    per_day_usd: Annotated[
        Usd | None,
        key(
            "What this caller may spend in a day.",
            effect="Beside the budget of all and the other one of its user or unit, each holds by itself.",
            unit="US dollars",
            example="5.0",
        ),
    ] = None
    per_month_usd: Annotated[
        Usd | None,
        key(
            "What this caller may spend in a calendar month.",
            effect="As above.",
            unit="US dollars",
            example="50.0",
        ),
    ] = None


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
            effect="Above 0 answers are meant to differ, and are neither kept nor shared.",
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


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One whole configuration, complete with defaults; equal ones compare equal."""

    profile: Annotated[
        Profile | None,
        key(
            "A level (basic, moderate, aggressive) or a scenario that sets other keys with one word; it stands before the "
            "first table.",
            effect="What this file says itself wins, so leave out the keys that it is to set. `aiorchctl config diff` shows "
            "what came from where, and docs/configuration.md what each one sets.",
            example='"moderate"',
        ),
    ] = None
    daemon: Daemon = field(default_factory=Daemon)
    queue: Queue = field(default_factory=Queue)
    concurrency: Concurrency = field(default_factory=Concurrency)
    limits: Limits = field(default_factory=Limits)
    retry: Retry = field(default_factory=Retry)
    breaker: Breaker = field(default_factory=Breaker)
    hedge: Hedge = field(default_factory=Hedge)
    timeouts: Timeouts = field(default_factory=Timeouts)
    pool: Pool = field(default_factory=Pool)
    cache: Cache = field(default_factory=Cache)
    routing: Routing = field(default_factory=Routing)
    validation: Validation = field(default_factory=Validation)
    budget: Budget = field(default_factory=Budget)
    metrics: Metrics = field(default_factory=Metrics)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    callers: Mapping[str, CallerTable] = field(default_factory=dict)
    operations: Mapping[str, Operation] = field(default_factory=dict)
    models: tuple[Model, ...] = ()


def sections() -> Mapping[str, type[Section]]:
    """Name the plain tables (all but providers and models) in the order of the manual; one within another has a dot in its
    name."""
    found: dict[str, type[Section]] = {}
    for name, kind in _tables_in(Config):
        found[name] = kind
        found |= {f"{name}.{inner}": table for inner, table in _tables_in(kind)}
    return found


def section_in(config: Config, name: str) -> Section:
    """Give the table that `sections` calls ``name``."""
    found: Any = config
    for part in name.split("."):
        found = getattr(found, part)
    table: Section = found
    return table


def _tables_in(kind: type[Struct]) -> list[tuple[str, type[Section]]]:
    return [
        (each.name, each.type)
        for each in msgspec_fields(kind)
        if isinstance(each.type, type) and issubclass(each.type, Section)
    ]


def top_keys() -> Mapping[str, Field]:
    """Describe the keys that stand before the first table."""
    return described_fields_of(Config)
