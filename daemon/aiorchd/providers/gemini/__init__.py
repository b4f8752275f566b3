"""Google's Gemini dialect: generateContent at generativelanguage.googleapis.com, and at addresses that offer the same."""

from aiorchd.providers.gemini.dialect import GeminiDialect
from aiorchd.providers.gemini.options import GeminiOptions

__all__ = ["GeminiDialect", "GeminiOptions"]
