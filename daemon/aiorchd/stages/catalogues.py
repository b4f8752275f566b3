"""What prompts begin with goes to providers so that their prompt caches know it: tools in one form, a sign where it recurs.

Tools stand first in a prompt. Where a caller's maps have no order that stays, each call would write the same tools in another
way and pay for all of them again. So tools that differ in nothing but the order of names are sent as this caller first sent
them (`core.first_forms`); the order of the tools themselves is the caller's and stays. Below the caches, whose keys see no
order of names either.

Where long tools and system prompts come again within minutes (`core.recurrence`), ``Call.recurring`` says so: some providers keep
beginnings only when they are asked to, and their dialect asks.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio
from msgspec.structs import replace

from aiorchd.calls.call import Call
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply
from aiorchd.core.first_forms import FirstForms
from aiorchd.core.recurrence import Recurrence

LEAST_CHARACTERS: Final = 4096
"""Of a beginning that recurs: some 1,024 tokens, below which no provider keeps one."""


@dataclass(frozen=True, slots=True)
class CataloguesStatistics:
    """Forms known; calls since this stage was built whose tools were sent in another order of names than they came in."""

    forms: int
    settled: int


class Catalogues:
    """Send tools as they were first sent, and tell of beginnings that recur. ``forms`` and ``recurrence`` are shared by all
    generations. Adds no error of its own."""

    def __init__(self, inner: Service[Call], forms: FirstForms, recurrence: Recurrence) -> None:
        self._inner = inner
        self._forms = forms
        self._recurrence = recurrence
        self._settled = 0

    def __call__(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Answer ``call``."""
        request = call.request
        if len(request) == 1:
            messages = request.get("messages")
            if type(messages) is list and messages and type(messages[0]) is dict and messages[0].get("role") == "user":
                return self._inner(call)  # as most: nothing stands first
        tools = request.get("tools")
        if tools:
            first = self._forms.settled((call.caller.uid, call.partition), tools, trio.current_time())
            if first is not tools:
                self._settled += 1
                call = replace(call, request={**call.request, "tools": first})
        beginning = _beginning_of(call.request) if call.kind == "chat" else ""
        if len(beginning) >= LEAST_CHARACTERS:
            asked = f"{call.model or call.models}\n{beginning}"
            if self._recurrence.comes_again(asked, trio.current_time()):
                call = replace(call, recurring=True)
        return self._inner(call)

    def statistics(self) -> CataloguesStatistics:
        """Tell how many forms are known."""
        return CataloguesStatistics(len(self._forms), self._settled)


def _beginning_of(request: Mapping[str, Any]) -> str:
    """Write down the tools and the system messages that stand first; empty where that is no JSON."""
    first: list[Any] = [request["tools"]] if request.get("tools") else []
    for message in request["messages"]:
        if not (type(message) is dict or isinstance(message, Mapping)):
            break
        if message.get("role") not in ("system", "developer"):
            break
        first.append(message.get("content"))
    try:
        return json.dumps(first, check_circular=False) if first else ""
    except (TypeError, ValueError, RecursionError):
        return ""  # whoever writes it will say so
