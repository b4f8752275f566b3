"""The Anthropic Messages dialect: Anthropic, and those that offer the same at an address of theirs."""

from aiorchd.providers.anthropic.dialect import AnthropicDialect
from aiorchd.providers.anthropic.options import AnthropicOptions

__all__ = ["AnthropicDialect", "AnthropicOptions"]
