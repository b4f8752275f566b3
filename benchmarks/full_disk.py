"""Lets the disk with the state directory be full for 20 s under load, and looks what is served meanwhile and after.

    python benchmarks/full_disk.py [--save] [--quick]

Needs root and `unshare`: the state is on a file system of 24 MiB in memory that only the daemon sees. 20 callers in a closed
loop at a provider of 50 ms, half of their questions new; every byte of the disk is taken, again and again; meanwhile all
that needs no disk is asked: new and kept answers, status, stats, explain, forgetting. Then the room is given back.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import trio
from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, Disturbance, pinned
from rig.scene import daemon, start_simulator
from rig.trials import configuration, fill_under_load, full_disk_why_not, on_a_small_disk


def main() -> int:
    chosen = options(__doc__.splitlines()[0])
    reason = full_disk_why_not()
    if reason is not None:
        print(f"full_disk was not measured: {reason}")
        return 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator("[[models]]\nlatency_s = 0.05\n"))
        running = stack.enter_context(daemon(folder, configuration(simulator.base_url), start=False))
        on_a_small_disk(running)
        with pinned(UNDER_TEST):
            running.start()
        watch = Disturbance([simulator.pid])  # the daemon, a child, is gone in the end, and counted as ours
        with pinned(LOAD):
            story = trio.run(
                lambda: fill_under_load(
                    running,
                    folder / "kept",
                    clients=20,
                    pause_s=0.1,
                    before_s=2.0,
                    full_s=3.0 if chosen.quick else 20.0,
                )
            )
        disturbed = watch.share()
        said = running.said()
        made = simulator.stats()["calls"]["answered"] - 1  # one is forgotten meanwhile
    told = story.told
    failures = [*told.wrong, *told.cut, *told.refused, *story.wrong]
    for failure in failures[:5]:
        print(failure)
    assert "full" in story.states["cache"] | story.states["metrics"], story.states
    spoiled = [name for name, verdict in story.integrity.items() if verdict != "ok"]
    figures = [
        Figure("state directory full for 20 s under load: calls that need no disk and were not served", len(failures), "",
               0.0, beside=f"of {story.answered_while_full:,} of 20 callers and {story.asked_while_full:,} others meanwhile; "
               f"slowest call {told.slowest_s * 1e3:.0f} ms"),
        Figure("the same: works again after there is room, without restart", story.works_again_s, "s", 5.0,
               beside=f"{story.waited:,} answers waited in memory, {story.dropped} were dropped; "
               f"{said.count('file does not work')} lines in the log when it began"),
        Figure("the same: calls not counted, answers not kept, files not whole in the end",
               abs(story.counted - story.counted_on_disk)
               + abs(made - story.answers_on_disk) + len(spoiled), "",
               0.0, beside=f"{story.counted_on_disk:,} calls and {story.answers_on_disk:,} answers on disk",
               details={"concerns": story.concerns, "integrity": story.integrity}),
    ]  # fmt: skip
    publish("full_disk", figures, disturbed=[disturbed], save=chosen.save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
