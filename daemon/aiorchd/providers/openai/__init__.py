"""The OpenAI dialect: OpenAI, Azure, Ollama, vLLM, llama.cpp, DeepSeek, Qwen, Mistral, Groq, OpenRouter by base_url."""

from aiorchd.providers.openai.dialect import OpenAiDialect
from aiorchd.providers.openai.options import OpenAiOptions

__all__ = ["OpenAiDialect", "OpenAiOptions"]
