"""Write the body of a Gemini request. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiorch.errors import InvalidRequest
from aiorchd.calls.target import Target
from aiorchd.providers.chat_form import Choice, choice_of, function_of
from aiorchd.providers.gemini.contents import encode_contents
from aiorchd.providers.gemini.options import GeminiOptions, resource_name
from aiorchd.providers.request_body import checked_extra, to_json

_NOT_IN_EXTRA: Final = ("model", "messages", "contents", "systemInstruction", "stream", "input", "requests")
# Wishes and names that other providers have; leaving them out breaks no promise.
_NOT_SENT: Final = (
    "prompt_cache_key",
    "prompt_cache_retention",
    "store",
    "stream_options",
    "safety_identifier",
    "user",
    "metadata",
)
_CONFIG: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "max_tokens": "maxOutputTokens",
    "stop": "stopSequences",
    "seed": "seed",
}
# From Gemini 3 on, functions and a schema may be asked for in one request; before, that is a 400.
_OLD_MODEL: Final = re.compile(r"(?:.*/)?gemini-(?:1|2)(?:\.\d+)?(?:-|$)")


def encode_chat(request: Mapping[str, Any], target: Target, options: GeminiOptions) -> tuple[bytes, tuple[str, ...]]:
    """Write a chat request; gives its body and the names of what has no field in it. Raises `InvalidRequest`.

    Lowest first: what the configuration says of the model (``target.extra``), the call's own fields, the call's
    ``extra``, which may add and change anything but the model, the messages and the mode. Of ``generationConfig`` the
    fields are merged, of everything else the whole is replaced.
    """
    extra = dict(checked_extra(request.get("extra"), _NOT_IN_EXTRA))
    body: dict[str, Any] = dict(target.extra)
    body["contents"], system = encode_contents(request["messages"])
    if system is not None:
        body["systemInstruction"] = system
    config = dict(_map(body.pop("generationConfig", None)))
    config.update({theirs: request[ours] for ours, theirs in _CONFIG.items() if request.get(ours) is not None})
    if request.get("tools") is not None:
        body["tools"] = _tools(request["tools"])
    if request.get("tool_choice") is not None and body.get("tools"):
        body["toolConfig"] = _tool_config(request["tool_choice"])
    schema = request.get("output_schema")
    if schema is not None and not (body.get("tools") and _OLD_MODEL.match(target.provider_model)):
        config.update(_schema_config(schema, options))
    config.update(_map(extra.pop("generationConfig", None)))
    body.update(extra)
    if config:
        body["generationConfig"] = config
    not_sent = tuple(name for name in _NOT_SENT if body.pop(name, None) is not None)
    return to_json(body), not_sent


def encode_embeddings(request: Mapping[str, Any], target: Target) -> bytes:
    """Write an embeddings request, one part for each input; ``extra`` (``taskType``, ``title``) goes into each."""
    each: dict[str, Any] = dict(target.extra)
    each["model"] = resource_name(target.provider_model)
    if request.get("dimensions") is not None:
        each["outputDimensionality"] = request["dimensions"]
    each.update(checked_extra(request.get("extra"), _NOT_IN_EXTRA))
    return to_json({"requests": [{**each, "content": {"parts": [{"text": text}]}} for text in request["input"]]})


def _tools(tools: Any) -> list[Any]:
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise InvalidRequest("tools: must be a list")
    own: list[Any] = []
    declared: list[dict[str, Any]] = []
    for index, tool in enumerate(tools):
        function = function_of(tool, f"tools[{index}]")
        if function is None:
            own.append(tool)
            continue
        one: dict[str, Any] = {"name": function.name}
        if function.description is not None:
            one["description"] = function.description
        if function.parameters is not None:
            one["parametersJsonSchema"] = function.parameters
        declared.append(one)
    return ([{"functionDeclarations": declared}] if declared else []) + own


def _tool_config(tool_choice: Any) -> Any:
    choice = choice_of(tool_choice)
    if choice is None:
        return dict(tool_choice)
    return {"functionCallingConfig": _calling(choice)}


def _calling(choice: Choice) -> dict[str, Any]:
    if choice.function is not None:
        return {"mode": "ANY", "allowedFunctionNames": [choice.function]}
    return {"mode": {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice.mode]}


def _schema_config(schema: Any, options: GeminiOptions) -> dict[str, Any]:
    if options.structured_output == "none":
        return {}
    wish: dict[str, Any] = {"responseMimeType": "application/json"}
    if options.structured_output == "json_schema" and isinstance(schema, Mapping) and schema:
        wish["responseJsonSchema"] = schema
    return wish


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
