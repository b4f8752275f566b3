"""What the daemon adds to a call that nobody asked before: 400 calls a second at a provider of 50 ms.

    python benchmarks/miss_open_loop.py [--save] [--quick]

Open loop: calls come at random (Poisson), whatever became of earlier ones, and latency counts from when a call was due,
so that a stall is felt by all who came during it. Rivals: plain httpx and httpx2 clients, as they come, on Trio, doing the
same. They take turns; each has CPU 0 for itself, the provider (and the daemon's callers) CPU 1. All questions differ;
cache hybrid, so each answer is also written to disk; statistics and records of calls as they come.
"""

from functools import partial

from rig.figures import Figure, options, publish
from rig.meters import come_first, median, undisturbed
from rig.misses import Misses, plain_libraries
from rig.scene import scene

RATE = 400


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    rounds, seconds = (1, 4.0) if chosen.quick else (5, 12.0)
    come_first()
    rivals = plain_libraries()
    rows: dict = {way: [] for way in ("aiorch", *rivals)}
    with scene(latency_s=0.05) as at:
        misses = Misses(at)
        for _ in range(rounds):
            for way in rows:
                run = partial(misses.run, way, f"open:{RATE}", seconds)
                rows[way].append(undisturbed(run, at.pids, tries=2))
        lost = at.simulator.stats()["calls"]
        assert lost["received"] == lost["answered"], lost
    middle = {way: {name: median(row[name] for row in got) for name in got[0]} for way, got in rows.items()}
    ours = middle["aiorch"]
    # Judged by the faster of the plain clients: httpx 0.28 does not keep up with this rate on every machine.
    plain = min(rivals, key=lambda way: middle[way]["p50_ms"])

    def beside(name: str) -> str:
        return f"{ours[name]:.1f} ms; " + ", ".join(f"{way} {middle[way][name]:.1f} ms" for way in rivals)

    added = {name: median(a[name] - b[name] for a, b in zip(rows["aiorch"], rows[plain], strict=True)) for name in
             ("p50_ms", "p99_ms")}  # fmt: skip
    figures = [
        Figure(f"miss, open loop of {RATE} a second, provider of 50 ms: p50 over plain {plain}", added["p50_ms"], "ms", 3.0,
               beside=beside("p50_ms"), details={"rounds": rows}),
        Figure(f"the same: p99 over plain {plain}", added["p99_ms"], "ms", 10.0, beside=beside("p99_ms")),
        Figure("the same: daemon CPU a call", ours["daemon_cpu_us"] / 1e3, "ms", 0.7,
               beside="; ".join(f"{way} itself {middle[way]['caller_cpu_us'] / 1e3:.2f} ms" for way in rivals)
               + f"; AsyncClient {ours['caller_cpu_us'] / 1e3:.2f} ms, provider {ours['provider_cpu_us'] / 1e3:.2f} ms; "
               f"daemon RSS {ours['daemon_rss_mb']:.0f} MB"),
    ]  # fmt: skip
    publish(
        "miss_open_loop",
        figures,
        disturbed=[row["disturbed"] for got in rows.values() for row in got],
        save=chosen.save,
    )


if __name__ == "__main__":
    main()
