"""Answers in the form of the wire, packed for one write."""

from __future__ import annotations

from typing import Final

import msgspec

from aiorch.errors import CallError, LocalProtocolError
from aiorch.protocol import pack, pack_unchecked

_pack: Final = msgspec.msgpack.Encoder().encode
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""What every client takes, as docs/protocol.md has it; beyond it they would close the connection, and lose all its calls."""


def result_head(msgid: int) -> bytes:
    """Give what comes before a packed result."""
    return b"\x94\x01" + _pack(msgid) + b"\xc0"


def packed_error(msgid: int, error: CallError, *, as_map: bool) -> bytes:
    """Pack an error in either form. What cannot be packed of it is left out."""
    try:
        wire = pack(error.to_wire()) if as_map else pack([0, str(error)])
    except LocalProtocolError:
        wire = pack_unchecked([0, f"{error.code}: {error.message}".encode(errors="replace").decode()])
    return packed_failure(msgid, wire)


def packed_failure(msgid: int, packed: bytes) -> bytes:
    """Put an error that is packed already into an answer."""
    return b"\x94\x01" + _pack(msgid) + packed + b"\xc0"
