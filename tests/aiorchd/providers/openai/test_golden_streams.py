"""Whole answers and the streams that say the same, of several servers that speak OpenAI's dialect: read alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from golden import cases_of, check, sse

from aiorchd.providers.openai.answer import read_chat
from aiorchd.providers.openai.stream import ChatAssembler
from aiorchd.providers.sse import EventParser

CASES = cases_of(Path(__file__).parent / "golden_streams")


def read(chunks: list[bytes]) -> tuple[ChatAssembler, str]:
    assembler, parser = ChatAssembler(None), EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()
    deltas = [delta for event in events if (delta := assembler.take(event)) is not None]
    return assembler, "".join(delta.text or "" for delta in deltas)


@pytest.mark.parametrize("case", CASES)
def test_whole(case: dict[str, Any]) -> None:
    check(read_chat(case["response"]), case)


@pytest.mark.parametrize("case", CASES)
def test_streamed_and_cut_at_every_byte(case: dict[str, Any]) -> None:
    body = sse(case["stream"], named=False) + b"data: [DONE]\n\n"
    for chunks in ([body], [body[at : at + 1] for at in range(len(body))], [body[:100], body[100:]]):
        assembler, text = read(chunks)
        assert (assembler.done, assembler.complete, assembler.malformed) == (True, True, 0)
        check(assembler.answer(), case)
        assert text == case["expected"]["text"]
