"""Put a streamed answer of Gemini's together from its events. No I/O.

Each event is a whole answer by itself, with the parts that are new; the last one has the finish reason, and its token
counts are those of all. Nothing says that the stream is at its end but the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiorchd.providers.answer import ChatAnswer, Unreadable, parse_json, whole_text
from aiorchd.providers.errors import complaint_in
from aiorchd.providers.gemini.answer import is_call, is_said, parts_of, read_chat, tool_call
from aiorchd.providers.secret import Secret
from aiorchd.providers.sse import Event
from aiorchd.providers.streaming import Delta, ProviderComplaint


class ChatAssembler:
    """Satisfies `aiorchd.providers.streaming.Assembler`. The finish reason, or that the prompt was blocked, makes an answer
    complete."""

    done = False
    """There is no such event here."""

    def __init__(self, key: Secret | None) -> None:
        self.malformed = 0
        self._key = key
        self._payload: dict[str, Any] = {}
        self._candidate: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []
        self._texts: list[str] = []
        """Pieces of the last part, which is a text that may go on."""
        self._calls = 0
        self._half = ""

    @property
    def complete(self) -> bool:
        """Whether the answer may be believed to be whole."""
        if isinstance(self._candidate.get("finishReason"), str):
            return True
        feedback = self._payload.get("promptFeedback")
        return isinstance(feedback, Mapping) and bool(feedback.get("blockReason"))

    def take(self, event: Event) -> Delta | None:
        """Take one event; gives what of it is for the caller. Raises `ProviderComplaint`."""
        try:
            data = parse_json(event.data)
            complaint = complaint_in(data, self._key)
            if complaint is not None:
                raise ProviderComplaint(complaint)
            if not isinstance(data, Mapping):
                raise Unreadable("with an event that is not an object")
            return self._merge(data)
        except Unreadable:
            self.malformed += 1
            return None

    def answer(self) -> ChatAnswer:
        """Give the whole answer; raises `Unreadable`."""
        self._settle()
        if not self._candidate:
            return read_chat(self._payload)
        content = {"content": {"role": "model", "parts": self._parts}} if self._parts else {}
        return read_chat({**self._payload, "candidates": [{**self._candidate, **content}]})

    def _merge(self, data: Mapping[str, Any]) -> Delta | None:
        candidates = data.get("candidates")
        first = candidates[0] if isinstance(candidates, list) and candidates else None
        if first is not None and not isinstance(first, Mapping):
            raise Unreadable("with a candidate that is not an object")
        parts = parts_of(first) if first is not None else []
        # Read what could fail before anything is kept.
        calls = [tool_call(part, self._calls + n) for n, part in enumerate(one for one in parts if is_call(one))]
        self._payload.update(
            {name: value for name, value in data.items() if name != "candidates" and value is not None}
        )
        if first is not None:
            self._candidate.update(
                {name: value for name, value in first.items() if name != "content" and value is not None}
            )
        text = "".join(part["text"] for part in parts if is_said(part))
        for part in parts:
            self._add(part)
        pieces = tuple({**call, "index": self._calls + n} for n, call in enumerate(calls))
        self._calls += len(calls)
        text = self._whole(text)
        return Delta(text or None, pieces or None) if text or pieces else None

    def _add(self, part: Mapping[str, Any]) -> None:
        """Append a part; a text that only goes on is joined with the one before it."""
        last = self._parts[-1] if self._parts else None
        plain = {"text", "thought"}
        if (
            last is not None
            and isinstance(part.get("text"), str)
            and isinstance(last.get("text"), str)
            and set(part) <= plain
            and set(last) <= plain
            and (part.get("thought") is True) == (last.get("thought") is True)
        ):
            self._texts.append(part["text"])
            return
        self._settle()
        self._parts.append(dict(part))
        self._texts = [part["text"]] if isinstance(part.get("text"), str) else []

    def _settle(self) -> None:
        if self._texts:
            self._parts[-1]["text"] = "".join(self._texts)
            self._texts = [self._parts[-1]["text"]]

    def _whole(self, text: str) -> str:
        """Give the text of a piece in whole characters, keeping back half of one until the answer is at its end."""
        text, self._half = self._half + text, ""
        if not self.complete and "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return whole_text(text)
