"""Vectors for texts: a hash of words and of their parts, so that texts with the same words lie near each other.

Feature hashing (Weinberger et al., 2009): each word adds +-1 at three coordinates chosen by its hash, each three
letters of it a smaller +-1 at one, so that forms of a word stay related; stop words count little. The vector has
length 1. A text without words gets a vector chosen by its own hash.
"""

import math
from hashlib import blake2b
from typing import Final
from zlib import crc32

from aiorchsim.textwork.words import STOP_WORDS, words

STOP_WORD_WEIGHT: Final = 0.15
PART_WEIGHT: Final = 0.6


def embed(text: str, dimensions: int) -> list[float]:
    """The vector of a text. The same text has the same vector always and everywhere."""
    vector = [0.0] * dimensions
    found = words(text)
    for word in found or [text]:
        weight = STOP_WORD_WEIGHT if word in STOP_WORDS else 1.0
        encoded = word.encode("utf-8", "surrogatepass")
        digest = int.from_bytes(blake2b(encoded, digest_size=16).digest(), "little")
        for _ in range(3):
            vector[(digest >> 1 & 0x7FFFFFFF) % dimensions] += weight if digest & 1 else -weight
            digest >>= 32
        if weight == 1.0:
            padded = b"<" + encoded[:40] + b">"
            for start in range(len(padded) - 2):
                part = crc32(padded[start : start + 3]) * 0x9E3779B1 & 0xFFFFFFFF
                vector[(part >> 1) % dimensions] += PART_WEIGHT if part & 1 else -PART_WEIGHT
    length = math.sqrt(sum([value * value for value in vector]))
    if length == 0.0:  # opposite signs cancelled: rare, but a vector must have a direction
        vector[0] = length = 1.0
    return [value / length for value in vector]
