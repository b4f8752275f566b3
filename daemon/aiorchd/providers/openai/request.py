"""Write the body of a request. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from aiorchd.calls.target import Target
from aiorchd.providers.openai.options import OpenAiOptions
from aiorchd.providers.request_body import checked_extra, holds_only_texts, texts_to_json, to_json

_SAME_NAME: Final = ("tools", "tool_choice", "temperature", "seed", "stop")
_NOT_IN_EXTRA: Final = ("model", "messages", "stream", "input")
_REASONING_MODEL: Final = re.compile(r"(?:o[1-9]\d?|gpt-(?:[5-9]|[1-9]\d))(?:[-.:@]|$)")
_STRICT_NEEDS_NONE_OF: Final = frozenset(
    {"allOf", "not", "if", "then", "else", "oneOf", "patternProperties", "unevaluatedProperties", "propertyNames"}
    | {"dependentRequired", "dependentSchemas", "minProperties", "maxProperties", "contains", "uniqueItems"}
)
_SCHEMA_MAPS: Final = ("properties", "$defs", "definitions")
_DEEPEST_SCHEMA: Final = 64


def encode_chat(request: Mapping[str, Any], target: Target, options: OpenAiOptions, *, stream: bool) -> bytes:
    """Write a chat request; raises `InvalidRequest` for what JSON or the dialect cannot carry.

    Lowest first: what the configuration says of the model (``target.extra``), the call's own fields, the call's
    ``extra``, which may add and change anything but the model, the messages and the mode.
    """
    messages = request["messages"]
    body: dict[str, Any] = {**target.extra, "model": target.provider_model, "messages": messages}
    plain = len(request) == 1
    if not plain:
        body |= _wishes(request, target, options)
    if stream:
        body["stream"] = True
        wished = body.get("stream_options")
        body["stream_options"] = {**(wished if isinstance(wished, Mapping) else {}), "include_usage": True}
    if plain and not target.extra and holds_only_texts(messages):
        return texts_to_json(body)
    return to_json(body)


def _wishes(request: Mapping[str, Any], target: Target, options: OpenAiOptions) -> dict[str, Any]:
    """Give what a call asks for besides its messages."""
    wishes = {name: request[name] for name in _SAME_NAME if request.get(name) is not None}
    if request.get("max_tokens") is not None:
        wishes[max_tokens_field(target, options)] = request["max_tokens"]
    if request.get("output_schema") is not None:
        response_format = _response_format(request["output_schema"], request["messages"], options)
        if response_format is not None:
            wishes["response_format"] = response_format
    wishes.update(checked_extra(request.get("extra"), _NOT_IN_EXTRA))
    return wishes


def encode_embeddings(request: Mapping[str, Any], target: Target, options: OpenAiOptions) -> bytes:
    """Write an embeddings request; raises `InvalidRequest`."""
    body: dict[str, Any] = dict(target.extra)
    body["model"] = target.provider_model
    body["input"] = request["input"]
    if request.get("dimensions") is not None:
        body["dimensions"] = request["dimensions"]
    if options.embedding_encoding != "none":
        body["encoding_format"] = options.embedding_encoding
    body.update(checked_extra(request.get("extra"), _NOT_IN_EXTRA))
    return to_json(body)


def max_tokens_field(target: Target, options: OpenAiOptions) -> str:
    """Choose what the bound on the answer is called.

    The provider's ``max_tokens_field``; ``auto`` goes by the provider's name for the model, without ``vendor/`` and
    ``ft:``: OpenAI's reasoning models (o1, o3, o4-mini, gpt-5 and later) refuse ``max_tokens``, which is the name that
    all others know.
    """
    if options.max_tokens_field != "auto":
        return options.max_tokens_field
    name = target.provider_model.rsplit("/", 1)[-1].removeprefix("ft:").lower()
    return "max_completion_tokens" if _REASONING_MODEL.match(name) else "max_tokens"


def strict_is_possible(schema: Any, depth: int = 0) -> bool:
    """Tell whether a schema stays within what OpenAI's ``strict`` mode takes.

    Every object must list all its properties as required and allow no others; the root must be an object; the keywords
    of `_STRICT_NEEDS_NONE_OF` are not known there. Asked for with any other schema, ``strict`` is a 400.
    """
    if not isinstance(schema, Mapping) or depth > _DEEPEST_SCHEMA:
        return False
    if depth == 0 and (schema.get("type") != "object" or "anyOf" in schema):
        return False
    if not _STRICT_NEEDS_NONE_OF.isdisjoint(schema):
        return False
    kinds = schema.get("type")
    if kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or "properties" in schema:
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            return False
        if schema.get("additionalProperties") is not False or set(properties) != {str(name) for name in required}:
            return False
    inner: list[Any] = []
    for name in _SCHEMA_MAPS:
        if isinstance(schema.get(name), Mapping):
            inner.extend(schema[name].values())
    if "items" in schema:
        inner.append(schema["items"])
    if isinstance(schema.get("anyOf"), list):
        inner.extend(schema["anyOf"])
    return all(strict_is_possible(part, depth + 1) for part in inner)


def _response_format(schema: Any, messages: Any, options: OpenAiOptions) -> dict[str, Any] | None:
    if options.structured_output == "none":
        return None
    if isinstance(schema, Mapping) and schema and options.structured_output == "json_schema":
        title = schema.get("title")
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", title)[:64].strip("_") if isinstance(title, str) else ""
        strict = strict_is_possible(schema)
        return {"type": "json_schema", "json_schema": {"name": name or "answer", "schema": schema, "strict": strict}}
    # OpenAI answers 400 to this mode unless the word is somewhere in the messages.
    if b"json" in to_json({"messages": messages}).lower():
        return {"type": "json_object"}
    return None
