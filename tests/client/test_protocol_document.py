"""The bytes in ``docs/protocol.md`` say what stands beside them, and its tables are those of the code."""

from __future__ import annotations

import ast
import re
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest

from aiorch.errors import CALL_ERRORS, error_from_wire
from aiorch.protocol import Connection, Limits
from aiorch.questions import CompleteOptions, EmbedOptions

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
BLOCKS = [
    block
    for block in re.findall(r"^```\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    if re.search(r"9[34] 0[0-2]", block)
]


def packed_and_said(block: str) -> tuple[bytes, str]:
    """Take a block apart into its bytes and what is written beside them."""
    packed, said = "", ""
    for line in block.splitlines():
        label = re.match(r"^(?:a|its) \w+: +", line)
        rest = line[label.end() :] if label else re.sub(r"^[<>] ", "", line)
        if rest.lstrip().startswith(("[", '"')):
            said += rest
            continue
        match = re.match(r"^ *((?:[0-9a-f]+ ?)+?)(?:  +(.*))?$", rest)
        assert match, line
        packed += match[1].replace(" ", "")
        said += " " + (match[2] or "")
    return bytes.fromhex(packed), said


def values(said: str) -> list[Any]:
    """Read the notation of the document: JSON, with nil, true and <vectors of floats>."""
    said = re.sub(r"<([-0-9., ]+)>", lambda match: repr(floats(match[1])), said)
    for word, python in (("nil", "None"), ("true", "True"), ("false", "False")):
        said = re.sub(rf"\b{word}\b(?=[,\]}} ]|$)", python, said)
    found, depth, start = [], 0, 0
    for place, character in enumerate(said):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "]" and depth == 0:
            found.append(ast.literal_eval(said[start : place + 1].strip()))
            start = place + 1
    assert not said[start:].strip()
    return found


def floats(text: str) -> bytes:
    numbers = [float(number) for number in text.split(",")]
    return struct.pack(f"<{len(numbers)}f", *numbers)


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 9


@pytest.mark.parametrize("block", BLOCKS, ids=[block.strip().splitlines()[0][:40] for block in BLOCKS])
def test_examples_decode_to_what_they_say(block: str) -> None:
    packed, said = packed_and_said(block)
    unpacker = msgpack.Unpacker()
    unpacker.feed(packed)
    decoded = list(unpacker)
    assert unpacker.tell() == len(packed)
    assert decoded == values(said)
    assert len(Connection().receive_data(packed)) == len(decoded)


def rows(heading: str) -> list[list[str]]:
    section = DOCUMENT.split(heading, 1)[1].split("\n#", 1)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")
    ]


def names(cell: str) -> list[str]:
    return re.findall(r"`([a-z_.]+)`", cell)


def test_every_error_code_is_in_the_table_as_the_code_has_it() -> None:
    table = {names(row[0])[0]: row[1:3] for row in rows("### Errors") if len(row) == 4}
    assert table == {
        known.code: [str(known.http_status), "yes" if known.retryable_by_default else "no"] for known in CALL_ERRORS
    }


def test_every_argument_of_complete_is_in_the_table() -> None:
    told = {name for row in rows("### `complete`") if len(row) == 3 for name in names(row[0])}
    assert told == (set(CompleteOptions.__annotations__) - {"retries", "model_call_func"}) | {
        "prompt",
        "stream",
        "notify",
        "host",
    }


def test_every_argument_of_embed_is_in_the_table() -> None:
    (row,) = [row for row in rows("### The other methods") if row[0] == "`embed`"]
    told = set(names(row[1])) - {"list", "bytes"}
    assert told == (set(EmbedOptions.__annotations__) - {"retries"}) | {"input", "encoding"}


def test_the_limits_are_the_codes() -> None:
    assert f"{Limits().max_frame_bytes >> 20} MiB" in DOCUMENT
    assert f"{Limits().max_elements:,}".replace(",", " ") in DOCUMENT


def test_both_forms_of_an_error_read_the_same() -> None:
    text = error_from_wire([0, "rate_limited: slow down"])
    as_map = error_from_wire({"code": "rate_limited", "message": "slow down"})
    assert (type(text), text.message) == (type(as_map), as_map.message)
