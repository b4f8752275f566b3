"""`[providers.NAME]`: an endpoint that speaks one wire dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, field

from aiorchd.config.key import key, longest, span
from aiorchd.config.schema.table import Section

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
    account: Annotated[
        Annotated[str, Meta(min_length=1, max_length=100)] | None,
        key(
            "Name of the account there that this provider and others draw on. Yours to choose; equal names share.",
            effect="All keys of providers that name the same account share its quotas: requests_per_minute and the like of these "
            "tables, of which the lowest holds, and of models with the same id what is configured for them or told by answers. "
            "Left out, each key has quotas of its own.",
            example='"our-organisation"',
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
    prompt_cache: Annotated[
        Literal["auto", "none"],
        key(
            "Whether it is asked to keep what prompts begin with (anthropic only; openai and gemini keep it by themselves).",
            effect="auto marks tools and system prompts of some 1,024 tokens and more that were sent in the last five minutes, "
            "too: the second call pays a quarter more for them, those after it a tenth. Calls with a cache_control of their own "
            "are left as they are. none never does.",
        ),
    ] = "auto"
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
