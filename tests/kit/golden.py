"""Golden answers of one dialect: whole and streamed as the provider's reference gives them, and what is to be read there.

A file holds ``response``, ``stream`` (the same answer as events), ``total`` (tokens the provider counts in all) and
``expected`` (``text tool_calls finish_reason usage extra``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiorchd.calls.reply import Usage
from aiorchd.providers.answer import ChatAnswer


def cases_of(folder: Path) -> list[Any]:
    """Read all of a folder, each with its name."""
    import pytest

    found = sorted(folder.glob("*.json"))
    assert found
    return [pytest.param(json.loads(path.read_text(encoding="utf-8")), id=path.stem) for path in found]


def check(answer: ChatAnswer, case: dict[str, Any]) -> None:
    """Hold an answer against what is expected; arguments of tools are compared by what they mean."""
    expected = case["expected"]
    assert answer.text == expected["text"]
    assert [_meant(call) for call in answer.tool_calls] == [_meant(call) for call in expected["tool_calls"]]
    assert answer.finish_reason == expected["finish_reason"]
    assert answer.extra == expected["extra"]
    assert answer.usage == (None if expected["usage"] is None else Usage(**expected["usage"]))
    assert (None if answer.usage is None else answer.usage.total) == case["total"]


def sse(events: list[Any], *, named: bool) -> bytes:
    """Write events as a stream's bytes."""
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        lines.append(f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n")
    return "".join(lines).encode()


def _meant(call: Any) -> Any:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}
