"""An answer as memory keeps it: marked as a hit, packed for the wire, weighed."""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec
from msgspec.structs import replace

from aiorch.errors import LocalProtocolError
from aiorch.protocol import pack_around
from aiorchd.calls.answer import fixed_fields, foreign_parts, from_body, own_fields
from aiorchd.calls.ports import StoredAnswer
from aiorchd.calls.reply import Reply

_ENTRY_BYTES: Final = 1500
"""What a kept answer weighs besides its content, measured."""
_OBJECT_FACTOR: Final = 20
"""Bytes of Python objects per byte of packed data, at the least favourable: maps of short texts and small lists."""
_OWN_PAIRS: Final = 2
_ID: Final = b"\xa2id"
_pack_map_head: Final = Struct(">BH").pack


class Kept(msgspec.Struct, eq=False):
    """An answer in memory. ``reply`` is marked as a hit already; ``packed_start`` is the packed wire
    reply up to the name ``id``: a hit adds the value of that, and its ``timing`` (empty for embeddings). Fresh until
    ``expires_at``, wall time like ``stored_at``. Nobody changes one, but for ``look_at``: whoever serves it at or after that time
    looks twice, since it is out of date or the disk has not heard of it for a while.
    """

    reply: Reply
    packed_start: bytes
    stored_at: float
    expires_at: float
    source_id: str
    uid: int
    partition: str
    tags: tuple[str, ...]
    size_bytes: int
    look_at: float

    def belongs_to(self, uid: int, partition: str, *, shared: bool) -> bool:
        """Tell whether a user may have it."""
        return self.partition == partition and (shared or self.uid == uid)


def kept_from_disk(stored: StoredAnswer) -> Kept | None:
    """Read back what the disk has; None when its body makes no sense (any more)."""
    reply = from_body(stored.body)
    if reply is None:
        return None
    return kept_of(
        reply, stored.stored_at, stored.expires_at, stored.source_id, stored.uid, stored.partition, stored.tags
    )


def kept_of(
    reply: Reply,
    stored_at: float,
    expires_at: float,
    source_id: str,
    uid: int,
    partition: str,
    tags: tuple[str, ...],
) -> Kept | None:
    """Prepare an answer for hits; None when it holds what no wire carries."""
    hit = replace(
        reply,
        cache="exact",
        saved_usd=reply.cost_usd,
        source_id=source_id,
        age_s=0.0,
        saved_s=reply.saved_s or reply.provider_s or None,
        batched=False,
        attempts=0,
        bill=None,
        queue_s=0.0,
        provider_s=0.0,
    )
    size_bytes = _ENTRY_BYTES
    try:
        foreign = foreign_parts(hit)
        objects = pack_around([hit.data, hit.tool_calls, hit.extra, hit.validation], foreign)
        if hit.vectors is None:
            fields = {**fixed_fields(hit), **own_fields(hit)}
            pairs = pack_around(fields, [])[_header_bytes(len(fields)) :]  # what is foreign was looked through above
            packed = _pack_map_head(0xDE, len(fields) + _OWN_PAIRS) + pairs + _ID
        else:
            packed = b""  # the door packs vectors as each caller wants them
            size_bytes += sum(len(vector) + 40 for vector in hit.vectors)
    except LocalProtocolError:
        return None
    size_bytes += len(packed) + 2 * len(hit.text) + _OBJECT_FACTOR * len(objects)
    return Kept(hit, packed, stored_at, expires_at, source_id, uid, partition, tags, size_bytes, stored_at)


def _header_bytes(pairs: int) -> int:
    return 1 if pairs < 16 else 3
