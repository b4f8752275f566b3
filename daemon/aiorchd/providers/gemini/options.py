"""How one endpoint that speaks Gemini's dialect is spoken to, and the addresses that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, urlsplit

from aiorchd.providers.transport import Endpoint

Authorisation: TypeAlias = Literal["auto", "bearer", "api-key", "none"]
StructuredOutput: TypeAlias = Literal["json_schema", "json_object", "none"]

BASE_URL: Final = "https://generativelanguage.googleapis.com/v1beta"


@dataclass(frozen=True, slots=True)
class GeminiOptions:
    """``[providers.NAME]`` of an endpoint with ``dialect = "gemini"``.

    ``base_url`` is the address up to and with the version; a bare host gets ``/v1beta``, as Google's own tools add it. At
    Vertex it goes up to and with ``/publishers/google``. ``authorisation`` ``auto`` and ``api-key`` send
    ``x-goog-api-key``, ``bearer`` ``Authorization: Bearer``. ``structured_output`` is how an ``output_schema`` is passed
    on: as ``responseJsonSchema``, as a bare wish for JSON, or not at all; the answer is validated here in any case.
    ``headers`` are sent with every request.
    """

    base_url: str = BASE_URL
    http2: bool = False
    authorisation: Authorisation = "auto"
    structured_output: StructuredOutput = "json_schema"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Addresses:
    """The endpoints of one provider. Raises `ValueError`, without the address, when ``base_url`` is no good."""

    def __init__(self, options: GeminiOptions) -> None:
        Endpoint.parse(options.base_url, http2=options.http2)
        parts = urlsplit(options.base_url)
        self._http2 = options.http2
        self._root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1beta'}"
        self._known: dict[tuple[str, str], Endpoint] = {}

    def of(self, method: str, model: str) -> Endpoint:
        """Give the endpoint of a model's method such as ``generateContent``."""
        endpoint = self._known.get((method, model))
        if endpoint is None:
            url = f"{self._root}/{quote(resource_name(model), safe='/')}:{method}"
            endpoint = self._known[(method, model)] = Endpoint.parse(url, http2=self._http2)
        return endpoint

    def listing(self) -> Endpoint:
        """Give the endpoint of the list of models."""
        return Endpoint.parse(f"{self._root}/models?pageSize=1000", http2=self._http2)


def resource_name(model: str) -> str:
    """Give a model's name as requests have it: ``models/…``, unless it says another collection itself."""
    return model if "/" in model else f"models/{model}"
