"""Damages 300 files of a state directory and starts a daemon on each.

    python benchmarks/damaged_files.py [--save] [--quick]

Flipped bits, cut short, zeroed and exchanged pages, garbage, a stranger's database, a newer schema, lost tables; of each of
the three files and their write-ahead logs with their index, as `kill -9` left them. Every daemon is a process of its own,
asked for what was kept and for something new, and started once more when something was put aside. A disposable file must
not keep it from serving; the ledger is used whole or refused, in one sentence, with exit code 78, and nothing is touched.
"""

import contextlib
import tempfile
from pathlib import Path

import trio
from rig.figures import Figure, options, publish
from rig.meters import Disturbance
from rig.scene import daemon, start_simulator
from rig.trials import Damaged, configuration, damaged_trials, make_state, start_on_each


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    todo = damaged_trials(48 if chosen.quick else 300)
    story = Damaged()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        simulator = stack.enter_context(start_simulator("[[models]]\nlatency_s = 0.001\n"))
        config = configuration(simulator.base_url)
        (folder / "first").mkdir()
        watch = Disturbance([simulator.pid])

        async def all_of_it() -> None:
            with daemon(folder / "first", config, start=False) as first:
                made = await make_state(first, folder, 60)
            await start_on_each(folder, config, made, todo, story)

        trio.run(all_of_it)
        disturbed = watch.share()
    for wrong in story.wrong[:10]:
        print(wrong)
    ledgers = sum(trial.file == "ledger.db" for trial in todo)
    figures = [
        Figure(f"{len(todo)} damaged files: an empty or changed ledger, a wrong answer, a file not kept, a start that fails "
               "again, an end without one clear sentence", len(story.wrong), "", 0.0,
               beside=f"{story.served} served, {story.put_aside} of them with the damaged file put aside; {story.refused} "
               f"refused with 78; {ledgers} were of the ledger; {story.found:,} of {story.looked_for:,} kept answers were "
               "found again, all right",
               details={"outcomes": dict(sorted(story.outcomes.items()))}),
        Figure("the same: start to first answer, at worst", story.slowest_start_s, "s",
               beside=f"two at once; start to refusal {story.slowest_end_s:.2f} s at worst"),
    ]  # fmt: skip
    publish("damaged_files", figures, disturbed=[disturbed], save=chosen.save)


if __name__ == "__main__":
    main()
