"""What a dialect is: how a question is written and its answer read. Pure; `remote` does the sending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from aiorchd.calls.reply import Usage
from aiorchd.calls.target import Target
from aiorchd.providers.answer import ChatAnswer
from aiorchd.providers.secret import Secret
from aiorchd.providers.streaming import Assembler
from aiorchd.providers.transport import Endpoint
from aiorchd.providers.transport.channel import Headers


class WireRequest(msgspec.Struct, frozen=True):
    """One request, written. ``headers`` are further ones, which replace fixed ones of the same name. ``not_sent`` names
    what the call asked for and this dialect has no field for, where leaving it out breaks no promise: the caller is told.
    ``answer_tool`` says that the answer is asked for as the call of a tool of ours.
    """

    endpoint: Endpoint
    body: bytes
    headers: Headers = ()
    not_sent: tuple[str, ...] = ()
    answer_tool: bool = False

    def __repr__(self) -> str:
        return f"WireRequest({self.endpoint!r}, <{len(self.body)} bytes>)"  # the body holds the prompt


@dataclass(frozen=True, slots=True)
class Embedded:
    """What an embeddings answer says: one vector (little-endian float32) for each input, in their order."""

    vectors: tuple[bytes, ...]
    usage: Usage | None = None
    provider_model: str | None = None


@dataclass(frozen=True, slots=True)
class ModelList:
    """Where an endpoint tells which models it has, and whether the names there are those of requests."""

    endpoint: Endpoint
    names_count: bool = True


class Dialect(Protocol):
    """One wire dialect at one address. Its constructor raises `ValueError`, without any secret, for options that cannot
    work."""

    def headers(self, key: Secret | None) -> Headers:
        """Give the headers of every request; raises `ValueError` as the constructor does."""
        ...

    def chat_request(
        self, request: Mapping[str, Any], target: Target, *, stream: bool, recurring: bool = False
    ) -> WireRequest:
        """Write a chat request; raises `InvalidRequest`, naming the field, for what cannot be carried. ``recurring``: see
        `Call.recurring`."""
        ...

    def read_usual(self, body: bytes, asked: WireRequest) -> ChatAnswer | None:
        """Read the body of a whole answer at once where it is of the usual form, to the same that `read_chat` makes of it; None
        for any other, and where a dialect knows no usual form."""
        ...

    def read_chat(self, payload: Any, asked: WireRequest) -> ChatAnswer:
        """Read the JSON of a whole answer; raises `Unreadable`."""
        ...

    def assembler(self, key: Secret | None, asked: WireRequest) -> Assembler:
        """Make what reads a streamed answer."""
        ...

    def embed_request(self, request: Mapping[str, Any], target: Target) -> WireRequest:
        """Write an embeddings request; raises `InvalidRequest`, and `UnknownModel` where there is no such thing."""
        ...

    def read_vectors(self, payload: Any, count: int, dimensions: int | None) -> Embedded:
        """Read the JSON of an embeddings answer; raises `Unreadable`."""
        ...

    def model_list(self) -> ModelList:
        """Say where the list of models is."""
        ...
