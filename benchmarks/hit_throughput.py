"""Cached answers a second of one daemon core: 64 connections with one call each in flight, one connection with 64.

    python benchmarks/hit_throughput.py [--save] [--quick]

The daemon has CPU 0, the caller (C where there is a compiler) CPU 1. 100 questions of about 300 bytes, answers of 400
bytes in replies of about 800, cache hybrid, statistics and records of calls as they come. Every answer is checked: right
text, an id of its own, the msgid of a call that waits.
"""

from functools import partial

from rig.figures import Figure, options, publish
from rig.loader import Loader
from rig.meters import come_first, median, rss_bytes, undisturbed
from rig.questions import kept
from rig.scene import scene

import aiorch

SHAPES = {(64, 1): 25_000, (1, 64): 50_000, (8, 1): None, (1, 1): None}


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    rounds, seconds = (1, 1.0) if chosen.quick else (5, 3.0)
    come_first()
    questions = kept(100)
    rows: dict = {shape: [] for shape in SHAPES}
    with scene(questions=questions) as at:
        with aiorch.Client(at.socket) as client:
            for asked in questions:
                assert client.complete(asked.prompt).text == asked.answer
        fresh = rss_bytes(at.daemon.pid)
        loader = Loader(at.folder, questions)
        for _ in range(rounds):
            for connections, depth in SHAPES:
                run = partial(
                    loader.run, at.socket, at.daemon.pid, connections=connections, depth=depth, seconds=seconds
                )
                rows[connections, depth].append(undisturbed(run, at.pids))
        after = rss_bytes(at.daemon.pid)
        calls = at.simulator.stats()["calls"]["received"]
        assert calls == len(questions), f"{calls} calls reached the provider"
    figures = []
    for (connections, depth), got in rows.items():
        middle = {name: median(row[name] for row in got) for name in got[0]}
        rates = [row["per_s"] for row in got]
        figures.append(
            Figure(
                f"cached answers, {connections} connection{'s' if connections > 1 else ''}, {depth} in flight each",
                middle["per_s"],
                "a second",
                SHAPES[connections, depth],
                at_least=True,
                beside=f"{min(rates):,.0f} to {max(rates):,.0f}; daemon {middle['daemon_cpu_us']:.1f} us CPU an answer; "
                f"p50 {middle['p50_us']:.0f} us, p99 {middle['p99_us']:.0f} us; caller ({loader.name}) "
                f"{middle['load_busy']:.0%} of its CPU",
                details={"rounds": got, "rss_before_mb": fresh / 1e6, "rss_after_mb": after / 1e6},
            )
        )
    answers = sum(row["count"] for got in rows.values() for row in got)
    figures[0].beside += f"; RSS {after / 1e6:.0f} MB after {answers:,} answers"
    publish(
        "hit_throughput",
        figures,
        disturbed=[row["disturbed"] for got in rows.values() for row in got],
        save=chosen.save,
    )


if __name__ == "__main__":
    main()
