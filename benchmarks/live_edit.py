"""Edits the TOML under 50 calls a second for a minute, every tenth edit invalid, and counts what was lost.

    python benchmarks/live_edit.py [--save] [--quick] [--seconds 60]

Files are saved in place, in two halves, by rename and as vim does, half a second after the verdict of the one before. An
edit counts as live when a call that names the model it brought is answered. Half of the calls are asked for the first time
(provider of 50 ms), half again.
"""

import contextlib
import tempfile
from pathlib import Path

import trio
from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, Disturbance, cpu_s, descriptors, median, pinned, rss_bytes
from rig.scene import daemon, start_simulator
from rig.trials import configuration, edit_under_load

CALLS_PER_S = 50
PAUSE_S = 0.5


def main() -> None:
    chosen = options(
        __doc__.splitlines()[0], lambda parser: parser.add_argument("--seconds", type=float, default=60.0, help="about")
    )
    seconds = min(chosen.seconds, 8.0) if chosen.quick else chosen.seconds
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator("[[models]]\nlatency_s = 0.05\n"))
        with pinned(UNDER_TEST):
            running = stack.enter_context(daemon(folder, configuration(simulator.base_url)))
        before = {"rss_mb": rss_bytes(running.pid) / 1e6, "descriptors": descriptors(running.pid)}
        cpu, watch = cpu_s(running.pid), Disturbance([running.pid, simulator.pid])
        with pinned(LOAD):
            story = trio.run(
                lambda: edit_under_load(
                    running,
                    simulator.base_url,
                    calls_per_s=CALLS_PER_S,
                    # A verdict takes about a quarter of a second: the wait until a file keeps still, and the build.
                    edits=round(seconds / (PAUSE_S + 0.25)),
                    every_invalid=10,
                    pause_s=PAUSE_S,
                )
            )
        disturbed, cpu = watch.share(), cpu_s(running.pid) - cpu
        after = {"rss_mb": rss_bytes(running.pid) / 1e6, "descriptors": descriptors(running.pid)}
        assert running.stop() == 0, running.said()
    for failure in story.failures[:5]:
        print(failure)
    took = [edit.took_s for edit in story.valid]
    told = [edit.verdict["result"] == ("accepted" if edit.mistake is None else "refused") for edit in story.edits]
    figures = [
        Figure("editing the TOML under load: calls lost, failed or answered wrongly", len(story.failures), "", 0.0,
               beside=f"of {story.asked:,} calls at {CALLS_PER_S} a second, {story.hits:,} of them from the cache; daemon "
               f"{cpu / max(1, story.asked) * 1e3:.1f} ms CPU a call, edits included; RSS {before['rss_mb']:.0f} MB before, "
               f"{after['rss_mb']:.0f} MB after; descriptors {before['descriptors']} and {after['descriptors']}"),
        Figure("the same: a valid edit is live after, at worst", max(took), "s", 1.0,
               beside=f"median {median(took):.2f} s, the last one {took[-1]:.2f} s, of {len(took)} edits"),
        Figure("the same: verdicts that `status` did not tell", told.count(False), "", 0.0,
               beside=f"{len(story.valid)} edits accepted, {len(story.invalid)} refused with the line that is wrong",
               details={"seconds": [edit.took_s for edit in story.edits]}),
    ]  # fmt: skip
    publish("live_edit", figures, disturbed=[disturbed], save=chosen.save)


if __name__ == "__main__":
    main()
