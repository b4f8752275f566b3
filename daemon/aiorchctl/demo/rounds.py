"""One round of the demonstration: all host processes at once, the provider's counts before and after, what each got."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from aiorchctl.demo.host import Task
from aiorchctl.demo.household import DemoFailed, Household
from aiorchsim.process import Simulator

_LOOK_EVERY_S: Final = 0.2
_START_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a round has come: calls answered, calls the provider took, requests it refused with 429, seconds."""

    answered: int
    provider_calls: int
    refused: int
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of a round. Money, calls and refusals are the simulator's own count; ``accounted_usd`` and ``saved_usd``
    are what the replies said (None where they did not), ``how`` counts them by how they came. ``answers`` holds every
    answer that each page got.
    """

    asked: int
    received: int
    refused: int
    cost_usd: float
    elapsed_s: float
    how: dict[str, int]
    accounted_usd: float | None
    saved_usd: float | None
    wait_p50_s: float
    wait_p95_s: float
    answers: dict[int, list[str]]

    @property
    def provider_calls(self) -> int:
        """Calls that the provider worked on: received and not refused."""
        return self.received - self.refused

    @property
    def saved(self) -> int:
        """Calls that were answered without the provider."""
        return self.asked - self.provider_calls


def play(
    house: Household,
    simulator: Simulator,
    tasks: Sequence[Task],
    *,
    timeout_s: float,
    progress: Callable[[Standing], None],
) -> Round:
    """Let the host processes do their tasks at the same time. Raises `DemoFailed` when one cannot."""
    hosts = [house.start(["-m", "aiorchctl.demo.host", task.to_json()], stdin=subprocess.PIPE) for task in tasks]
    for host in hosts:
        _await_ready(house, host)
    before = simulator.stats()
    began = time.monotonic()
    for host in hosts:
        assert host.stdin is not None
        host.stdin.write(b"go\n")
        host.stdin.flush()
    _watch(house, hosts, simulator, before, began, timeout_s, progress)
    elapsed_s = time.monotonic() - began
    after = simulator.stats()
    rows = [row for task in tasks for row in json.loads(Path(task.answers).read_text(encoding="utf-8"))]
    asked = sum(task.calls for task in tasks)
    if len(rows) != asked:
        raise DemoFailed(f"{asked - len(rows)} of {asked} calls were not answered: {house.said(hosts[0])}")
    received, refused = _counted(before, after)
    return _summed(rows, asked, received, refused, after["cost_usd"] - before["cost_usd"], elapsed_s)


def _await_ready(house: Household, host: subprocess.Popen[bytes]) -> None:
    assert host.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(host.stdout, selectors.EVENT_READ)
        if not selector.select(_START_S):
            raise DemoFailed(f"a host process did not start within {_START_S:g} s: {house.said(host)}")
    if not host.stdout.readline():
        raise DemoFailed(f"a host process did not start: {house.said(host)}")


def _watch(
    house: Household,
    hosts: Sequence[subprocess.Popen[bytes]],
    simulator: Simulator,
    before: dict[str, Any],
    began: float,
    timeout_s: float,
    progress: Callable[[Standing], None],
) -> None:
    """Follow the hosts until all have ended, telling how far they are."""
    answered = dict.fromkeys(range(len(hosts)), 0)
    pending = dict.fromkeys(range(len(hosts)), b"")
    looked = 0.0
    with selectors.DefaultSelector() as selector:
        for number, host in enumerate(hosts):
            assert host.stdout is not None
            selector.register(host.stdout, selectors.EVENT_READ, number)
        while selector.get_map():
            for key, _ in selector.select(_LOOK_EVERY_S):
                number = key.data
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                    if hosts[number].wait(_START_S) != 0 and not pending[number]:
                        raise DemoFailed(f"a host process failed: {house.said(hosts[number])}")
                    continue
                *lines, pending[number] = (pending[number] + chunk).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    answered[number] = message["answered"]
                    if message.get("failure"):
                        raise DemoFailed(f"a call was not answered: {message['failure']}")
            elapsed_s = time.monotonic() - began
            if elapsed_s > timeout_s:
                raise DemoFailed(f"not finished after {timeout_s:g} s; is this machine very busy?")
            if elapsed_s - looked >= _LOOK_EVERY_S or not selector.get_map():
                looked = elapsed_s
                received, refused = _counted(before, simulator.stats())
                progress(Standing(sum(answered.values()), received - refused, refused, elapsed_s))


def _counted(before: dict[str, Any], after: dict[str, Any]) -> tuple[int, int]:
    """Take the requests that the simulator received and those it refused between two looks."""
    received, refused = (after["calls"][name] - before["calls"][name] for name in ("received", "rate_limited"))
    return received, refused


def _summed(
    rows: list[dict[str, Any]], asked: int, received: int, refused: int, cost_usd: float, elapsed_s: float
) -> Round:
    waits = sorted(row["seconds"] for row in rows)
    twentieths = quantiles(waits, n=20, method="inclusive")
    answers: dict[int, list[str]] = {}
    for row in rows:
        answers.setdefault(row["page"], []).append(row["told"]["text"])
    return Round(
        asked=asked,
        received=received,
        refused=refused,
        cost_usd=cost_usd,
        elapsed_s=elapsed_s,
        how=dict(Counter(row["told"]["how"] for row in rows)),
        accounted_usd=_sum([row["told"]["cost_usd"] for row in rows]),
        saved_usd=_sum([row["told"]["saved_usd"] for row in rows]),
        wait_p50_s=twentieths[9],
        wait_p95_s=twentieths[18],
        answers=answers,
    )


def _sum(amounts: list[float | None]) -> float | None:
    """Add up money; unknown when any part of it is."""
    known = [usd for usd in amounts if usd is not None]
    return sum(known) if len(known) == len(amounts) else None
