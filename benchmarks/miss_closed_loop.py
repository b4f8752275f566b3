"""Calls a second of 64 callers who ask again as soon as they are answered, through the daemon and without it.

    python benchmarks/miss_closed_loop.py [--save] [--quick]

The provider takes 50 ms, so 64 callers can reach 1 280 a second at best. Rivals: httpx and httpx2, one AsyncClient for all
callers, as they come, on Trio. They take turns; each has CPU 0 for itself, the provider (and the daemon's callers) CPU 1.
All questions differ; cache hybrid, statistics and records of calls as they come.
"""

from functools import partial

from rig.figures import Figure, options, publish
from rig.meters import come_first, median, undisturbed
from rig.misses import Misses, plain_libraries
from rig.scene import scene

CALLERS = 64
NAMES = {"aiorch": "one AsyncClient", "bare": "64 connections"}


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    rounds, seconds = (1, 2.0) if chosen.quick else (5, 5.0)
    come_first()
    rivals = plain_libraries()
    rows: dict = {way: [] for way in (*NAMES, *rivals)}
    with scene(latency_s=0.05) as at:
        misses = Misses(at)
        for _ in range(rounds):
            for way in rows:
                run = partial(misses.run, way, f"closed:{CALLERS}", seconds)
                rows[way].append(undisturbed(run, at.pids, tries=2))
        lost = at.simulator.stats()["calls"]
        assert lost["received"] == lost["answered"], lost
    middle = {way: {name: median(row[name] for row in got) for name in got[0]} for way, got in rows.items()}
    best = max(rivals, key=lambda way: middle[way]["per_s"])
    figures = []
    for way, name in NAMES.items():
        ours = middle[way]
        ratio = median(a["per_s"] / b["per_s"] for a, b in zip(rows[way], rows[best], strict=True))
        figures.append(
            Figure(
                f"miss, {CALLERS} callers in a closed loop ({name}): calls a second over plain {best}'s",
                ratio,
                "times",
                1.0,
                at_least=True,
                beside=f"{ours['per_s']:.0f} a second, p50 {ours['p50_ms']:.0f} ms; "
                + ", ".join(
                    f"{each} {middle[each]['per_s']:.0f} (p50 {middle[each]['p50_ms']:.0f} ms)" for each in rivals
                )
                + f"; daemon {ours['daemon_cpu_us'] / 1e3:.2f} ms CPU a call ({ours['daemon_busy']:.0%} of its CPU), "
                + ", ".join(f"{each} {middle[each]['caller_cpu_us'] / 1e3:.2f}" for each in rivals)
                + f"; callers {ours['caller_busy']:.0%} and provider {ours['provider_busy']:.0%} of the other; "
                f"RSS {ours['daemon_rss_mb']:.0f} MB",
                details={"rounds": {each: rows[each] for each in (way, *rivals)}},
            )
        )
    publish(
        "miss_closed_loop",
        figures,
        disturbed=[row["disturbed"] for got in rows.values() for row in got],
        save=chosen.save,
    )


if __name__ == "__main__":
    main()
