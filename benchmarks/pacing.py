"""Pacing: how much of what a provider allows is used, and how often it has to refuse.

    python benchmarks/pacing.py [--save] [--quick] [--only NAME,NAME] [--seeds N]

600 requests a minute as a token bucket with 10 s of burst, answers of 200 ms, nothing configured, 8 host processes that together
want three times as much, one minute to settle, three measured (--quick: 20 s and 30 s). The simulator is the witness: used
share and refusals are its own counts. Rivals in the same run, straight at a provider of their own with the same limits: plain
httpx2 with jittered backoff, and the openai SDK with the retries it comes with. All of this takes little CPU and its times are
long, so scenarios run side by side, four at once.

greedy: one user wants a hundred times what three others want; callers are told apart by uid, so the host processes run under
different ones (needs root; else it is left out). Jain's index is over what each got as a share of its max-min fair part.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rig.figures import Figure, options, publish
from rig.meters import Disturbance, quantile
from rig.scene import configuration, daemon, start_simulator

WANTING = Path(__file__).with_name("rig") / "wanting.py"
PER_MINUTE, LATENCY_S, HOSTS, DEMAND = 600, 0.2, 8, 3.0
TOKENS_PER_MINUTE, MEAN_TOKENS = 600_000, 1220
AT_ONCE = 4


class Run:
    """One provider with limits, its daemon if any, and the host processes that want something of it."""

    def __init__(self, *, seed: int, quick: bool, telling: str, tokens: bool = False) -> None:
        self.seed, self.tokens = seed, tokens
        self.settle_s, self.measure_s = (20.0, 30.0) if quick else (60.0, 180.0)
        self.per_minute = TOKENS_PER_MINUTE if tokens else PER_MINUTE
        limit = "tokens_per_minute" if tokens else "requests_per_minute"
        self.profile = (
            f'[sim]\nrate_limit_headers = "{telling}"\nseed = {seed}\n[[models]]\nlatency_s = {LATENCY_S}\n'
            f"{limit} = {self.per_minute}\nburst_s = 10\n"
        )

    @contextmanager
    def scene(self, *, through: bool) -> Iterator[tuple[Any, str]]:
        """Start provider and daemon; gives the simulator and where to ask."""
        with tempfile.TemporaryDirectory(prefix="aiorch-bench-") as name, start_simulator(self.profile) as simulator:
            if not through:
                yield simulator, simulator.base_url
                return
            folder = Path(name)
            folder.chmod(0o755)
            config = configuration(simulator.base_url, permits=10).replace("max = 10\n", "")
            config = config.partition("[concurrency]")[0]
            with daemon(folder, config) as running:
                Path(running.socket).chmod(0o666)
                yield simulator, str(running.socket)
                running.stop()

    def hosts(
        self, way: str, where: str, rates: list[float], seconds: float, uids: list[int] | None = None
    ) -> list[Any]:
        """Start the host processes."""
        started = []
        for index, rate in enumerate(rates):
            command = [sys.executable, str(WANTING), way, where, str(rate), str(seconds)]
            command += [str(self.seed * 10_000_000 + index * 1_000_000)]
            command += ["--tokens"] * self.tokens
            command += [] if uids is None else ["--uid", str(uids[index])]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started

    @property
    def wanted_per_s(self) -> float:
        """Three times as much as is allowed."""
        return DEMAND * self.per_minute / 60 / (MEAN_TOKENS if self.tokens else 1)

    def counts(self, simulator: Any) -> dict[str, float]:
        """Read the witness."""
        told = simulator.stats()
        used = sum(told["tokens"].values()) if self.tokens else told["calls"]["answered"] + told["calls"]["in_flight"]
        return {"at": time.monotonic(), "used": used, "refused": told["calls"]["rate_limited"],
                "received": told["calls"]["received"]}  # fmt: skip

    def steady(self, way: str) -> dict[str, Any]:
        """Let them want for the whole time; the share used and the share refused while it was measured."""
        with self.scene(through=way == "aiorch") as (simulator, where):
            total_s = self.settle_s + self.measure_s + 3.0
            hosts = self.hosts(way, where, [self.wanted_per_s / HOSTS] * HOSTS, total_s)
            time.sleep(self.settle_s)
            before = self.counts(simulator)
            time.sleep(self.measure_s)
            after = self.counts(simulator)
            said = ended(hosts)
        spent = {name: after[name] - before[name] for name in after}
        errors: dict[str, int] = {}
        for each in said:
            for code, number in each["errors"].items():
                errors[code] = errors.get(code, 0) + number
        return {
            "used": spent["used"] / (self.per_minute / 60 * spent["at"]),
            "refused": spent["refused"] / max(1.0, spent["received"]),
            "failed": errors,
            "seed": self.seed,
        }

    def changing(self, telling: str) -> dict[str, Any]:
        """The limit halves after settling, and doubles back; when 90 % of the new limit was reached, and refusals over all."""
        stretch_s = 100.0 if self.measure_s > 100 else 60.0
        rows = []
        with self.scene(through=True) as (simulator, where):
            hosts = self.hosts("aiorch", where, [self.wanted_per_s / HOSTS] * HOSTS, self.settle_s + 2 * stretch_s + 5)
            time.sleep(self.settle_s)
            for limit in (PER_MINUTE // 2, PER_MINUTE):
                simulator.set_limits(requests_per_minute=limit)
                began, before = time.monotonic(), self.counts(simulator)
                seen = [before]
                while time.monotonic() < began + stretch_s:
                    time.sleep(5.0)
                    seen.append(self.counts(simulator))
                rows.append((limit, seen))
            last = self.counts(simulator)
            ended(hosts)
        reached = [reached_after(limit, seen) for limit, seen in rows]
        return {"halved_s": reached[0], "doubled_s": reached[1], "refused": last["refused"] / last["received"],
                "telling": telling, "seed": self.seed}  # fmt: skip

    def greedy(self) -> dict[str, Any]:
        """One user wants a hundred times what each of three others wants; first the three alone."""
        modest, uids = 0.25, [50_001, 50_002, 50_003, 50_000]
        found: dict[str, Any] = {"seed": self.seed}
        for name, rates in (("alone", [modest] * 3), ("beside", [modest] * 3 + [100 * modest])):
            with self.scene(through=True) as (_, where):
                hosts = self.hosts("aiorch", where, rates, self.settle_s + self.measure_s, uids[: len(rates)])
                said = ended(hosts)
            measured = [[latency for at, latency in each["answers"] if at >= self.settle_s] for each in said]
            three = sorted(latency for each in measured[:3] for latency in each)
            found[name] = {"p50_s": statistics.median(three), "p95_s": quantile(three, 0.95)}
            got = [len(each) / self.measure_s for each in measured]
        wanted = [modest] * 3 + [100 * modest]
        fair = max_min(wanted, PER_MINUTE / 60)
        shares = [min(1.5, mine / part) for mine, part in zip(got, fair, strict=True)]
        found["jain"] = sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
        found["latency_ratio"] = found["beside"]["p50_s"] / found["alone"]["p50_s"]
        found["latency_ratio_p95"] = found["beside"]["p95_s"] / found["alone"]["p95_s"]
        found["got_per_s"] = got
        return found


def ended(hosts: list[Any]) -> list[dict[str, Any]]:
    """Wait for host processes and read what they saw."""
    said = []
    for host in hosts:
        out, _ = host.communicate(timeout=600)
        assert host.returncode == 0, f"a host process failed: {out}"
        said.append(json.loads(out.splitlines()[-1]))
    return said


def reached_after(limit: int, seen: list[dict[str, float]]) -> float:
    """Seconds until ten seconds on end used 90 % of the limit; infinity when never."""
    for first, last in zip(seen, seen[2:], strict=False):
        rate = (last["used"] - first["used"]) / (last["at"] - first["at"])
        if 0.9 * limit / 60 <= rate <= 1.3 * limit / 60:
            return max(0.0, first["at"] - seen[0]["at"])
    return float("inf")


def max_min(wanted: list[float], allowed: float) -> list[float]:
    """What each would get if nobody could get more without one who has less getting less (max-min fairness)."""
    parts = [0.0] * len(wanted)
    open_ones = sorted(range(len(wanted)), key=lambda index: wanted[index])
    while open_ones:
        even = allowed / len(open_ones)
        index = open_ones.pop(0)
        parts[index] = min(wanted[index], even)
        allowed -= parts[index]
    return parts


def scenarios(quick: bool, seeds: int) -> dict[str, list[Callable[[], dict[str, Any]]]]:
    """Name everything that is run."""

    def steady(
        way: str, telling: str, *, tokens: bool = False, seeds: int = seeds
    ) -> list[Callable[[], dict[str, Any]]]:
        return [
            lambda seed=seed: Run(seed=seed, quick=quick, telling=telling, tokens=tokens).steady(way)
            for seed in range(1, seeds + 1)
        ]

    def changing(telling: str) -> list[Callable[[], dict[str, Any]]]:
        return [
            lambda seed=seed: Run(seed=seed, quick=quick, telling=telling).changing(telling)
            for seed in range(1, seeds + 1)
        ]

    named = {
        "full": steady("aiorch", "full"),
        "retry_after": steady("aiorch", "retry_after"),
        "none": steady("aiorch", "none"),
        "tokens": steady("aiorch", "full", tokens=True),
        "change_full": changing("full"),
        "change_none": changing("none"),
        "httpx2": steady("httpx2", "full", seeds=1),
        "openai": steady("openai", "full", seeds=1),
    }
    if os.geteuid() == 0:
        named["greedy"] = [
            lambda seed=seed: Run(seed=seed, quick=quick, telling="full").greedy() for seed in range(1, seeds + 1)
        ]
    return named


def figures_of(results: dict[str, list[dict[str, Any]]]) -> list[Figure]:
    """Put them against their bars: the worst of all seeds counts."""
    figures = []
    beside = "; ".join(
        f"{way}: {100 * results[way][0]['used']:.1f} % used, {100 * results[way][0]['refused']:.1f} % refused"
        for way in ("httpx2", "openai")
        if way in results
    )
    for name, what, used, refused in (
        ("full", "the provider sends full rate-limit headers", 97, 0.5),
        ("retry_after", "it sends only retry-after", 95, 2),
        ("none", "it sends no hint at all", 90, 5),
        ("tokens", "tokens a minute, prompts of 50 to 8 000 tokens, full headers", 95, 1),
    ):
        if name in results:
            rows = results[name]
            figures += [
                Figure(f"{what}: of the allowed used", 100 * min(row["used"] for row in rows), "%", used, at_least=True,
                       beside=beside if name == "full" else "", details={"rows": rows}),
                Figure(f"{what}: answered 429", 100 * max(row["refused"] for row in rows), "%", refused),
            ]  # fmt: skip
    for name, what, bar in (("change_full", "with headers", 30), ("change_none", "with none", 90)):
        if name in results:
            rows = results[name]
            figures += [
                Figure(f"the limit halves, {what}: at 90 % of it after", max(row["halved_s"] for row in rows), "s", bar,
                       details={"rows": rows}),
                Figure(f"it doubles back, {what}: at 90 % of it after", max(row["doubled_s"] for row in rows), "s", bar),
                Figure(f"the same: answered 429 over the run, {what}", 100 * max(row["refused"] for row in rows), "%", 3),
            ]  # fmt: skip
    if "greedy" in results:
        rows = results["greedy"]
        ratio_p95 = max(row["latency_ratio_p95"] for row in rows)
        figures += [
            Figure("one user sends 100 times what three others send: their latency over that alone, p50",
                   max(row["latency_ratio"] for row in rows), "times", 2, beside=f"p95 {ratio_p95:.2f} times",
                   details={"rows": rows}),
            Figure("the same: Jain's index", min(row["jain"] for row in rows), "", 0.95, at_least=True),
        ]  # fmt: skip
    return figures


def main() -> None:
    chosen = options(
        __doc__.splitlines()[0],
        lambda parser: parser.add_argument("--only", default="", help="names of scenarios, comma-separated"),
        lambda parser: parser.add_argument("--seeds", type=int, default=3, help="how often each of ours is run"),
    )
    named = scenarios(chosen.quick, 1 if chosen.quick else chosen.seeds)
    only = chosen.only.split(",") if chosen.only else list(named)
    unknown = [name for name in only if name not in named]
    if unknown:
        sys.exit(f"there is no scenario {unknown[0]}; there are {', '.join(named)}")
    watch = Disturbance([])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {name: [pool.submit(each) for each in named[name]] for name in named if name in only}
        results = {}
        for name, each in running.items():
            results[name] = [one.result() for one in each]
            for row in results[name]:
                print(name, json.dumps(row), flush=True)
    publish("pacing", figures_of(results), disturbed=[watch.share()], save=chosen.save)


if __name__ == "__main__":
    main()
