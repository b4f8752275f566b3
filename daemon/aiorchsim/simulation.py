"""The simulated provider itself, apart from HTTP and dialects: models with live limits, chance, time to answer, the
prompt cache, and the counting.

One way through for every call: a fault that comes instead of work; then what the dialect could not understand; then
the limits; then errors by chance; then the answer after its latency, perhaps spoiled by a fault. The time is handed
in.
"""

import random
from collections.abc import Callable, Mapping
from typing import Final

from aiorchsim.buckets import RateLimits
from aiorchsim.fault_rules import FaultRules
from aiorchsim.faults import (
    REFUSALS,
    STREAMS_ONLY,
    Fault,
    Suffered,
    fault_at_end,
    fault_named,
    instead,
    rendering_of,
    spoil,
)
from aiorchsim.http1 import Request
from aiorchsim.models import Model, Work
from aiorchsim.profile import ANY_MODEL, ModelProfile, Profile
from aiorchsim.prompt_cache import NOTHING_CACHED, PromptCache
from aiorchsim.replay import Replay
from aiorchsim.responses import STREAM_TYPE, Dialect, Piece, Refusal, Rendering, Response
from aiorchsim.statistics import FREE, OTHER, Outcome, Statistics

FAULT_HEADER: Final = "x-aiorchsim-fault"
LATENCY_HEADER: Final = "x-aiorchsim-latency-s"
LONGEST_LATENCY_S: Final = 3600.0
NONE: Final = "(none)"
SHOWN_KEY_CHARACTERS: Final = 4
MOST_REMEMBERED: Final = 512
LARGEST_REMEMBERED_BYTES: Final = 32 * 1024


class Simulation:
    """All state of one simulated provider. `now` is always on one clock, in seconds."""

    def __init__(self, profile: Profile, *, seed: int, replay: Replay | None, now: float) -> None:
        self.profile = profile
        self.seed = seed
        self.replay = replay
        self.statistics = Statistics(seed, now)
        self.elsewhere = "redirected.invalid"
        """Where redirects lead: this simulator under another host name, once it is known."""
        self.go_down: Callable[[float], None] = lambda for_s: None  # noqa: ARG005 (until there is a server)
        """Stop listening and drop every connection for so many seconds."""
        self.faults = FaultRules(profile.all_faults(), now)
        self._serial = 0
        self._remembered: dict[tuple[str, bytes], Work] = {}
        self._prompt_cache = PromptCache()
        self._random = random.Random(seed)
        self._models: dict[str, Model] = {}
        self._dead_keys = frozenset(profile.dead_keys)
        self._named_keys = self._dead_keys | frozenset(profile.api_keys)
        self._fill_limits(now)

    def reset(self, now: float) -> None:
        """Begin anew: counts at zero, limits full, nothing cached, chance and faults as at the start. Calls in flight
        go on.
        """
        self._random = random.Random(self.seed)
        self._remembered.clear()
        self._prompt_cache.clear()
        self.faults.replace(self.profile.all_faults(), now)
        self._fill_limits(now)
        self.statistics.restart()

    def _fill_limits(self, now: float) -> None:
        self._models = {model.name: self._live(model, now) for model in self.profile.models}

    def _live(self, model: ModelProfile, now: float) -> Model:
        limits = None
        if model.requests_per_minute is not None or model.tokens_per_minute is not None:
            limits = RateLimits(
                model.requests_per_minute,
                model.tokens_per_minute,
                model.burst_s,
                now,
                count_refused=model.count_refused,
            )
        return Model(model, limits, model.rate_limit_headers or self.profile.rate_limit_headers)

    def model_named(self, name: str) -> Model | None:
        """The model that answers to a name, with or without a fault at its end, or None."""
        model = self._models.get(name)
        if model is None and "+" in name:
            model = self._models.get(fault_at_end(name)[0])
        return model or self._models.get(ANY_MODEL)

    def model_names(self) -> list[str]:
        """The names that the profile lists, and those of a replay that something answers to."""
        names = [name for name in self._models if name != ANY_MODEL]
        if self.replay is not None:
            names += [name for name in self.replay.models if name not in names and self.model_named(name)]
        return names

    def remembered(self, endpoint: str, body: bytes) -> Work | None:
        """The work for a request body that came before: the same body always means the same work."""
        return self._remembered.get((endpoint, body))

    def remember(self, endpoint: str, body: bytes, work: Work, answer_bytes: int) -> None:
        """Keep work for the same body coming again; the oldest is forgotten first, and large ones at once."""
        if len(body) + answer_bytes <= LARGEST_REMEMBERED_BYTES:
            if len(self._remembered) >= MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[endpoint, body] = work

    def perform(
        self, endpoint: str, dialect: Dialect, request: Request, work: Work | Refusal | bytes, now: float, created: int
    ) -> Response:
        """Decide everything about one call, and count it as received; the server ends the account when it has played
        the plan.

        `work` may be a body that takes no model and no time.
        """
        self._serial += 1
        api_key = dialect.key_of(request.headers, request.query)
        if isinstance(work, Refusal | bytes):
            model, name, by_name, prices = None, NONE, None, FREE
        else:
            model, name, by_name, prices = work.model, work.model_name, None, work.model.prices
            if "+" in name:
                name, by_name = fault_at_end(name)
        call = self.statistics.begin(endpoint, name, self._shown_key(api_key), prices, now)
        suffers: Suffered | Refusal | None = by_name
        if FAULT_HEADER in request.headers:
            suffers = _asked_fault(request.headers[FAULT_HEADER])
        if suffers is None and self.faults and model is not None:
            suffers = self.faults.suffered((name, model.profile.name), api_key, now, self._random)
        response = self._plan(dialect, request, work, suffers, api_key, now, created)
        response.call = call
        if dialect.id_line:
            response.header_lines += dialect.id_line % self._serial
        if model is not None and model.limits is not None and model.tells and response.status:
            response.header_lines += dialect.limit_lines(model.limits, now, created + response.skew_s)
        return response

    def _plan(
        self,
        dialect: Dialect,
        request: Request,
        work: Work | Refusal | bytes,
        suffers: Suffered | Refusal | None,
        api_key: str,
        now: float,
        created: int,
    ) -> Response:
        if isinstance(suffers, Refusal):
            return dialect.refused(suffers)
        latency_s = _latency_asked(request.headers)
        if isinstance(latency_s, Refusal):
            return dialect.refused(latency_s)
        if suffers is not None and suffers.fault in STREAMS_ONLY and not (isinstance(work, Work) and work.streamed):
            suffers = None
        if suffers is not None:
            self.statistics.faults[suffers.fault.value] += 1
            response = self._instead(suffers, dialect, request, created)
            if response is not None:
                response.delay_s = latency_s or 0.0
                return response
        if api_key in self._dead_keys or (self.profile.api_keys and api_key not in self._named_keys):
            return dialect.refused(REFUSALS[Fault.AUTH])
        if isinstance(work, Refusal):
            return dialect.refused(work)
        if isinstance(work, bytes):
            response = Response(200, work, delay_s=latency_s or 0.0)
        else:
            response = self._worked(dialect, work, suffers, now, created, latency_s)
        if suffers is not None and response.outcome is Outcome.ANSWERED:
            spoil(suffers, response, dialect)
        return response

    def _worked(
        self,
        dialect: Dialect,
        work: Work,
        suffers: Suffered | None,
        now: float,
        created: int,
        latency_s: float | None,
    ) -> Response:
        model = work.model
        if model.limits is not None:
            if suffers is not None and suffers.fault is Fault.QUOTA_EATEN:
                model.limits.eat(now)
            refused = model.limits.admit(work.prompt_tokens + work.completion_tokens, now)
            if refused is not None:
                refusal = dialect.rate_limited(work.model_name, refused, model.tells_retry)
                return dialect.refused(refusal)
        profile = model.profile
        if latency_s is None:
            latency_s = self._latency(work, profile)
        if profile.error_rate and self._random.random() < profile.error_rate:
            response = dialect.refused(REFUSALS[Fault.ERROR_500])
            response.delay_s = latency_s
            return response
        cached = NOTHING_CACHED
        if work.marks:
            cached = self._prompt_cache.use(model.profile.name, work.marks, now, now + latency_s)
        rendering = Rendering(self._serial, created, cached)
        if suffers is not None:
            rendering = rendering_of(suffers.fault, rendering)
        if not work.streamed:
            response = Response(200, work.body(rendering), delay_s=latency_s)
            response.completion_tokens = work.told_tokens(rendering)
        else:
            response = Response(200, content_type=STREAM_TYPE, delay_s=latency_s)
            response.header_lines = b"cache-control: no-cache\r\n"
            response.pieces = _timed(work.events(rendering), profile.latency_per_output_token_s)
        if work.together is not None:
            self.statistics.batches.add(work.together)
        response.prompt_tokens = work.prompt_tokens
        response.cached = cached
        if dialect.time_line:
            response.header_lines += dialect.time_line % round(latency_s * 1000)
        return response

    def _latency(self, work: Work, profile: ModelProfile) -> float:
        """Seconds to the whole answer, or to the first event of a stream."""
        latency_s = profile.latency_s if work.latency_s is None else work.latency_s
        if work.streamed and profile.first_token_s is not None:
            latency_s = profile.first_token_s
        if profile.latency_jitter_s:
            latency_s += self._random.uniform(-profile.latency_jitter_s, profile.latency_jitter_s)
        if not work.streamed and work.latency_s is None:
            latency_s += profile.latency_per_output_token_s * work.completion_tokens
        return max(0.0, latency_s)

    def _instead(self, suffers: Suffered, dialect: Dialect, request: Request, created: int) -> Response | None:
        if suffers.fault is Fault.REDIRECT:
            location = f"http://{self.elsewhere}/sim/redirected{request.path}"
            lines = f"location: {location}\r\n".encode("latin-1", "replace")
            return Response(302, b"{}", lines, outcome=Outcome.ERRORS)
        return instead(suffers, dialect, created)

    def _shown_key(self, api_key: str) -> str:
        """How a key is shown in the counts: whole when it is one of the profile's, else its end."""
        if api_key in self._named_keys:
            return api_key
        if not api_key:
            return NONE
        return f"…{api_key[-SHOWN_KEY_CHARACTERS:]}" if len(api_key) > 2 * SHOWN_KEY_CHARACTERS else OTHER


def _timed(events: list[tuple[bytes, int]], per_token_s: float) -> list[Piece]:
    if not per_token_s:
        return [Piece(0.0, data, tokens) for data, tokens in events]
    pieces = []
    after_s = 0.0
    for data, tokens in events:
        after_s += tokens * per_token_s
        pieces.append(Piece(after_s, data, tokens))
    return pieces


def _latency_asked(headers: Mapping[str, str]) -> float | Refusal | None:
    written = headers.get(LATENCY_HEADER)
    if written is None:
        return None
    try:
        latency_s = float(written)
    except ValueError:
        latency_s = -1.0
    if not 0 <= latency_s <= LONGEST_LATENCY_S:
        message = f"{LATENCY_HEADER} must be a number of seconds from 0 to {LONGEST_LATENCY_S:g}, got {written[:40]!r}."
        return Refusal(400, "invalid_request_error", message)
    return latency_s


def _asked_fault(asked: str) -> Suffered | Refusal:
    named = fault_named(asked)
    if isinstance(named, Suffered):
        return named
    return Refusal(400, "invalid_request_error", f"{FAULT_HEADER}: {named}")
