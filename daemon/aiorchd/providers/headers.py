"""The headers of every request to one provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiorch.version import __version__
from aiorchd.providers.transport.channel import Headers

_NEEDED_CHARACTERS: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_RESERVED_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "accept-encoding", "accept"}
)


def fixed_headers(own: Mapping[str, str], configured: Mapping[str, str]) -> Headers:
    """Give the headers of every request: what all dialects send, the dialect's ``own``, and what is ``configured``, which
    wins. Raises `ValueError` that names a header that cannot be sent, not its value."""
    headers = {
        "content-type": "application/json",
        "user-agent": f"aiorch/{__version__}",
        # Short answers gain nothing from compression and streams lose: a compressor holds pieces back.
        "accept-encoding": "identity",
        **own,
    }
    for name, value in configured.items():
        lower = name.strip().lower()
        if not lower or not _NEEDED_CHARACTERS.issuperset(lower) or lower in _RESERVED_HEADERS:
            raise ValueError(f"headers: {name!r} cannot be set")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"headers: the value of {name!r} holds characters that cannot be sent")
        headers[lower] = value.strip()
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
