"""What a model says to a chat request, whatever the dialect: the same words, tokens and limits in each.

A dialect brings the conversation in OpenAI's shape (messages, tools, tool_choice, response_format), and puts what was
said into its own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiorchsim.dialects.reading import NotUnderstood, bad_request
from aiorchsim.faults import fault_at_end
from aiorchsim.models import Model, Work
from aiorchsim.prompt_cache import LEAST_TOKENS
from aiorchsim.replay import Recorded, ReplayError
from aiorchsim.responses import Refusal
from aiorchsim.simulation import Simulation
from aiorchsim.textwork import Answer, ToolCall, answer, prompt_tokens, text_tokens
from aiorchsim.textwork.answer import text_of
from aiorchsim.textwork.tokens import CHARACTERS_PER_TOKEN

MOST_MESSAGES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWork(Work):
    """A chat request and what was said to it."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    stopped: str
    """Why it ended: stop, length, sequence (one of the request's), tool_calls."""
    stop_sequence: str | None

    def parts(self, text: str) -> list[tuple[str, int]]:
        """A text in the pieces of a stream, each with its tokens."""
        size = self.model.profile.stream_chunk_tokens * CHARACTERS_PER_TOKEN
        return [
            (text[start : start + size], text_tokens(text[start : start + size])) for start in range(0, len(text), size)
        ]


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat request in OpenAI's shape."""

    model: Model
    name: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any] | None
    response_format: dict[str, Any] | None
    stops: Sequence[str]
    most_tokens: int | None
    choices: int = 1


def said(simulation: Simulation, asked: Asked) -> dict[str, Any]:
    """What the model says, as the fields of a ChatWork but those that are the dialect's own. Raises NotUnderstood."""
    messages, model = asked.messages, asked.model
    tools = asked.tools or None
    asked_tokens = prompt_tokens(messages, tools)
    longest = model.profile.context_tokens
    if longest is not None and asked_tokens > longest:
        message = (
            f"This model's maximum context length is {longest} tokens. However, your messages resulted in {asked_tokens} tokens. "
            "Please reduce the length of the messages."
        )
        raise bad_request(message, "messages", "context_length_exceeded")
    name = fault_at_end(asked.name)[0] if "+" in asked.name else asked.name
    recorded = _recorded(simulation, name, messages)
    if recorded is not None:
        answered = Answer(recorded.answer)
    else:
        answered = answer(
            messages,
            model=name,
            seed=simulation.seed,
            quality=model.profile.quality,
            response_format=asked.response_format,
            tools=tools,
            tool_choice=asked.tool_choice,
            weakness=model.profile.weakness(),
        )
    text, stopped, sequence = _limited(asked, answered.text)
    if answered.tool_calls:
        stopped, sequence = "tool_calls", None
    said_tokens = text_tokens(text) + sum(
        text_tokens(call.name) + text_tokens(call.arguments) for call in answered.tool_calls
    )
    if recorded is not None:
        asked_tokens = asked_tokens if recorded.input_tokens is None else recorded.input_tokens
        said_tokens = recorded.output_tokens if text == answered.text else said_tokens
    return {
        "model": model,
        "model_name": asked.name,
        "prompt_tokens": asked_tokens,
        "completion_tokens": said_tokens * asked.choices,
        "latency_s": None if recorded is None else recorded.latency_s,
        "text": text,
        "tool_calls": answered.tool_calls,
        "stopped": stopped,
        "stop_sequence": sequence,
        "together": answered.together,
    }


def whole_prompt(asked: Asked, tokens: int) -> str:
    """All of a prompt as one text with about four characters a token, for a cache that works by itself; empty where it
    is too short to be cached.
    """
    if tokens < LEAST_TOKENS:
        return ""
    begin = [json.dumps(asked.tools)] if asked.tools else []
    return "".join(
        begin
        + [
            f"{message['role']:<16.16}{content if isinstance(content := message.get('content'), str) else json.dumps(content)}"
            for message in asked.messages
        ]
    )


def _recorded(simulation: Simulation, name: str, messages: list[dict[str, Any]]) -> Recorded | None:
    """The recorded answer to the last user message; None where there is no replay, or none is to be computed
    instead.
    """
    if simulation.replay is None:
        return None
    prompts = [message for message in messages if message["role"] == "user"]
    prompt = text_of(prompts[-1].get("content")) if prompts else ""
    try:
        recorded = simulation.replay.find(name, prompt)
    except ReplayError as error:
        raise NotUnderstood(Refusal(500, "server_error", str(error), "replay_damaged")) from error
    if recorded is None and simulation.profile.replay_missing == "error":
        message = f"There is no recorded answer of `{name}` to this prompt."
        raise NotUnderstood(Refusal(404, "invalid_request_error", message, "replay_missing", "messages"))
    return recorded


def _limited(asked: Asked, text: str) -> tuple[str, str, str | None]:
    """The text as far as stop sequences and the limit of tokens let it go, why it ended, and at which sequence."""
    sequence = None
    for stop in asked.stops:
        text, found, _ = text.partition(stop)
        sequence = stop if found else sequence
    most = asked.most_tokens
    if most is not None and text_tokens(text) > most:
        return text[: most * CHARACTERS_PER_TOKEN], "length", None
    return text, "stop" if sequence is None else "sequence", sequence
