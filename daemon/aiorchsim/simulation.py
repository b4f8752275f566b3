"""The simulated provider itself, apart from HTTP and dialects: models with live limits, chance, time to answer, and
the counting.

One way through for every call: a fault that comes instead of work; then what the dialect could not understand; then
the limits; then errors by chance; then the answer after its latency, perhaps spoiled by a fault. The time is handed
in.
"""

import random
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from aiorchsim.buckets import RateLimits, Refused, duration, retry_after_lines
from aiorchsim.faults import REFUSALS, Fault, instead, spoil
from aiorchsim.http1 import Request
from aiorchsim.models import Model, Work
from aiorchsim.profile import ANY_MODEL, ModelProfile, Profile
from aiorchsim.replay import Replay
from aiorchsim.responses import STREAM_TYPE, Dialect, Piece, Refusal, Response
from aiorchsim.statistics import Outcome, Statistics

FAULT_HEADER: Final = "x-aiorchsim-fault"
LATENCY_HEADER: Final = "x-aiorchsim-latency-s"
LONGEST_LATENCY_S: Final = 3600.0
NO_MODEL: Final = "(none)"
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
        self._serial = 0
        self._remembered: dict[tuple[str, bytes], Work] = {}
        self._random = random.Random(seed)
        self._models: dict[str, Model] = {}
        self._fill_limits(now)

    def reset(self, now: float) -> None:
        """Begin anew: counts at zero, limits full, chance and faults as at the start. Calls in flight go on."""
        self._random = random.Random(self.seed)
        self._remembered.clear()
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
        """The model that answers to a name, or None."""
        return self._models.get(name) or self._models.get(ANY_MODEL)

    def model_names(self) -> list[str]:
        """The names that the profile lists."""
        return [name for name in self._models if name != ANY_MODEL]

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
        if isinstance(work, Refusal | bytes):
            model, name, prices = None, NO_MODEL, (0.0, 0.0)
        else:
            model, name = work.model, work.model_name
            prices = (model.profile.input_usd_per_1m, model.profile.output_usd_per_1m)
        call = self.statistics.begin(endpoint, name, prices)
        response = self._plan(dialect, request, work, model, now, created)
        response.call = call
        response.header_lines += b"x-request-id: req_%016x\r\n" % self._serial
        if model is not None and model.limits is not None and model.tells and response.status:
            response.header_lines += model.limits.header_lines(now)
        return response

    def _plan(
        self,
        dialect: Dialect,
        request: Request,
        work: Work | Refusal | bytes,
        model: Model | None,
        now: float,
        created: int,
    ) -> Response:
        headers = request.headers
        asked = headers.get(FAULT_HEADER)
        if asked is not None and asked not in _FAULTS:
            return _refused(dialect, _unknown_fault(asked))
        latency_s = _latency_asked(headers)
        if isinstance(latency_s, Refusal):
            return _refused(dialect, latency_s)
        fault = Fault(asked) if asked is not None else self._fault_of(model)
        if fault is not None:
            self.statistics.faults[fault.value] += 1
            response = self._instead(fault, dialect, request, model)
            if response is not None:
                response.delay_s = latency_s or 0.0
                return response
        if self.profile.api_keys and not self._authorised(headers):
            return _refused(dialect, REFUSALS[Fault.AUTH])
        if isinstance(work, Refusal):
            return _refused(dialect, work)
        if isinstance(work, bytes):
            response = Response(200, work, delay_s=latency_s or 0.0)
        else:
            response = self._worked(dialect, work, now, created, latency_s)
        if fault is not None and response.outcome is Outcome.ANSWERED:
            spoil(fault, response, dialect)
        return response

    def _worked(self, dialect: Dialect, work: Work, now: float, created: int, latency_s: float | None) -> Response:
        model = work.model
        if model.limits is not None:
            refused = model.limits.admit(work.prompt_tokens + work.completion_tokens, now)
            if refused is not None:
                return _rate_limited(dialect, model, work.model_name, refused)
        profile = model.profile
        if latency_s is None:
            latency_s = self._latency(work, profile)
        if profile.error_rate and self._random.random() < profile.error_rate:
            response = _refused(dialect, REFUSALS[Fault.ERROR_500])
            response.delay_s = latency_s
            return response
        if not work.streamed:
            response = Response(200, work.body(self._serial, created), delay_s=latency_s)
            response.completion_tokens = work.completion_tokens
        else:
            response = Response(200, content_type=STREAM_TYPE, delay_s=latency_s)
            response.header_lines = b"cache-control: no-cache\r\n"
            response.pieces = _timed(work.events(self._serial, created), profile.latency_per_output_token_s)
        response.prompt_tokens = work.prompt_tokens
        response.header_lines += b"openai-processing-ms: %d\r\n" % round(latency_s * 1000)
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

    def _fault_of(self, model: Model | None) -> Fault | None:
        """The fault that the profile makes this call suffer, if any."""
        if model is None or model.profile.fault is None or model.faults_left == 0:
            return None
        if model.profile.fault_rate < 1.0 and self._random.random() >= model.profile.fault_rate:
            return None
        if model.faults_left is not None:
            model.faults_left -= 1
        return Fault(model.profile.fault)

    def _instead(self, fault: Fault, dialect: Dialect, request: Request, model: Model | None) -> Response | None:
        if fault is Fault.REDIRECT:
            location = f"http://{self.elsewhere}/sim/redirected{request.path}"
            lines = f"location: {location}\r\n".encode("latin-1", "replace")
            return Response(302, b"{}", lines, outcome=Outcome.ERRORS)
        if fault is Fault.RATE_LIMITED:
            retry_after_s = model.profile.fault_retry_after_s if model is not None else 1.0
            refusal = Refusal(429, "requests", "Rate limit reached for requests.", "rate_limit_exceeded")
            return Response(
                429, dialect.refusal_body(refusal), retry_after_lines(retry_after_s), outcome=Outcome.RATE_LIMITED
            )
        return instead(fault, dialect)

    def _authorised(self, headers: Mapping[str, str]) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and key.strip() in self.profile.api_keys


_FAULTS: Final = frozenset(fault.value for fault in Fault)


def _timed(events: list[tuple[bytes, int]], per_token_s: float) -> list[Piece]:
    if not per_token_s:
        return [Piece(0.0, data, tokens) for data, tokens in events]
    pieces = []
    after_s = 0.0
    for data, tokens in events:
        after_s += tokens * per_token_s
        pieces.append(Piece(after_s, data, tokens))
    return pieces


def _refused(dialect: Dialect, refusal: Refusal) -> Response:
    return Response(refusal.status, dialect.refusal_body(refusal), outcome=Outcome.ERRORS)


def _rate_limited(dialect: Dialect, model: Model, name: str, refused: Refused) -> Response:
    unit = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}[refused.limited_by]
    if refused.retry_after_s is None:
        message = (
            f"Request too large for {name} on {unit}: Limit {refused.limit}, Requested {refused.requested}. "
            "The input or output tokens must be reduced in order to run successfully."
        )
    else:
        message = (
            f"Rate limit reached for {name} on {unit}: Limit {refused.limit}, Used {refused.used}, "
            f"Requested {refused.requested}."
        )
        if model.tells_retry:
            message += f" Please try again in {duration(refused.retry_after_s)}."
    body = dialect.refusal_body(Refusal(429, refused.limited_by, message, "rate_limit_exceeded"))
    response = Response(429, body, outcome=Outcome.RATE_LIMITED)
    if model.tells_retry and refused.retry_after_s is not None:
        response.header_lines = retry_after_lines(refused.retry_after_s)
    return response


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


def _unknown_fault(asked: str) -> Refusal:
    near = get_close_matches(asked, list(Fault), n=1)
    remedy = f"Did you mean {near[0]}?" if near else f"The faults are {', '.join(Fault)}."
    return Refusal(400, "invalid_request_error", f"{FAULT_HEADER}: there is no fault {asked[:40]!r}. {remedy}")
