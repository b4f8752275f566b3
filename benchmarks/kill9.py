"""Kills the daemon under load without warning, five times, and looks what its successors still know.

    python benchmarks/kill9.py [--save] [--quick]

Eight callers in a closed loop at a provider of 20 ms, three in ten calls asked before; SIGKILL after two to four seconds;
the files are checked as the kill left them, in a copy; the next daemon is asked, from what is kept alone, for everything
that was ever answered.
"""

import contextlib
import tempfile
from pathlib import Path

import trio
from rig.figures import Figure, options, publish
from rig.meters import Disturbance, median
from rig.scene import DaemonProcess, start_simulator
from rig.trials import FILES, configuration, kill_under_load


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    kills = 2 if chosen.quick else 5
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        simulator = stack.enter_context(start_simulator("[[models]]\nlatency_s = 0.02\n"))
        daemon = DaemonProcess(folder, configuration(simulator.base_url), (), {})
        stack.callback(lambda: daemon.process is not None and daemon.process.poll() is None and daemon.process.kill())
        watch = Disturbance([simulator.pid])
        story = trio.run(
            lambda: kill_under_load(
                daemon, folder / "copies", kills=kills, callers=8, load_s=lambda chance: 2.0 + 2.0 * chance.random()
            )
        )
        disturbed = watch.share()
    for wrong in story.wrong[:5]:
        print(wrong)
    due, found = sum(kill.due for kill in story.kills), sum(kill.found for kill in story.kills)
    young, young_found = sum(kill.young for kill in story.kills), sum(kill.young_found for kill in story.kills)
    told = [story.integrity, *(kill.integrity for kill in story.kills)]
    spoiled = sum(verdict != "ok" for each in told for verdict in each.values())
    figures = [
        Figure(f"kill -9 under load, {kills} times: wrong answers, and lost ones older than a second", len(story.wrong), "",
               0.0, beside=f"of {story.answered:,} answers; {found:,} of {due:,} looked for were kept, and {young_found} of "
               f"{young} younger ones; {sum(story.cut.values())} calls cut, each told so"),
        Figure("the same: files that `pragma integrity_check` complains of", spoiled, "", 0.0,
               beside=f"of {len(told)} times {len(FILES)}, as the kill left them and in the end"),
        Figure("the same: age of the oldest answer that was lost", max(kill.oldest_lost_s for kill in story.kills), "s", 1.0,
               beside=f"ready again after {median(kill.restart_s for kill in story.kills):.2f} s (median)"),
    ]  # fmt: skip
    publish("kill9", figures, disturbed=[disturbed], save=chosen.save)


if __name__ == "__main__":
    main()
