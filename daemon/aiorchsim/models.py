"""A model as it lives in the simulator, and the work that a request means for it."""

from typing import Protocol

from aiorchsim.buckets import RateLimits
from aiorchsim.profile import ModelProfile


class Model:
    """A model of the profile with its live limits."""

    __slots__ = ("faults_left", "limits", "profile", "tells", "tells_retry")

    def __init__(self, profile: ModelProfile, limits: RateLimits | None, header_mode: str) -> None:
        self.profile = profile
        self.limits = limits
        self.tells = header_mode == "full"
        self.tells_retry = header_mode != "none"
        self.faults_left = profile.fault_first


class Work(Protocol):
    """A request that was understood and answered; it is immutable and may be played any number of times."""

    @property
    def model(self) -> Model:
        """The model that answers."""

    @property
    def model_name(self) -> str:
        """The name that the request used."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer."""

    @property
    def latency_s(self) -> float | None:
        """Seconds to the answer where a replay knows them."""

    @property
    def streamed(self) -> bool:
        """Whether the answer is asked for as a stream."""

    def body(self, serial: int, created: int) -> bytes:
        """The whole answer; `serial` makes its id unique, `created` is the time in seconds since 1970."""

    def events(self, serial: int, created: int) -> list[tuple[bytes, int]]:
        """The answer as a stream: each event with the tokens it carries."""
