"""A first configuration file: providers people have, and the text that `aiorchctl init` writes.

Of each provider only what does not change often is known here: its address and the name its own tools give the variable
of the key. Models and prices do change, so they are asked for, and a price that is not given stays unknown.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import tomli_w

OTHER: Final = "other"


_OPENING: Final = (
    "The configuration of aiorchd, begun by `aiorchctl init`. The daemon reads it again when it is saved; what is wrong "
    "changes nothing, and `aiorchctl status` says what it is."
)
_KEY: Final = "The key of the provider is not in here and never should be: the file only says where it is."
_MODELS: Final = (
    "Callers ask for models by name; the first one serves calls that name none. A model without prices has an unknown "
    "cost, which is never shown as nothing. Useful keys to add to a model: requests_per_minute and tokens_per_minute "
    "(what your account allows; calls then wait their turn instead of getting a 429)."
)
_MORE: Final = "Every key with its default and meaning: `aiorchctl config schema --manual`."


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """``base_url`` may hold ``{resource}`` and is empty where the dialect has a place of its own. ``key_env`` is empty where
    no key is needed, and ``free`` where nothing is paid."""

    base_url: str
    key_env: str
    model: str
    free: bool = False
    dialect: str = "openai"


KNOWN: Final[Mapping[str, KnownProvider]] = MappingProxyType(
    {
        "openai": KnownProvider("https://api.openai.com/v1", "OPENAI_API_KEY", "gpt-4o-mini"),
        "anthropic": KnownProvider("", "ANTHROPIC_API_KEY", "claude-sonnet-4-5", dialect="anthropic"),
        "gemini": KnownProvider("", "GEMINI_API_KEY", "gemini-2.5-flash", dialect="gemini"),
        "azure": KnownProvider(
            "https://{resource}.openai.azure.com/openai/v1", "AZURE_OPENAI_API_KEY", "the name of your deployment"
        ),
        "ollama": KnownProvider("http://localhost:11434/v1", "", "llama3.2", free=True),
        "openrouter": KnownProvider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openai/gpt-4o-mini"),
        "groq": KnownProvider("https://api.groq.com/openai/v1", "GROQ_API_KEY", "llama-3.1-8b-instant"),
        "mistral": KnownProvider("https://api.mistral.ai/v1", "MISTRAL_API_KEY", "mistral-small-latest"),
        "deepseek": KnownProvider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek-chat"),
        OTHER: KnownProvider("", "", "what its documentation says"),
    }
)


@dataclass(frozen=True, slots=True)
class FirstModel:
    """A model: what callers say, what the provider says, US dollars for a million tokens (None: unknown)."""

    name: str
    id: str
    input_usd_per_1m: float | None = None
    output_usd_per_1m: float | None = None


@dataclass(frozen=True, slots=True)
class FirstFile:
    """What goes into the file. ``base_url`` is empty for the dialect's own place. At most one of ``key_env`` and
    ``key_credential`` is set."""

    provider: str
    base_url: str
    dialect: str = "openai"
    key_env: str | None = None
    key_credential: str | None = None
    models: Sequence[FirstModel] = field(default=())
    profile: str | None = None
    per_day_usd: float | None = None

    def tables(self) -> dict[str, Any]:
        """Give it as plain tables."""
        provider = {
            "dialect": None if self.dialect == "openai" else self.dialect,
            "base_url": self.base_url or None,
            "api_key_env": self.key_env,
            "api_key_credential": self.key_credential,
        }
        models = [
            {
                "name": model.name,
                "provider": self.provider,
                "id": None if model.id == model.name else model.id,
                "input_usd_per_1m": model.input_usd_per_1m,
                "output_usd_per_1m": model.output_usd_per_1m,
            }
            for model in self.models
        ]
        tables: dict[str, Any] = {} if self.profile is None else {"profile": self.profile}
        if self.per_day_usd is not None:
            tables["budget"] = {"per_day_usd": self.per_day_usd}
        tables["providers"] = {self.provider: _given(provider)}
        tables["models"] = [_given(model) for model in models]
        return tables

    def text(self) -> str:
        """Write it."""
        words = [_OPENING, _MODELS, _MORE]
        if self.key_env is not None or self.key_credential is not None:
            words.insert(1, _KEY)
        comment = "\n#\n".join(
            textwrap.fill(one, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
            for one in words
        )
        return f"{comment}\n\n{tomli_w.dumps(self.tables())}"


def _given(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value is not None}
