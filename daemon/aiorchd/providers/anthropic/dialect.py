"""Anthropic's dialect at one address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiorch.errors import UnknownModel
from aiorchd.calls.target import Target
from aiorchd.providers.answer import ChatAnswer, Unreadable
from aiorchd.providers.anthropic.answer import read_chat
from aiorchd.providers.anthropic.options import VERSION, AnthropicOptions, endpoint_of
from aiorchd.providers.anthropic.request import encode_chat
from aiorchd.providers.anthropic.stream import ChatAssembler
from aiorchd.providers.dialect import Embedded, ModelList, WireRequest
from aiorchd.providers.headers import fixed_headers
from aiorchd.providers.secret import Secret
from aiorchd.providers.transport.channel import Headers

_BETA: str = "anthropic-beta"


class AnthropicDialect:
    """Satisfies `aiorchd.providers.dialect.Dialect`. Raises `ValueError` for an address that is none."""

    def __init__(self, options: AnthropicOptions) -> None:
        self._options = options
        self._messages = endpoint_of(options, "messages")
        self._models = endpoint_of(options, "models?limit=1000")
        configured = {name.strip().lower(): value for name, value in options.headers.items()}
        self._betas = tuple(one.strip() for one in configured.get(_BETA, "").split(",") if one.strip())

    def headers(self, key: Secret | None) -> Headers:
        """Give the headers of every request (see `Dialect`)."""
        own = {"anthropic-version": self._options.api_version or VERSION}
        style = self._options.authorisation
        if key is not None and style == "bearer":
            own["authorization"] = f"Bearer {key.reveal()}"
        elif key is not None and style != "none":
            own["x-api-key"] = key.reveal()
        return fixed_headers(own, self._options.headers)

    def chat_request(
        self, request: Mapping[str, Any], target: Target, *, stream: bool, recurring: bool = False
    ) -> WireRequest:
        """Write a chat request (see `Dialect`). What recurs is kept there only when it is marked."""
        written = encode_chat(request, target, self._options, stream=stream, recurring=recurring)
        headers: Headers = ()
        if written.betas:
            betas = ",".join(dict.fromkeys((*self._betas, *written.betas)))
            headers = ((_BETA.encode(), betas.encode("ascii")),)
        return WireRequest(self._messages, written.body, headers, written.not_sent, written.answer_tool)

    def read_usual(self, body: bytes, asked: WireRequest) -> None:  # noqa: ARG002
        """Know no usual form (see `Dialect`)."""
        return

    def read_chat(self, payload: Any, asked: WireRequest) -> ChatAnswer:
        """Read a whole answer (see `Dialect`)."""
        del asked
        return read_chat(payload)

    def assembler(self, key: Secret | None, asked: WireRequest) -> ChatAssembler:
        """Make what reads a streamed answer (see `Dialect`)."""
        return ChatAssembler(key, answer_tool=asked.answer_tool)

    def embed_request(self, request: Mapping[str, Any], target: Target) -> WireRequest:
        """Refuse: there are no embeddings in this dialect. A fallback may have them."""
        del request
        raise UnknownModel(
            f"{target.name} gives no vectors: Anthropic's dialect has no embeddings; name a model of another provider",
            details={"provider": target.provider, "sent": False},
        )

    def read_vectors(self, payload: Any, count: int, dimensions: int | None) -> Embedded:
        """Refuse; nothing is ever asked for."""
        del payload, count, dimensions
        raise Unreadable("with vectors that nobody asked for")

    def model_list(self) -> ModelList:
        """Say where the list of models is (see `Dialect`)."""
        return ModelList(self._models)
