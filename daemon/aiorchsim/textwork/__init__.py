"""Answers computed from the prompt: pure functions, standard library only, no I/O, no clock, no global random.

The simulator answers with them over HTTP and the daemon's embedded simulated model borrows them. The same question,
seed and model name always give the same answer. What they understand is told in `answer`, `tasks`, `items` and
`schema`.
"""

from aiorchsim.textwork.answer import Answer, ToolCall, answer
from aiorchsim.textwork.embedding import embed
from aiorchsim.textwork.tokens import prompt_tokens, text_tokens

__all__ = ["Answer", "ToolCall", "answer", "embed", "prompt_tokens", "text_tokens"]
