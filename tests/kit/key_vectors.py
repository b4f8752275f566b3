"""The questions behind ``docs/key-vectors.json``, and the script that writes it: ``python tests/kit/key_vectors.py``.

Once published a vector is never changed: the disk caches of every installation are full of such keys. A change that
alters one is a new `KEY_VERSION`, with new vectors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from aiorchd.core.request_key import KEY_VERSION, canonical, policy_form, relevant, request_key

VECTORS = Path(__file__).parents[2] / "docs" / "key-vectors.json"

SMALL = [["openai https://api.example.com/v1", "gpt-4o-mini"]]
CHAIN = [*SMALL, ["openai https://fallback.example.net/v1", "large-2"]]


def _asked(prompt: str = "How many moons?", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], **fields}


def _question(name: str, request: dict[str, Any], **fields: Any) -> dict[str, Any]:
    question = {"uid": 1000, "partition": "", "kind": "chat", "policy": [None, SMALL], "request": request, **fields}
    return {"name": name, **question}


_TOOL = {
    "type": "function",
    "function": {
        "name": "search_files",
        "parameters": {
            "type": "object",
            "properties": {"pattern": {"type": "string"}, "limit": {"type": "integer", "default": 10}},
            "required": ["pattern"],
        },
    },
}

QUESTIONS: list[dict[str, Any]] = [
    _question("a plain prompt", _asked()),
    _question("another user", _asked(), uid=1001),
    _question("root", _asked(), uid=0),
    _question("a partition", _asked(), partition="tenant-7"),
    _question("a partition that looks like a length", _asked(), partition="s4:chat"),
    _question("a model asked for by name", _asked(), policy=["small", SMALL]),
    _question("a fallback chain", _asked(), policy=["small", CHAIN]),
    _question("the chain in another order", _asked(), policy=["small", CHAIN[::-1]]),
    _question("no candidates", _asked(), policy=[None, []]),
    _question(
        "a conversation",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Name a moon."},
                {"role": "assistant", "content": "Io."},
                {"role": "user", "content": "Another."},
            ]
        },
    ),
    _question("map order does not matter", {"messages": [{"content": "How many moons?", "role": "user"}]}),
    _question("an empty prompt", _asked("")),
    _question("spaces are kept", _asked(" How many moons? ")),
    _question("text with lines and quotes", _asked('Say:\n\t"hello" \\ \u0000')),
    _question("composed text", _asked("caf\u00e9")),
    _question("decomposed text is the same", _asked("cafe\u0301")),
    _question("beyond the basic plane", _asked("\U0001f30d and \u4e16\u754c")),
    _question("hangul, composed by algorithm", _asked("\u1112\u1161\u11ab")),
    _question("a lone surrogate", _asked("bad \udc80 byte")),
    _question("temperature 0", _asked(temperature=0)),
    _question("temperature 0.0 is the same", _asked(temperature=0.0)),
    _question("temperature -0.0 is the same", _asked(temperature=-0.0)),
    _question("temperature 0.1", _asked(temperature=0.1)),
    _question("numbers of every kind", _asked(extra={"a": [1, 1.0, -1, 1.5, 1e22, 2**63, -(2**63), 5e-324, 1e300, 1e-7]})),
    _question("true is not 1", _asked(extra={"a": [True, 1, False, 0, None, ""]})),
    _question("max_tokens, seed and stop", _asked(max_tokens=200, seed=42, stop=["END", "\n\n"])),
    _question("one stop text", _asked(stop="END")),
    _question("a list of one stop text is the same", _asked(stop=["END"])),
    _question("what does not change the answer is left out", _asked(
        timeout_s=3.5, priority="bulk", tags=["a"], session="s", stream=True, notify=["on_delta", 1], call_id=7, key="k",
        cost_limit=0.1, cache="refresh", cache_ttl_s=60, batch=True, user="u", metadata={"a": 1}, partition="elsewhere",
        temperature=None, extra={"user": "u", "metadata": {}, "stream": True, "stream_options": {"include_usage": True}, "n": 1},
    )),
    _question("top_p 1 is kept", _asked(extra={"top_p": 1})),
    _question("null in extra is kept", _asked(extra={"logit_bias": None})),
    _question("n 2 is kept", _asked(extra={"n": 2})),
    _question("a tool", _asked(tools=[_TOOL])),
    _question("a tool, chosen freely, is the same", _asked(tools=[_TOOL], tool_choice="auto")),
    _question("a tool that must be used", _asked(tools=[_TOOL], tool_choice="required")),
    _question("auto without tools is kept", _asked(tool_choice="auto")),
    _question("a tool call and its result", {
        "messages": [
            {"role": "user", "content": "Find it."},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "search_files", "arguments": '{"pattern": "*.py"}'}}
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "a.py"},
        ],
        "tools": [_TOOL],
    }),
    _question("parts of content", {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]}]}),
    _question("an output schema", _asked(output_schema={
        "type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}}}, "required": ["tags"],
    })),
    _question("a schema that takes anything", _asked(output_schema=True)),
    _question("a task", _asked(task="classification")),
    _question("a quality threshold", _asked(quality_threshold=0.8)),
    _question("map names in order of code points", _asked(extra={"b": 1, "a": 2, "B": 3, "\u00e9": 4, "\U0001f30d": 5, "\uffee": 6})),
    _question("nested empty things", _asked(extra={"a": {}, "b": [], "c": [[], {}], "d": ""})),
    _question("an image by another one", {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgp="}},
    ]}]}),
    _question("an operation that is shared between users", _asked(), uid=None),
    _question("one that is shared within a partition", _asked(), uid=None, partition="team"),
    _question("a document", _asked(document=["page 7", 3])),
    _question("another version of it", _asked(document=["page 7", 4])),
    _question("a document without a version", _asked(document=["page 7"])),
    _question("a question without its noise", _asked(), kind="chat without noise 1"),
    _question("a question without its noise, by the default rules", _asked(),
              kind="chat without noise 1 l5:l1:s7:defaultl0:l0:l0:l0:"),
    _question("half a character", {"messages": [{"role": "user", "content": "a\\udc80b"}]}),
    _question("the smallest fraction", _asked(temperature=5e-324)),
    _question("a number beyond a double's digits", _asked(seed=2**63 - 1)),
    _question("the double next to it", _asked(seed=float(2**63))),
    _question("an embedding", {"input": ["a", "b"]}, kind="embed"),
    _question("texts in another order", {"input": ["b", "a"]}, kind="embed"),
    _question("embedding dimensions", {"input": ["a", "b"], "dimensions": 256}, kind="embed"),
    _question("an embedding sent as bytes is the same", {"input": ["a", "b"], "encoding": "bytes"}, kind="embed"),
]  # fmt: skip


def key_of(question: dict[str, Any]) -> bytes:
    """Work the key out with the daemon's own code."""
    asked, candidates = question["policy"]
    return request_key(
        question["kind"],
        question["request"],
        uid=question["uid"],
        partition=question["partition"],
        policy=policy_form(asked, [(address, model) for address, model in candidates]),
    )


def form_of(question: dict[str, Any]) -> bytes:
    """Work out the canonical form that is hashed."""
    return canonical(
        [question["uid"], question["partition"], question["kind"], question["policy"], relevant(question["request"])]
    )


def document() -> str:
    """Give the whole text of ``key-vectors.json``."""
    rows = [
        {**question, "form": form_of(question).decode("utf-8", "surrogatepass"), "key": key_of(question).hex()}
        for question in QUESTIONS
    ]
    return json.dumps({"version": KEY_VERSION, "vectors": rows}, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(document(), encoding="ascii")
    print(f"{len(QUESTIONS)} vectors written to {VECTORS}", file=sys.stderr)
