"""A model as it lives in the simulator, and the work that a request means for it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from aiorchsim.buckets import RateLimits
from aiorchsim.profile import ModelProfile
from aiorchsim.prompt_cache import Mark
from aiorchsim.responses import Rendering, Shape
from aiorchsim.statistics import Prices
from aiorchsim.textwork.together import Spoiled

NO_MARKS: Final[tuple[Mark, ...]] = ()


class Model:
    """A model of the profile with its live limits."""

    __slots__ = ("limits", "prices", "profile", "tells", "tells_retry")

    def __init__(self, profile: ModelProfile, limits: RateLimits | None, header_mode: str) -> None:
        self.profile = profile
        self.limits = limits
        self.tells = header_mode == "full"
        self.tells_retry = header_mode != "none"
        asked = profile.input_usd_per_1m
        read, written, long = (
            profile.cache_read_usd_per_1m,
            profile.cache_write_usd_per_1m,
            profile.cache_write_1h_usd_per_1m,
        )
        written = asked if written is None else written
        self.prices = Prices(
            asked,
            profile.output_usd_per_1m,
            asked if read is None else read,
            written,
            written if long is None else long,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(ABC):
    """A request that was understood and answered; it may be played any number of times. Dialects add the bytes."""

    model: Model
    model_name: str
    """The name that the request used, with the fault at its end where it has one."""
    prompt_tokens: int
    completion_tokens: int = 0
    latency_s: float | None = None
    """Seconds to the answer where a replay knows them."""
    streamed: bool = False
    marks: tuple[Mark, ...] = NO_MARKS
    """Where the prompt can be cached."""
    together: Spoiled | None = None
    """The many items that stood in the prompt, if there were any."""

    def told_tokens(self, rendering: Rendering) -> int:
        """Tokens of the answer as it is told: of one that is empty or withheld, none."""
        return self.completion_tokens if rendering.shape is Shape.WHOLE else 0

    @abstractmethod
    def body(self, rendering: Rendering) -> bytes:
        """The whole answer."""

    @abstractmethod
    def events(self, rendering: Rendering) -> list[tuple[bytes, int]]:
        """The answer as a stream: each event with the tokens it carries."""
