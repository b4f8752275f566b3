"""Runs every benchmark and puts their figures in one table: printed, and written to docs/figures.md.

    python benchmarks/run.py [--quick] [--only NAME,NAME] [--table-only] [--when 2025-11]

About ten minutes on a quiet machine. Each script also runs alone. With --quick nothing is kept: such figures are not to be
quoted. --table-only writes docs/figures.md from what was kept before.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from rig import ROOT
from rig.figures import HEAD, read

SCRIPTS = (
    "hit_latency",
    "hit_throughput",
    "memory_tier",
    "savings",
    "batch_models",
    "semantic",
    "miss_open_loop",
    "miss_closed_loop",
    "start_and_size",
    "live_edit",
    "edits",
    "kill9",
    "budget",
    "failure",
    "overload",
    "full_disk",
    "damaged_files",
    "malformed_frames",
)
LONG = ("soak", "pacing", "million_entries", "semantic_orders")
"""Run only when named by --only; their figures are in the table all the same."""
PAGE = ROOT / "docs" / "figures.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="to see that all works; nothing is kept")
    parser.add_argument("--only", default="", help="names of scripts, comma-separated")
    parser.add_argument("--table-only", action="store_true", help="write the table from what was kept before")
    parser.add_argument("--when", default="", help="put into the page, if given")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else SCRIPTS
    wanted = [name for name in (*SCRIPTS, *LONG) if name in only]
    failed = []
    for name in () if options.table_only else wanted:
        script = Path(__file__).with_name(f"{name}.py")
        done = subprocess.run([sys.executable, str(script), "--quick" if options.quick else "--save"], check=False)
        if done.returncode:
            failed.append(name)
    if not options.quick:
        page = _page(options.when)
        PAGE.write_text(page, encoding="utf-8")
        print(f"\n{page}\n{PAGE.relative_to(ROOT)} was written")
    for name in failed:
        print(f"{name} failed")
    return 1 if failed else 0


def _page(when: str) -> str:
    rows, disturbed = [], []
    machines: dict[str, list[str]] = {}
    libraries: dict[str, None] = {}  # in order
    for name in (*SCRIPTS, *LONG):
        kept = read(name)
        if kept is None:
            rows.append(f"| {name} was not run | | | | |")
            continue
        document, figures = kept
        machines.setdefault(_told(document["machine"]), []).append(name)
        versions = document["machine"]["libraries"].items()
        libraries |= dict.fromkeys(f"{library} {version}" for library, version in versions if version)
        disturbed.append(f"{name} {document['disturbed_median']:.0%}")
        rows += [figure.row() for figure in figures]
    usual = max(machines, key=lambda told: len(machines[told]), default="no machine yet")
    others = "".join(f"; {', '.join(names)} on {told}" for told, names in machines.items() if told != usual)
    return f"""<!-- Written by benchmarks/run.py; do not edit. -->
# Figures

Measured{" " + when if when else ""} on {usual}{others}. {", ".join(libraries)}.

{HEAD}
{chr(10).join(rows)}

How: the daemon has a CPU of its own, its callers and the simulated provider the other, except for the first rows, where
daemon and caller share one. Rivals take turns within one run, round by round; figures are medians over rounds, ratios are
medians of the ratios within a round; a round that other processes disturbed is tried again. What other processes still took
of one CPU (median): {", ".join(disturbed) or "unknown"}. Every answer is checked, by its text and its id. Each row is made by
the script of its part in `benchmarks/`, whose first lines say exactly what is measured; all rounds are in
`benchmarks/results/`. HTTP clients compared: [transport.md](transport.md).
"""


def _told(machine: dict) -> str:
    kind = "a virtual machine" if machine["virtual"] else "a machine"
    return (
        f"{kind} with {machine['cpus']} CPUs ({machine['cpu']}), {machine['memory_gb']} GB, Linux {machine['kernel']}, "
        f"Python {machine['python']} ({machine.get('python_build', 'build unknown')})"
    )


if __name__ == "__main__":
    sys.exit(main())
