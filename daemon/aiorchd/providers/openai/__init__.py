"""The OpenAI dialect: OpenAI, Azure, Ollama, vLLM, llama.cpp, DeepSeek, Qwen, Mistral, Groq, OpenRouter by base_url."""

from aiorchd.providers.openai.options import OpenAiOptions
from aiorchd.providers.openai.provider import OpenAiProvider

__all__ = ["OpenAiOptions", "OpenAiProvider"]
