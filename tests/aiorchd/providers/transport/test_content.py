"""Compressed answers are undone in any pieces and never beyond the limit."""

import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.providers.transport.content import decoder
from aiorchd.providers.transport.failures import AnswerTooLarge, Malformed

TEXT = b'{"text": "' + b"la " * 5000 + b'"}'


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def decode(encoding: str, pieces: list[bytes], limit: int = 1_000_000) -> bytes:
    undo = decoder(encoding, limit)
    out = b"".join(part for piece in pieces for part in undo.feed(piece))
    undo.finish()
    return out


ENCODED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "GZIP ": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]),
    "deflate": zlib.compress(TEXT),
    "Deflate": raw_deflate(TEXT),
}


@pytest.mark.parametrize("encoding", ENCODED)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=8))
def test_any_cutting_gives_the_same(encoding: str, cuts: list[int]) -> None:
    data = ENCODED[encoding]
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert decode(encoding, pieces) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "Deflate"])
def test_byte_by_byte(encoding: str) -> None:
    assert decode(encoding, [bytes([byte]) for byte in ENCODED[encoding]]) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_cut_off_answer_is_an_error(encoding: str) -> None:
    with pytest.raises(Malformed, match="breaks off"):
        decode(encoding, [ENCODED[encoding][:-5]])


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072, 131_071])
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, raw_deflate])
def test_nothing_is_lost_at_the_size_of_a_piece(size: int, compress: Callable[[bytes], bytes]) -> None:
    data = b"\0" * size
    assert decode("gzip", [compress(data)]) == data
    assert decode("gzip", [bytes([byte]) for byte in compress(data)]) == data


def test_an_empty_answer_is_not() -> None:
    assert decode("gzip", []) == b""


@pytest.mark.parametrize(
    "data", [b"not compressed at all", gzip.compress(TEXT)[:30] + b"x" * 100, b"\x1f\x8b" + b"\xff" * 50]
)
def test_damage_is_an_error(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode("gzip", [data])


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "x" * 1000])
def test_what_was_not_asked_for_is_an_error(encoding: str) -> None:
    with pytest.raises(Malformed, match="not asked for") as caught:
        decoder(encoding, 100)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_the_limit_is_exact(encoding: str) -> None:
    data = ENCODED[encoding]
    assert decode(encoding, [data], len(TEXT)) == TEXT
    with pytest.raises(AnswerTooLarge):
        decode(encoding, [data], len(TEXT) - 1)


def test_a_bomb_costs_no_memory() -> None:
    layer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    bomb = b"".join(layer.compress(b"\0" * 1_000_000) for _ in range(200)) + layer.flush()
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        undo = decoder("gzip", 10_000_000)
        with pytest.raises(AnswerTooLarge):
            for _ in undo.feed(bomb):
                pass
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
