"""The memory tier on Zipf streams: what share of the gap between LRU and a clairvoyant cache it closes.

    python benchmarks/memory_tier.py [--save] [--quick]

The caches are asked directly, with the daemon's default of 1,000 answers; each key that is not there is put. The streams ask
for ten times as many keys by a Zipf law with s = 0.9, from several seeds:

- still: what is popular stays so;
- scans: a fifth of the questions are asked only once, in runs of a quarter to one time what the cache holds;
- changing: what is popular is drawn anew five times;
- sizes: as scans, entries between 1 and 40 kB, bounded by bytes.

The clairvoyant cache is Belady's (IBM Systems Journal 5(2), 1966), which also may decline to keep something: nobody does better
with entries of one size. For entries of different sizes none is known that is quick, so there is only LRU beside.
W-TinyLFU is not run here: its figures on the same streams, when the algorithm was chosen, were 45 %, 57 % and 25 %.
"""

import heapq
import itertools
import random
import time
from collections.abc import Callable, Sequence

from rig.figures import Figure, options, publish

from aiorchd.core.memory_cache import MemoryCache
from aiorchd.core.s3_fifo import S3FifoCache

CAPACITY = 1000
KEYS = 10 * CAPACITY
SKEW = 0.9


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    seeds, asked = (2, 40_000) if chosen.quick else (7, 150_000)
    figures = []
    for name, make, bar in (("still", still, 0.3), ("with scans", scans, 0.3), ("changing", changing, None)):
        rows = []
        for seed in range(seeds):
            stream = make(random.Random(seed), asked)
            lru, ours, best = hit_rate(MemoryCache, stream), hit_rate(S3FifoCache, stream), clairvoyant(stream)
            rows.append((ours - lru, best - lru, lru, ours, best))
            print(f"{name:11} seed {seed}: LRU {lru:.4f}, ours {ours:.4f}, clairvoyant {best:.4f}", flush=True)
        shares = [gained / gap for gained, gap, *_ in rows]
        lru, ours, best = (sum(column) / seeds for column in list(zip(*rows, strict=True))[2:])
        figures.append(
            Figure(
                f"memory tier, Zipf 0.9 over 10 times its capacity, {name}: gap between LRU and clairvoyant closed, worst seed",
                100 * min(shares),
                "%",
                None if bar is None else 100 * bar,
                at_least=True,
                beside=f"hits on average: LRU {lru:.1%}, ours {ours:.1%}, clairvoyant {best:.1%}",
            )
        )
    gains, rates = [], []
    for seed in range(seeds):
        stream = scans(random.Random(seed), asked)
        sizes = {key: random.Random(key).choice((1, 2, 4, 10, 40)) * 1000 for key in set(stream)}
        mean = sum(sizes.values()) // len(sizes)
        rates.append([hit_rate(kind, stream, sizes, CAPACITY * mean) for kind in (MemoryCache, S3FifoCache)])
        gains.append(100 * (rates[-1][1] - rates[-1][0]))
    figures.append(
        Figure(
            "the same with scans and entries of 1 to 40 kB, bounded by bytes: hits more than LRU, worst seed",
            min(gains),
            "points",
            0,
            at_least=True,
            beside="hits on average: LRU {:.1%}, ours {:.1%}".format(
                *(sum(row) / seeds for row in zip(*rates, strict=True))
            ),
        )
    )
    lru_us, ours_us = costs(MemoryCache), costs(S3FifoCache)
    figures.append(Figure("memory tier, one hit", ours_us, "µs", None, beside=f"LRU {lru_us:.2f} µs"))
    publish("memory_tier", figures, disturbed=[], save=chosen.save)


def zipf(rng: random.Random, asked: int) -> list[int]:
    keys = list(range(KEYS))
    rng.shuffle(keys)
    weights = list(itertools.accumulate(1 / rank**SKEW for rank in range(1, KEYS + 1)))
    return rng.choices(keys, cum_weights=weights, k=asked)


def still(rng: random.Random, asked: int) -> list[int]:
    return zipf(rng, asked)


def changing(rng: random.Random, asked: int) -> list[int]:
    return [key for _ in range(5) for key in zipf(rng, asked // 5)]


def scans(rng: random.Random, asked: int) -> list[int]:
    rest = zipf(rng, asked * 4 // 5)
    stream: list[int] = []
    once = itertools.count(KEYS)
    while rest:
        length = rng.randrange(CAPACITY, 4 * CAPACITY)
        stream += rest[:length]
        del rest[:length]
        stream += itertools.islice(once, length // 4)
    return stream


Kind = Callable[[int, int], MemoryCache[int]]


def hit_rate(kind: Kind, stream: Sequence[int], sizes: dict[int, int] | None = None, max_bytes: int = 1 << 40) -> float:
    cache = kind(CAPACITY if sizes is None else 1 << 30, max_bytes)
    keys = {key: b"%024d" % key for key in set(stream)}
    for key in stream:
        if cache.get(keys[key], 0.0) is None:
            size = 1 if sizes is None else sizes[key]
            cache.put(keys[key], 1, size_bytes=size, stored_at=0.0, expires_at=1.0)
    return cache.statistics().hits / len(stream)


def clairvoyant(stream: Sequence[int]) -> float:
    following, last = [0] * len(stream), dict[int, int]()
    for at in range(len(stream) - 1, -1, -1):
        following[at] = last.get(stream[at], len(stream) + at)
        last[stream[at]] = at
    held: dict[int, int] = {}
    latest: list[tuple[int, int]] = []
    hits = 0
    for at, key in enumerate(stream):
        if key in held:
            hits += 1
        elif len(held) >= CAPACITY:
            while held.get(latest[0][1]) != -latest[0][0]:
                heapq.heappop(latest)  # used meanwhile
            if following[at] >= -latest[0][0]:
                continue
            del held[heapq.heappop(latest)[1]]
        held[key] = following[at]
        heapq.heappush(latest, (-following[at], key))
    return hits / len(stream)


def costs(kind: Kind) -> float:
    cache = kind(CAPACITY, 1 << 40)
    keys = [b"%024d" % key for key in range(CAPACITY)]
    for key in keys:
        cache.put(key, 1, size_bytes=1, stored_at=0.0, expires_at=1.0)
    best = 1e9
    for _ in range(30):
        began = time.perf_counter()
        for key in keys:
            cache.recall(key, 0.0)
        best = min(best, (time.perf_counter() - began) / len(keys))
    return best * 1e6


if __name__ == "__main__":
    main()
