"""From our normal form of messages to Anthropic's. Pure.

System messages of any place go to the one ``system`` field. Answers of tools become parts of a user's message, the ones
that follow each other and what the user says next in one: Anthropic wants them together. Parts that are in Anthropic's
own form already (``thinking``, ``document``, ``tool_result`` …) pass untouched, and so does ``cache_control``, on a part
or on a whole message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiorch.errors import InvalidRequest
from aiorchd.providers.chat_form import Inline, media_of, parts_of, tool_calls_of

_SYSTEM: Final = ("system", "developer")
_OPENAI_PARTS: Final = ("image_url", "input_audio", "file")


def encode_messages(messages: Sequence[Any]) -> tuple[list[dict[str, Any]], str | list[dict[str, Any]] | None]:
    """Give Anthropic's ``messages`` and its ``system``; raises `InvalidRequest` that names the field."""
    system: list[dict[str, Any]] = []
    encoded: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise InvalidRequest(f"{where}: must be a map with role and content")
        role = message.get("role")
        if role in _SYSTEM:
            system.extend(_parts(message, where))
        elif role == "user":
            _append(encoded, "user", _parts(message, where), answers=False)
        elif role == "tool":
            _append(encoded, "user", [_tool_result(message, where)], answers=True)
        elif role == "assistant":
            _append(encoded, "assistant", _said(message, where), answers=False)
        else:
            raise InvalidRequest(f"{where}.role: must be system, developer, user, assistant or tool here")
    if not encoded:
        raise InvalidRequest("messages: Anthropic's dialect needs one from the user besides the system's")
    return [_plainer(message) for message in encoded], _plainer({"content": system})["content"] or None


def _append(encoded: list[dict[str, Any]], role: str, parts: list[dict[str, Any]], *, answers: bool) -> None:
    """Add a message; answers of tools, and what the user says after them, join the message before."""
    if not parts:  # an assistant's empty turn: Anthropic refuses empty messages
        return
    last = encoded[-1] if encoded else None
    joins = last is not None and last["role"] == role == "user"
    if last is not None and joins and (answers or last["content"][-1].get("type") == "tool_result"):
        last["content"].extend(parts)
    else:
        encoded.append({"role": role, "content": parts})


def _parts(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    parts = [_part(part, f"{where}.content[{index}]") for index, part in enumerate(parts_of(message, where))]
    # Anthropic refuses empty texts; a message that holds nothing else keeps its one, so that the refusal says which.
    return _marked([part for part in parts if part.get("type") != "text" or part.get("text")] or parts[:1], message)


def _marked(parts: list[dict[str, Any]], message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Put a message's own ``cache_control`` on its last part, which is where Anthropic has it."""
    mark = message.get("cache_control")
    return [*parts[:-1], {**parts[-1], "cache_control": mark}] if mark is not None and parts else parts


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type", "text")
    if kind in ("input_text", "output_text"):
        kind = "text"
    if kind == "text":
        return {**part, "type": "text"}
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    if kind not in _OPENAI_PARTS:
        return dict(part)
    media = media_of(part, where)
    mark = {"cache_control": part["cache_control"]} if part.get("cache_control") is not None else {}
    if not isinstance(media, Inline):
        return {"type": "image", "source": {"type": "url", "url": media.url if media else ""}, **mark}
    source = {"type": "base64", "media_type": media.media_type, "data": media.data}
    if media.media_type.startswith("image/"):
        return {"type": "image", "source": source, **mark}
    if media.media_type == "application/pdf":
        return {"type": "document", "source": source, **mark}
    raise InvalidRequest(f"{where}: Anthropic's dialect takes images and PDF files, not {media.media_type[:60]}")


def _said(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Give what the assistant said and called. Calls that stand in its parts already are not repeated."""
    bare = {"content": message.get("content")}
    parts = [part for part in _parts(bare, where) if part.get("type") != "text" or part.get("text")]
    there = {part.get("id") for part in parts if part.get("type") == "tool_use"}
    calls = tool_calls_of(message, where)
    parts += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        for call in calls
        if call.id not in there
    ]
    return _marked(parts, message)


def _tool_result(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    id_ = message.get("tool_call_id")
    if not isinstance(id_, str) or not id_:
        raise InvalidRequest(f"{where}.tool_call_id: must name the call that this answers")
    parts = _parts({"content": message.get("content")}, where)
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": id_}
    if any(part.get("text") or part.get("type") != "text" for part in parts):
        result["content"] = _plainer({"content": parts})["content"]
    for name in ("is_error", "cache_control"):
        if message.get(name) is not None:
            result[name] = message[name]
    return result


def _plainer(message: dict[str, Any]) -> dict[str, Any]:
    """Write content that is one plain text as that text: half the bytes, and the same to Anthropic."""
    content = message["content"]
    if len(content) == 1 and set(content[0]) == {"type", "text"} and content[0]["type"] == "text":
        return {**message, "content": content[0]["text"]}
    return message
