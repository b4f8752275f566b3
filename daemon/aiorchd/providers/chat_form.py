"""Our normal form of a chat (OpenAI's messages and tools), read for dialects that have another one. Pure.

Everything here raises `InvalidRequest` that names the field, and says what is wrong without repeating it: it may be a
prompt.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from aiorch.errors import InvalidRequest

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.ASCII)


@dataclass(frozen=True, slots=True)
class Inline:
    """Data that stands in the message itself, as base64."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class Linked:
    """Data that the provider fetches itself."""

    url: str


@dataclass(frozen=True, slots=True)
class Function:
    """A tool of the caller."""

    name: str
    description: str | None
    parameters: Mapping[str, Any] | None
    strict: bool | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a tool is to be called; ``function`` names the only one that may be."""

    mode: Literal["auto", "none", "required"]
    function: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model made earlier in the conversation."""

    id: str
    name: str
    arguments: dict[str, Any]
    extra_content: Mapping[str, Any] | None


Media: TypeAlias = Inline | Linked


def parts_of(message: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """Give the content of a message as parts; text is one part, nothing is none."""
    content = message.get("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}.content: must be text or a list of content parts")
    for index, part in enumerate(content):
        if not isinstance(part, Mapping):
            raise InvalidRequest(f"{where}.content[{index}]: must be a map")
    return content


def media_of(part: Mapping[str, Any], where: str) -> Media | None:
    """Find the image, sound or file of a part in OpenAI's form; None for a part of another kind."""
    kind = part.get("type")
    if kind == "image_url":
        image = part.get("image_url")
        return _source(image.get("url") if isinstance(image, Mapping) else image, f"{where}.image_url.url")
    if kind == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, Mapping) else None
        if not isinstance(audio, Mapping) or not isinstance(data, str):
            raise InvalidRequest(f"{where}.input_audio.data: must be base64 text")
        return Inline(f"audio/{audio.get('format', 'wav')}", data)
    if kind == "file":
        file = part.get("file")
        if not isinstance(file, Mapping) or not isinstance(file.get("file_data"), str):
            raise InvalidRequest(f"{where}.file.file_data: must be a data URL; ids of files belong to one provider")
        return _source(file["file_data"], f"{where}.file.file_data")
    return None


def tool_calls_of(message: Mapping[str, Any], where: str) -> list[ToolCall]:
    """Read the tool calls of an assistant's message."""
    raw = message.get("tool_calls")
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise InvalidRequest(f"{where}.tool_calls: must be a list")
    calls = []
    for index, call in enumerate(raw):
        place = f"{where}.tool_calls[{index}]"
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidRequest(f"{place}.function.name: must be text")
        id_, extra = call.get("id"), call.get("extra_content")
        calls.append(
            ToolCall(
                id_ if isinstance(id_, str) and id_ else f"call_{index}",
                function["name"],
                _arguments(function.get("arguments"), f"{place}.function.arguments"),
                extra if isinstance(extra, Mapping) else None,
            )
        )
    return calls


def function_of(tool: Any, where: str) -> Function | None:
    """Read a tool in OpenAI's form; None for one in a provider's own form, which passes untouched."""
    if not isinstance(tool, Mapping):
        raise InvalidRequest(f"{where}: must be a map")
    function = tool.get("function")
    if tool.get("type") != "function" or function is None:
        return None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{where}.function.name: must be text")
    description, parameters, strict = function.get("description"), function.get("parameters"), function.get("strict")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidRequest(f"{where}.function.parameters: must be a JSON Schema as a map")
    return Function(
        function["name"],
        description if isinstance(description, str) else None,
        parameters,
        strict if isinstance(strict, bool) else None,
    )


def choice_of(tool_choice: Any) -> Choice | None:
    """Read ``tool_choice`` in OpenAI's form; None for one in a provider's own form, which passes untouched."""
    if tool_choice in ("auto", "none", "required"):
        return Choice(tool_choice)
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function")
        if tool_choice.get("type") != "function":
            return None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            return Choice("required", function["name"])
    raise InvalidRequest("tool_choice: must be auto, none, required, or a map that names a function")


def _arguments(raw: Any, where: str) -> dict[str, Any]:
    if raw is None or raw == "":
        return {}
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            raise InvalidRequest(f"{where}: must be a JSON object as text; this is not JSON") from None
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where}: must be a JSON object as text")
    return raw


def _source(url: Any, where: str) -> Media:
    if not isinstance(url, str) or not url:
        raise InvalidRequest(f"{where}: must be a data URL or an address")
    if not url.startswith("data:"):
        if not url.startswith(("https://", "http://", "gs://")):
            raise InvalidRequest(f"{where}: must be a data URL or begin with https://")
        return Linked(url)
    head = _DATA_URL.match(url)
    if head is None or not head[1]:
        raise InvalidRequest(f"{where}: is no data URL with a media type, such as data:image/png;base64,…")
    data = url[head.end() :]
    if not head[2]:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return Inline(head[1].lower(), data)
