"""Edits the TOML 200 times at 20 a second with 100 calls in flight, half of the edits spoiled, and judges every verdict.

    python benchmarks/edits.py [--save] [--quick]

Files are saved in place, in pieces, by rename, by swapping a symbolic link, deleted and made anew, and as vim does, faster
than the watch's tenth of a second of stillness. Once each edit is followed by `config.reload`, which must say "refused"
with the line that is wrong, or put it in force; once by nothing, so that the watch alone must notice: it may pass over
what was there for a moment, nothing that was spoiled may come into force, and the last one must. Every caller asks anew
when it is answered (provider of half a second to a second), each question for the first time.
"""

import contextlib
import tempfile
from pathlib import Path

import trio
from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, Disturbance, pinned
from rig.scene import daemon, start_simulator
from rig.trials import Rapid, configuration, edit_rapidly

CALLERS = 100
PROFILE = "[[models]]\nlatency_s = 0.5\nlatency_jitter_s = 0.5\n"


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    edits = 40 if chosen.quick else 200
    disturbed: list[float] = []
    asked, watched = (_edited(edits, reload, disturbed) for reload in (True, False))
    for line in (*asked.failures[:5], *watched.failures[:5], *asked.misjudged[:5], *watched.misjudged[:5]):
        print(line)
    figures = [
        Figure(f"{edits} edits at 20 a second, half of them spoiled, {CALLERS} calls in flight: failed calls",
               len(asked.failures) + len(watched.failures), "", 0.0,
               beside=f"of {asked.asked + watched.asked:,}, in two runs; at least {min(asked.in_flight + watched.in_flight)} "
               f"in flight at every edit; edits took {asked.seconds:.1f} and {watched.seconds:.1f} s; "
               f"{', '.join(f'{count} {way}' for way, count in asked.edits.items())}"),
        Figure("the same, each followed by `config.reload`: wrong verdicts, or the wrong one in force", len(asked.misjudged),
               "", 0.0, beside=f"of {edits}; {_told(asked)}, the watch's own verdicts among them"),
        Figure("the same, followed by nothing: moments at which a spoiled one was in force", len(watched.misjudged), "", 0.0,
               beside=f"of {edits} looks; {_told(watched)}, all by the watch"),
        Figure("the same: the last one is live after", watched.last_live_s, "s", 1.0,
               beside=f"by the watch; {asked.last_live_s:.2f} s by `config.reload`"),
    ]  # fmt: skip
    publish("edits", figures, disturbed=disturbed, save=chosen.save)


def _edited(edits: int, reload: bool, disturbed: list[float]) -> Rapid:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator(PROFILE))
        with pinned(UNDER_TEST):
            running = stack.enter_context(daemon(folder, configuration(simulator.base_url)))
        watch = Disturbance([running.pid, simulator.pid])
        with pinned(LOAD):
            story = trio.run(
                lambda: edit_rapidly(
                    running, simulator.base_url, edits=edits, edits_per_s=20, callers=CALLERS, reload=reload
                )
            )
        disturbed.append(watch.share())
        assert running.stop() == 0, running.said()
    return story


def _told(story: Rapid) -> str:
    return f"{story.verdicts['accepted']} accepted, {story.verdicts['refused']} refused"


if __name__ == "__main__":
    main()
