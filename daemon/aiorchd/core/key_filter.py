"""What is surely not in a set of keys, told from a few bits for each: a Bloom filter (Bloom, CACM 13(7), 1970).

It may say "perhaps" of a key that was never added, and never "no" of one that was. Keys are digests, so the positions of a
key's bits are simply parts of the key; anything else of at least `KEY_BYTES` bytes works, and is less often told apart.

Size. With m bits for n keys and k probes, a foreign key passes with (1 - e^(-kn/m))^k; for 12 bits a key and 6 probes that is
4 in 1 000, and still 1 in 30 at twice the number of keys.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

KEY_BYTES: Final = 24

_BITS_PER_KEY: Final = 12
_SMALLEST: Final = 4096
_probes: Final = Struct("<6I").unpack_from


class KeyFilter:
    """Made for so many keys; takes more and then says "perhaps" more often."""

    __slots__ = ("_bits", "_mask", "added", "keys")

    def __init__(self, keys: int) -> None:
        self.keys = max(_SMALLEST, keys)
        """For how many it was made."""
        self.added = 0
        size = 1 << (self.keys * _BITS_PER_KEY - 1).bit_length()
        self._mask = size - 1
        self._bits = bytearray(size >> 3)

    def add(self, key: bytes) -> None:
        """Add a key. From now on it is never told absent."""
        bits, mask = self._bits, self._mask
        for probe in _probes(key, len(key) - KEY_BYTES):
            at = probe & mask
            bits[at >> 3] |= 1 << (at & 7)
        self.added += 1

    def lacks(self, key: bytes) -> bool:
        """Tell whether a key was surely never added."""
        bits, mask = self._bits, self._mask
        for probe in _probes(key, len(key) - KEY_BYTES):
            at = probe & mask
            if not bits[at >> 3] >> (at & 7) & 1:
                return True
        return False
