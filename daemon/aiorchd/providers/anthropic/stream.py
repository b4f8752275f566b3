"""Put a streamed answer of Anthropic's together from its events. No I/O.

The events are ``message_start`` (the message without content), for each block of content ``content_block_start``, its
deltas and ``content_block_stop``, then ``message_delta`` (stop reason, final usage) and ``message_stop``; ``ping`` comes
any time, and so does ``error``, which ends everything. What else may come is ignored, as Anthropic asks of clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiorchd.providers.answer import ChatAnswer, Unreadable, packable, parse_json, whole_text
from aiorchd.providers.anthropic.answer import read_chat
from aiorchd.providers.errors import complaint_in
from aiorchd.providers.secret import Secret
from aiorchd.providers.sse import Event
from aiorchd.providers.streaming import Delta, ProviderComplaint

_MOST_BLOCKS: Final = 4096
# Delta type -> (its field, the block's field that it continues)
_TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "input"),
}


class _Block:
    """One block of content that is growing; pieces of a text are joined once, at the end."""

    def __init__(self, start: Mapping[str, Any], call_index: int | None) -> None:
        self.start = dict(start)
        self.call_index = call_index
        """Which tool call it is, None when it is none."""
        self.pieces: dict[str, list[str]] = {}
        self.citations: list[Any] = []

    def settled(self) -> dict[str, Any]:
        """Give the block as a whole answer has it; the arguments of a call stay text."""
        block = dict(self.start)
        for name, pieces in self.pieces.items():
            before = block.get(name)
            block[name] = (before if isinstance(before, str) else "") + "".join(pieces)
        if self.citations:
            before = block.get("citations")
            block["citations"] = [*(before if isinstance(before, list) else ()), *self.citations]
        return block


class ChatAssembler:
    """Satisfies `aiorchd.providers.streaming.Assembler`.

    The stop reason makes an answer complete, and only that: no stream is believed to be whole without. With
    ``answer_tool`` texts are held back until it is known whether they or the call of our tool are the answer.
    """

    def __init__(self, key: Secret | None, *, answer_tool: bool = False) -> None:
        self.done = False
        self.malformed = 0
        self._key = key
        self._held_back = answer_tool
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._half = ""

    @property
    def complete(self) -> bool:
        """Whether the answer may be believed to be whole."""
        return isinstance(self._message.get("stop_reason"), str)

    def take(self, event: Event) -> Delta | None:
        """Take one event; gives what of it is for the caller. Raises `ProviderComplaint`."""
        try:
            data = parse_json(event.data)
            if not isinstance(data, Mapping):
                raise Unreadable("with an event that is not an object")
            kind = data.get("type", event.name)
            if kind == "error" or "error" in data:
                complaint = complaint_in(data if data.get("error") else {"error": data}, self._key)
                if complaint is not None:
                    raise ProviderComplaint(complaint)
            return self._merge(kind, data)
        except Unreadable:
            self.malformed += 1
            return None

    def answer(self) -> ChatAnswer:
        """Give the whole answer; raises `Unreadable`."""
        if not self._message:
            raise Unreadable("with a stream that holds no message")
        return read_chat(
            {**self._message, "content": [self._blocks[index].settled() for index in sorted(self._blocks)]}
        )

    def _merge(self, kind: Any, data: Mapping[str, Any]) -> Delta | None:
        if kind == "message_start":
            message = data.get("message")
            if not isinstance(message, Mapping):
                raise Unreadable("with a start that holds no message")
            self._message = {**message, **self._message}
            self._message.pop("content", None)
        elif kind == "content_block_start":
            return self._begin(data)
        elif kind == "content_block_delta":
            return self._continue(data)
        elif kind == "message_delta":
            return self._end(data)
        elif kind == "message_stop":
            self.done = True
        return None

    def _begin(self, data: Mapping[str, Any]) -> Delta | None:
        start, index = data.get("content_block"), _index(data)
        if not isinstance(start, Mapping):
            raise Unreadable("with a block that holds nothing")
        if start.get("type") != "tool_use":
            self._blocks[index] = _Block(start, None)
            text = start.get("text")
            return self._text(text) if isinstance(text, str) and start.get("type") == "text" else None
        number = self._calls
        self._calls += 1
        # The input begins as an empty object and comes as text in pieces, or, from some servers, whole.
        whole = start.get("input")
        self._blocks[index] = _Block(start if whole else {**start, "input": ""}, number)
        if self._held_back:
            return None
        function = {"name": start.get("name"), "arguments": ""}
        return Delta(
            tool_calls=(packable({"index": number, "id": start.get("id"), "type": "function", "function": function}),)
        )

    def _continue(self, data: Mapping[str, Any]) -> Delta | None:
        delta, block = data.get("delta"), self._blocks.get(_index(data))
        if not isinstance(delta, Mapping) or block is None:
            raise Unreadable("with a delta that belongs to no block")
        kind = delta.get("type")
        if kind == "citations_delta":
            block.citations.append(delta.get("citation"))
        named = _TEXTS.get(kind) if isinstance(kind, str) else None
        if named is None:
            return None
        piece = delta.get(named[0])
        if not isinstance(piece, str):
            raise Unreadable("with a delta that holds no text")
        block.pieces.setdefault(named[1], []).append(piece)
        if kind == "text_delta" and block.start.get("type") == "text":
            return self._text(piece)
        if kind == "input_json_delta" and block.call_index is not None and piece and not self._held_back:
            function = {"arguments": whole_text(piece)}
            return Delta(tool_calls=({"index": block.call_index, "function": function},))
        return None

    def _end(self, data: Mapping[str, Any]) -> Delta | None:
        delta, usage = data.get("delta"), data.get("usage")
        if isinstance(usage, Mapping):
            # The counts are cumulative; what is not repeated keeps its first figure.
            before = self._message.get("usage")
            known = {name: value for name, value in usage.items() if value is not None}
            self._message["usage"] = {**(before if isinstance(before, Mapping) else {}), **known}
        if isinstance(delta, Mapping):
            self._message.update({name: value for name, value in delta.items() if value is not None})
        if not self.complete:
            return None
        return self._release() if self._held_back else self._text("")

    def _release(self) -> Delta | None:
        """Give what was held back, now that all is there."""
        self._held_back = False
        answer = self.answer()
        calls = tuple({**call, "index": index} for index, call in enumerate(answer.tool_calls))
        return Delta(answer.text or None, calls or None) if answer.text or calls else None

    def _text(self, text: str) -> Delta | None:
        """Give the text of a piece in whole characters, keeping back half of one until the answer is at its end."""
        if self._held_back:
            return None
        text, self._half = self._half + text, ""
        if not self.complete and "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return Delta(whole_text(text)) if text else None


def _index(data: Mapping[str, Any]) -> int:
    index = data.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < _MOST_BLOCKS:
        raise Unreadable("with a block without a sensible index")
    return index
