"""An answer as memory keeps it: weighed, and when it is first given marked as a hit and packed for the wire."""

from __future__ import annotations

import math
from struct import Struct
from typing import Final

import msgspec
from msgspec.structs import replace

from aiorch.errors import LocalProtocolError
from aiorch.protocol import pack_around
from aiorchd.calls.answer import fixed_fields, foreign_parts, from_body, own_fields
from aiorchd.calls.ports import StoredAnswer
from aiorchd.calls.reply import Reply

NEVER_GIVEN: Final = -math.inf
"""`Kept.look_at` of what nobody has asked for again."""

_ENTRY_BYTES: Final = 2000
"""What a kept answer weighs besides its content, measured; what is packed around that among it."""
_OBJECT_FACTOR: Final = 20
"""Bytes of Python objects per byte of packed data, at the least favourable: maps of short texts and small lists."""
_OWN_PAIRS: Final = 2
_ID: Final = b"\xa2id"
_pack_map_head: Final = Struct(">BH").pack


class Kept(msgspec.Struct, eq=False, gc=False):
    """An answer in memory. Most are never asked for again, so what a hit needs is made by `make_ready`, which whoever gives it
    calls first. From then on ``reply`` is marked as a hit, and ``packed_start`` is the packed wire reply up to the name ``id``: a
    hit adds the value of that, and its ``timing`` (empty for embeddings). Fresh until ``expires_at``, wall time like
    ``stored_at``. Nobody else changes one, but for ``look_at``: whoever serves it at or after that time looks twice, since it is
    given for the first time, is out of date, or the disk has not heard of it for a while.
    """

    reply: Reply
    stored_at: float
    expires_at: float
    source_id: str
    uid: int
    partition: str
    tags: tuple[str, ...]
    size_bytes: int
    look_at: float = NEVER_GIVEN
    packed_start: bytes = b""
    ready: bool = False

    def make_ready(self) -> None:
        """Prepare it for hits, unless it is."""
        if self.ready:
            return
        reply = self.reply
        self.reply = hit = replace(
            reply,
            cache="exact",
            saved_usd=reply.cost_usd,
            source_id=self.source_id,
            age_s=0.0,
            saved_s=reply.saved_s or reply.provider_s or None,
            batched=False,
            attempts=0,
            bill=None,
            queue_s=0.0,
            provider_s=0.0,
        )
        if hit.vectors is None:  # else the door packs vectors as each caller wants them
            fields = {**fixed_fields(hit), **own_fields(hit)}
            pairs = pack_around(fields, [])[_header_bytes(len(fields)) :]  # what is foreign was looked through before
            self.packed_start = _pack_map_head(0xDE, len(fields) + _OWN_PAIRS) + pairs + _ID
        self.ready = True

    def belongs_to(self, uid: int, partition: str, *, shared: bool) -> bool:
        """Tell whether a user may have it."""
        return self.partition == partition and (shared or self.uid == uid)


def kept_from_disk(stored: StoredAnswer) -> Kept | None:
    """Read back what the disk has; None when its body makes no sense (any more)."""
    reply = from_body(stored.body)
    if reply is None:
        return None
    kept = kept_of(
        reply, stored.stored_at, stored.expires_at, stored.source_id, stored.uid, stored.partition, stored.tags
    )
    if kept is not None:
        kept.make_ready()
    return kept


def kept_of(
    reply: Reply,
    stored_at: float,
    expires_at: float,
    source_id: str,
    uid: int,
    partition: str,
    tags: tuple[str, ...],
) -> Kept | None:
    """Weigh an answer; None when it holds what no wire carries."""
    text = reply.text
    objects = b""
    try:
        if reply.extra or reply.tool_calls or reply.data is not None or reply.validation is not None:
            objects = pack_around([reply.data, reply.tool_calls, reply.extra, reply.validation], foreign_parts(reply))
        text_bytes = len(text) if text.isascii() else len(text.encode())
    except (LocalProtocolError, UnicodeEncodeError):
        return None
    # The objects and the text are there twice: as they are, and packed.
    size_bytes = _ENTRY_BYTES + text_bytes + 2 * len(text) + (1 + _OBJECT_FACTOR) * len(objects)
    if reply.vectors is not None:
        size_bytes += sum(len(vector) + 40 for vector in reply.vectors)
    return Kept(reply, stored_at, expires_at, source_id, uid, partition, tags, size_bytes)


def _header_bytes(pairs: int) -> int:
    return 1 if pairs < 16 else 3
