"""From our normal form of messages to Gemini's ``contents``. Pure.

System messages of any place go to the one ``systemInstruction``. Answers of tools that follow each other become one
turn, as Gemini wants them. Parts in Gemini's own form (``inlineData``, ``fileData``, ``functionCall`` …, without a
``type``) pass untouched. What Gemini signs of its thoughts travels where Google's own compatible endpoint puts it: in
``extra_content.google.thought_signature`` of a tool call.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from aiorch.errors import InvalidRequest
from aiorchd.providers.chat_form import Inline, ToolCall, media_of, parts_of, tool_calls_of

OWN_ID: Final = "call_gemini_"
"""How ids begin that we gave to calls of Gemini's that had none; they are not sent back."""

_SYSTEM: Final = ("system", "developer")


def encode_contents(messages: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Give Gemini's ``contents`` and its ``systemInstruction``; raises `InvalidRequest` that names the field."""
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    answering = False
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise InvalidRequest(f"{where}: must be a map with role and content")
        role = message.get("role")
        if role in _SYSTEM:
            system.extend(_parts(message, where))
            continue
        if role == "tool":
            response = _function_response(message, names, where)
            if answering:
                contents[-1]["parts"].append(response)
            else:
                contents.append({"role": "user", "parts": [response]})
            answering = True
            continue
        answering = False
        if role == "user":
            parts = _parts(message, where)
        elif role == "assistant":
            parts, role = _said(message, where), "model"
            names.update({call.id: call.name for call in tool_calls_of(message, where)})
        else:
            raise InvalidRequest(f"{where}.role: must be system, developer, user, assistant or tool here")
        if parts:
            contents.append({"role": role, "parts": parts})
    if not contents:
        raise InvalidRequest("messages: Gemini's dialect needs one from the user besides the system's")
    return contents, {"parts": system} if system else None


def _parts(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    return [_part(part, f"{where}.content[{index}]") for index, part in enumerate(parts_of(message, where))]


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind is None:
        return dict(part)
    if kind in ("text", "input_text", "output_text"):
        return {"text": part.get("text")}
    if kind == "refusal":
        return {"text": part.get("refusal")}
    media = media_of(part, where)
    if media is None:
        raise InvalidRequest(f"{where}.type: Gemini's dialect knows text, image_url, input_audio and file")
    if isinstance(media, Inline):
        return {"inlineData": {"mimeType": media.media_type, "data": media.data}}
    linked = {"fileUri": media.url}
    guessed, _ = mimetypes.guess_type(urlsplit(media.url).path)
    return {"fileData": {"mimeType": guessed, **linked} if guessed else linked}


def _said(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Give what the assistant said and called. Calls that stand in its parts already are not repeated."""
    parts = [part for part in _parts(message, where) if part.get("text") != "" or len(part) > 1]
    if any("functionCall" in part for part in parts):
        return parts
    return parts + [_function_call(call) for call in tool_calls_of(message, where)]


def _function_call(call: ToolCall) -> dict[str, Any]:
    made: dict[str, Any] = {"functionCall": {**_id(call.id), "name": call.name, "args": call.arguments}}
    google = call.extra_content.get("google") if call.extra_content is not None else None
    if isinstance(google, Mapping) and isinstance(google.get("thought_signature"), str):
        made["thoughtSignature"] = google["thought_signature"]
    return made


def _function_response(message: Mapping[str, Any], names: Mapping[str, str], where: str) -> dict[str, Any]:
    id_ = message.get("tool_call_id")
    if not isinstance(id_, str) or not id_:
        raise InvalidRequest(f"{where}.tool_call_id: must name the call that this answers")
    name = names.get(id_, message.get("name"))
    if not isinstance(name, str):
        raise InvalidRequest(f"{where}.tool_call_id: no call of this id stands before it")
    texts = [part.get("text") for part in parts_of(message, where)]
    text = "".join(one for one in texts if isinstance(one, str))
    return {"functionResponse": {**_id(id_), "name": name, "response": _result(text)}}


def _result(text: str) -> dict[str, Any]:
    """Give what a tool answered as an object, which it must be here; ``output`` is Gemini's word for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"output": text}
    return value if isinstance(value, dict) else {"output": value}


def _id(id_: str) -> dict[str, str]:
    return {} if id_.startswith(OWN_ID) else {"id": id_}
