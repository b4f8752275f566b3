"""What comes back: typed, frozen records made from the wire's plain maps.

Reading is lenient, since a daemon may be newer or older than this library: what is missing takes its default, what has
no name here stays in ``raw``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiorch.errors import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, in parts that add up to the provider's total.

    ``input`` is what was neither read from nor written to the provider's own prompt cache, ``output`` what is left
    without ``reasoning``. ``estimated`` marks counts that the provider did not report.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """All tokens."""
        return self.input + self.cache_read + self.cache_write + self.output + self.reasoning


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the seconds of a call went inside the daemon: waiting, at the provider, all the rest, and their sum."""

    queue_s: float = 0.0
    provider_s: float = 0.0
    overhead_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """One answer. Fields are read from ``raw``, the map as it came, when they are asked for: few callers ask for many."""

    raw: Mapping[str, Any]

    @classmethod
    def from_wire(cls, result: Any) -> Reply:
        """Take the result of ``complete``. Raises `RemoteProtocolError` when it is no map."""
        if type(result) is not dict:
            raise RemoteProtocolError(f"complete: the result must be a map, got {type(result).__name__}")
        reply = _new_reply(cls)  # the shortest way to a frozen record: one is made for every call
        _set_raw(reply, result)
        return reply

    @property
    def id(self) -> str:
        """This call's own, also on a hit; what ``explain`` asks for."""
        return self.raw.get("id") or ""

    @property
    def text(self) -> str:
        """The answer; ``""`` when there is none."""
        return self.raw.get("text") or ""

    @property
    def data(self) -> Any:
        """The answer parsed, when JSON or a schema was asked for; else None."""
        return self.raw.get("data")

    @property
    def tool_calls(self) -> tuple[dict[str, Any], ...]:
        """What the model wants called, in OpenAI's shape."""
        return tuple(self.raw.get("tool_calls") or ())

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, as the provider said it."""
        return self.raw.get("finish_reason")

    @property
    def model(self) -> str:
        """The configured name of the model that answered."""
        return self.raw.get("model") or ""

    @property
    def provider(self) -> str:
        """The configured name of the provider that answered."""
        return self.raw.get("provider") or ""

    @property
    def simulated(self) -> bool:
        """Whether no real model answered."""
        return self.raw.get("simulated") is True

    @property
    def contributing_models(self) -> tuple[str, ...]:
        """All models whose answers went into this one."""
        return tuple(self.raw.get("contributing_models") or ())

    @property
    def confidence(self) -> float | None:
        """How sure the answer is, 0 to 1; None where one model was asked for this very question."""
        return self.raw.get("confidence")

    @property
    def confidence_scores(self) -> Mapping[str, float]:
        """How sure each model was, by name."""
        return self.raw.get("confidence_scores") or {}

    @property
    def usage(self) -> Usage | None:
        """Tokens used for this answer, by whoever asked first; None when nothing is known of them."""
        return _usage(self.raw.get("usage"))

    @property
    def cost_usd(self) -> float | None:
        """What this call cost: 0 on a hit or when another's call was shared; None when the price is not known, or when an
        attempt was cut off and nobody said what it cost."""
        return self.raw.get("cost_usd")

    @property
    def cost_known_usd(self) -> float | None:
        """What is known of ``cost_usd``: the same, or where that is None the attempts whose cost is known."""
        known: float | None = self.raw.get("cost_known_usd", self.cost_usd)
        return known

    @property
    def cost_unknown_attempts(self) -> int:
        """How many attempts made for it have an unknown cost."""
        return self.raw.get("cost_unknown_attempts") or 0

    @property
    def cost_estimate_usd(self) -> float | None:
        """An estimate of what those cost, beside ``cost_known_usd``, and never too low where prices are known; 0 when there
        are none, None when there is none."""
        estimate: float | None = self.raw.get("cost_estimate_usd", None if self.cost_usd is None else 0.0)
        return estimate

    @property
    def saved_usd(self) -> float | None:
        """What the answer cost when it was asked for, as far as that was told; None when its price is not known."""
        return self.raw.get("saved_usd")

    @property
    def cache(self) -> str:
        """Where the answer is from: ``miss``, ``exact``, ``normalised``, ``semantic``, ``stale`` or ``coalesced``."""
        return self.raw.get("cache") or "miss"

    @property
    def source_id(self) -> str | None:
        """Of a semantic answer: the call whose answer this is."""
        return self.raw.get("source_id")

    @property
    def likeness(self) -> float | None:
        """Of a semantic answer: how alike the questions are, -1 to 1; ``confidence`` says how surely it is right."""
        return self.raw.get("likeness")

    @property
    def batched(self) -> bool:
        """Whether it shared a provider call with other questions."""
        return self.raw.get("batched") is True

    @property
    def attempts(self) -> int:
        """Provider calls made for it."""
        return self.raw.get("attempts") or 0

    @property
    def timing(self) -> Timing:
        """Where its time went inside the daemon."""
        return _timing(self.raw.get("timing"))

    @property
    def validation(self) -> Mapping[str, Any] | None:
        """How the answer was checked, if it was."""
        return self.raw.get("validation")

    @property
    def extra(self) -> Mapping[str, Any]:
        """The provider's fields that have no name here."""
        return self.raw.get("extra") or {}

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return (
            f"<Reply {self.id} text={text!r} model={self.model!r} cache={self.cache!r} cost_usd={self.cost_usd} "
            f"finish_reason={self.finish_reason!r}>"
        )


_new_reply: Final = object.__new__
_set_raw: Final = vars(Reply)["raw"].__set__


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """The vectors of some texts, in the order of the texts; the other fields are as in `Reply`."""

    id: str = ""
    vectors: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    model: str = ""
    provider: str = ""
    simulated: bool = False
    usage: Usage | None = None
    cost_usd: float | None = None
    saved_usd: float | None = None
    cache: str = "miss"
    timing: Timing = Timing()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, result: Any) -> Embedding:
        """Read the result of ``embed``, vectors in either encoding. Raises `RemoteProtocolError` when it makes no sense."""
        if type(result) is not dict:
            raise RemoteProtocolError(f"embed: the result must be a map, got {type(result).__name__}")
        get = result.get
        return cls(
            id=get("id") or "",
            vectors=tuple(_vector(vector) for vector in get("vectors") or ()),
            model=get("model") or "",
            provider=get("provider") or "",
            simulated=get("simulated") is True,
            usage=_usage(get("usage")),
            cost_usd=get("cost_usd"),
            saved_usd=get("saved_usd"),
            cache=get("cache") or "miss",
            timing=_timing(get("timing")),
            raw={name: value for name, value in result.items() if name != "vectors"},
        )


@dataclass(frozen=True, slots=True)
class Delta:
    """One piece of an answer while it streams: text, or parts of tool calls in OpenAI's delta shape."""

    index: int
    text: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Who answers at the socket, and who it takes this process for: its answer to ``hello``."""

    version: str = ""
    protocol: int = 0
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    unit: str = ""
    admin: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, result: Any) -> Server:
        """Read the result of ``hello``. Raises `RemoteProtocolError` when it is no map."""
        if type(result) is not dict:
            raise RemoteProtocolError(f"hello: the result must be a map, got {type(result).__name__}")
        get = result.get
        return cls(
            version=get("version") or "",
            protocol=get("protocol") or 0,
            uid=get("uid"),
            gid=get("gid"),
            pid=get("pid"),
            unit=get("unit") or "",
            admin=get("admin") is True,
            raw=result,
        )


def _usage(parts: Any) -> Usage | None:
    if type(parts) is not dict:
        return None
    get = parts.get
    return Usage(
        get("input") or 0,
        get("cache_read") or 0,
        get("cache_write") or 0,
        get("output") or 0,
        get("reasoning") or 0,
        get("estimated") is True,
    )


def _timing(parts: Any) -> Timing:
    if type(parts) is not dict:
        return _NO_TIME
    get = parts.get
    return Timing(get("queue_s") or 0.0, get("provider_s") or 0.0, get("overhead_s") or 0.0, get("total_s") or 0.0)


_NO_TIME: Final = Timing()


def _vector(packed: Any) -> tuple[float, ...]:
    """Read a vector: a list of numbers, or bytes of little-endian float32."""
    if type(packed) is list:
        return tuple(packed)
    if type(packed) is bytes and len(packed) % 4 == 0:
        return struct.unpack(f"<{len(packed) // 4}f", packed)
    raise RemoteProtocolError("embed: a vector must be a list of numbers or bytes of little-endian float32")
