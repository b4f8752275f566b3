"""Figures with their bars: printed, kept as JSON beside the scripts, and put together in docs/figures.md."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from rig import ROOT

RESULTS: Final = ROOT / "benchmarks" / "results"


@dataclass
class Figure:
    """One claim: what was reached, and the bar (None: shown only)."""

    claim: str
    reached: float
    unit: str
    bar: float | None = None
    at_least: bool = False
    beside: str = ""
    """Rivals of the same run, CPU, memory: a phrase for the table."""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """reached, missed, or nothing without a bar."""
        if self.bar is None:
            return ""
        return "reached" if (self.reached >= self.bar if self.at_least else self.reached <= self.bar) else "MISSED"

    def row(self) -> str:
        """A row of the table."""
        sign = "at least" if self.at_least else "at most"
        bar = "" if self.bar is None else f"{sign} {shown(self.bar)} {self.unit}".rstrip()
        reached = f"{shown(self.reached)} {self.unit}".rstrip()
        return f"| {self.claim} | {bar} | {reached} | {self.verdict} | {self.beside} |"


HEAD: Final = "| what | bar | reached | verdict | beside |\n| --- | --- | --- | --- | --- |"


def shown(number: float) -> str:
    """Three digits that mean something."""
    if number == int(number) and abs(number) < 1000:
        return str(int(number))
    if abs(number) < 10:
        return f"{number:.3g}"
    if abs(number) < 100:
        return f"{number:.1f}"
    return f"{number:,.0f}".replace(",", " ")


def options(summary: str, *adders: Any) -> argparse.Namespace:
    """Parse what every script takes, and what each of ``adders`` adds."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds: to see that it works, not to quote"
    )
    for adder in adders:
        adder(parser)
    return parser.parse_args()


def publish(name: str, figures: list[Figure], *, disturbed: list[float], save: bool) -> None:
    """Print the figures, and keep them if asked to."""
    worst = max(disturbed, default=0.0)
    middle = sorted(disturbed)[len(disturbed) // 2] if disturbed else 0.0
    print(f"\n{name} (others took {middle:.0%} of one CPU, at worst {worst:.0%})\n\n{HEAD}")
    for figure in figures:
        print(figure.row())
    if save:
        RESULTS.mkdir(exist_ok=True)
        document = {
            "name": name,
            "machine": machine(),
            "load_average": os.getloadavg()[0],
            "disturbed_median": round(middle, 3),
            "disturbed_worst": round(worst, 3),
            "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in figures],
        }
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(document, indent=1, default=_rounded) + "\n", encoding="utf-8")


def read(name: str) -> tuple[dict[str, Any], list[Figure]] | None:
    """Read what a script kept."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    figures = [
        Figure(**{key: value for key, value in each.items() if key != "verdict"}) for each in document["figures"]
    ]
    return document, figures


def machine() -> dict[str, Any]:
    """Describe where this runs."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "virtual": virtual,
        "memory_gb": round(memory_kb / 1024 / 1024, 1),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        # Distributions build it with profile-guided optimisation; what is compiled by hand is often up to a quarter slower.
        "python_build": "the distribution's" if sys.base_prefix == "/usr" else "built by hand",
        "libraries": {name: _version(name) for name in ("trio", "msgpack", "h11", "httpx2", "httpx", "redis")},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _rounded(value: Any) -> Any:
    return str(value)
