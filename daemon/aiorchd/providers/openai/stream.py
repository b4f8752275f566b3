"""Put a streamed chat answer together from its events. No I/O: bytes in, deltas out, and in the end the whole.

The parts of a message are merged as OpenAI's own client merges them: strings of deltas are concatenated, lists appended,
objects merged; what stands beside the deltas (model, service tier, filter results) is replaced by what comes later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiorchd.providers.answer import ChatAnswer, Unreadable, packable, parse_json, whole_text
from aiorchd.providers.errors import complaint_in
from aiorchd.providers.openai.answer import read_chat, text_of
from aiorchd.providers.secret import Secret
from aiorchd.providers.sse import Event
from aiorchd.providers.streaming import Delta, ProviderComplaint

_DONE: Final = "[DONE]"
# Of these a delta brings the whole each time, not a further piece.
_REPLACED: Final = frozenset({"role", "type", "id", "index", "name", "format"})


class _Pieces(list[str]):
    """A string that is still growing: adding to a string itself would copy it each time, for long answers gigabytes."""


class ChatAssembler:
    """Takes the events of one stream in order.

    ``done`` is set by ``[DONE]``, ``finished`` by a finish reason of the first choice: either makes the answer complete.
    ``malformed`` counts events that could not be read; they are survived, since an answer that then ends as it should
    is worth more than none. A piece that ends in half a surrogate pair waits for the other half: servers that cut text
    by UTF-16 units send them apart.
    """

    def __init__(self, key: Secret | None) -> None:
        self.done = False
        self.finished = False
        self.malformed = 0
        self._key = key
        self._payload: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._half = ""

    @property
    def complete(self) -> bool:
        """Whether the answer may be believed to be whole."""
        return bool(self._choices) and (self.done or self.finished)

    def take(self, event: Event) -> Delta | None:
        """Take one event; gives what of it is for the caller. Raises `ProviderComplaint`."""
        data = event.data.strip()
        if data == _DONE:
            self.done = True
            text = self._whole("")
            return Delta(text) if text else None
        try:
            chunk = parse_json(data)
            complaint = complaint_in(chunk, self._key)
            if complaint is None and event.name == "error":
                complaint = complaint_in({"error": chunk}, self._key)
            if complaint is not None:
                raise ProviderComplaint(complaint)
            if not isinstance(chunk, Mapping):
                raise Unreadable("with an event that is not an object")
            return self._merge_chunk(chunk)
        except Unreadable:
            self.malformed += 1
            return None

    def answer(self) -> ChatAnswer:
        """Give the whole answer; raises `Unreadable`."""
        choices = [_settled(self._choices[index]) for index in sorted(self._choices)]
        return read_chat({**self._payload, "choices": choices})

    def _merge_chunk(self, chunk: Mapping[str, Any]) -> Delta | None:
        for name, value in chunk.items():
            if name == "x_groq" and isinstance(value, Mapping) and value.get("usage") is not None:
                self._payload["usage"] = value["usage"]
                rest = {field: part for field, part in value.items() if field != "usage"}
                if rest:
                    self._payload[name] = rest
            elif name != "choices" and value is not None:
                self._payload[name] = value
        delta: Delta | None = None
        raw_choices = chunk.get("choices")
        for raw in raw_choices if isinstance(raw_choices, list) else ():
            if not isinstance(raw, Mapping):
                raise Unreadable("with a choice that is not an object")
            index = raw.get("index", 0)
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < 1024:
                raise Unreadable("with a choice without a sensible index")
            piece = self._merge_choice(index, raw)
            if index == 0:
                delta = piece
        return delta

    def _merge_choice(self, index: int, raw: Mapping[str, Any]) -> Delta | None:
        choice = self._choices.setdefault(index, {"index": index, "message": {}})
        piece: Delta | None = None
        for name, value in raw.items():
            # A server that was asked to stream may still send a choice with a whole message.
            if name in ("delta", "message"):
                if isinstance(value, Mapping):
                    piece = self._merge_message(choice["message"], value)
            elif name == "logprobs":
                merge(choice, {name: value})
            elif value is not None and name != "index":
                choice[name] = value
        if index != 0:
            return piece
        if choice.get("finish_reason"):
            self.finished = True
        text = self._whole(piece.text or "" if piece is not None else "")
        calls = piece.tool_calls if piece is not None else None
        return Delta(text or None, calls) if text or calls else None

    def _whole(self, text: str) -> str:
        """Give the text of a piece in whole characters, keeping back half of one until the answer is at its end."""
        if text.isascii() and not self._half:
            return text
        text, self._half = self._half + text, ""
        if not self.complete and "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return whole_text(text)

    def _merge_message(self, message: dict[str, Any], raw: Mapping[str, Any]) -> Delta | None:
        content = raw.get("content")
        text = text_of(content)
        calls = _merge_tool_calls(message, raw.get("tool_calls"))
        merge(message, {name: value for name, value in raw.items() if name != "tool_calls"})
        if not text and not calls:
            return None
        return Delta(text or None, calls or None)


def merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Merge a delta into what came before, in place."""
    for name, value in delta.items():
        before = into.get(name)
        if value is None:
            continue
        if before is None or name in _REPLACED:
            into[name] = _own(value)
        elif isinstance(before, _Pieces) and isinstance(value, str):
            before.append(value)
        elif isinstance(before, str) and isinstance(value, str):
            into[name] = _Pieces((before, value))
        elif isinstance(before, dict) and isinstance(value, Mapping):
            merge(before, value)
        elif isinstance(before, list) and not isinstance(before, _Pieces) and isinstance(value, list):
            _merge_list(before, value)
        else:
            into[name] = _own(value)


def _merge_list(into: list[Any], delta: list[Any]) -> None:
    """Append, but merge the parts that say by an index that they belong to an earlier one."""
    for part in delta:
        index = part.get("index") if isinstance(part, Mapping) else None
        earlier = next((one for one in into if isinstance(one, dict) and one.get("index") == index), None)
        if index is not None and earlier is not None:
            merge(earlier, part)
        else:
            into.append(_own(part))


def _settled(value: Any) -> Any:
    """Give the plain data of what was merged."""
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _settled(part) for name, part in value.items()}
    return [_settled(part) for part in value] if isinstance(value, list) else value


def _own(value: Any) -> Any:
    """Copy what a later delta may be merged into."""
    if isinstance(value, Mapping):
        return {name: _own(part) for name, part in value.items()}
    return [_own(part) for part in value] if isinstance(value, list) else value


def _merge_tool_calls(message: dict[str, Any], raw: Any) -> tuple[Mapping[str, Any], ...]:
    """Merge pieces of tool calls by index; gives them as they go to the caller, each with its index.

    Servers differ: some leave the index out and send whole calls, some repeat id, type and name in every piece.
    """
    if not isinstance(raw, list):
        return ()
    calls: list[dict[str, Any]] = message.setdefault("tool_calls", [])
    pieces = []
    for part in raw:
        if not isinstance(part, Mapping):
            raise Unreadable("with a tool call that is not an object")
        index = part.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= len(calls):
            known = next((n for n, call in enumerate(calls) if part.get("id") and call.get("id") == part["id"]), None)
            # Without an index: a new id begins a new call, no id continues the last one.
            index = known if known is not None else len(calls) if part.get("id") or not calls else len(calls) - 1
        if index == len(calls):
            calls.append({})
        _merge_tool_call(calls[index], part)
        pieces.append(packable({**part, "index": index}))
    return tuple(pieces)


def _merge_tool_call(call: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        if name == "index" or value is None:
            continue
        if name == "function" and isinstance(value, Mapping):
            function = call.setdefault("function", {})
            for field, piece in value.items():
                before = function.get(field)
                if field == "name" and isinstance(before, str) and isinstance(piece, str):
                    # A repeated name is the same name; a piece of one continues it.
                    function[field] = before if piece in ("", before) else before + piece
                else:
                    merge(function, {field: piece})
        elif value != "" or name not in call:
            merge(call, {name: value})
