"""A house in order: all is well, nothing is changed by looking, and a person can read it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doctoring import KEYED, Doctor
from processes import DaemonProcess, daemon

from aiorchctl.doctor.finding import failed, not_checked, ok, verdict, warning
from aiorchsim.process import start_simulator

PROFILE = """
[sim]
api_keys = ["sk-right-0123456789"]
[[models]]
name = "small"
latency_s = 0.0
"""


def test_all_is_well(tmp_path: Path, doctor: Doctor) -> None:
    environment = {"MAIN_KEY": "sk-right-0123456789"}
    with start_simulator(PROFILE) as simulator:
        config = KEYED.format(base_url=simulator.base_url)
        with daemon(tmp_path, config, environment=environment) as running:
            looked = doctor(running.socket)
    assert looked.troubles == []
    assert (looked.code, looked.result) == (0, "ok")
    assert [(one["check"], one["subject"]) for one in looked.checks] == [
        ("socket", None),
        ("permissions", None),
        ("configuration", None),
        ("state", None),
        ("state", "cache.db"),
        ("state", "metrics.db"),
        ("state", "ledger.db"),
        ("provider", "main"),
        ("key", "main"),
        ("clock", None),
        ("versions", None),
        ("descriptors", None),
    ]
    assert looked.of("socket")["sentence"].startswith(f"{running.socket} (by --socket) answers in ")
    assert looked.of("key", "main")["sentence"] == "the one from environment variable MAIN_KEY is taken"
    assert "sk-right" not in json.dumps(looked.checks)


def test_looking_changes_nothing(simulated: DaemonProcess, doctor: Doctor) -> None:
    def files() -> dict[str, tuple[int, int]]:
        return {path.name: (path.stat().st_mode, path.stat().st_uid) for path in simulated.folder.rglob("*")}

    before = files()
    assert doctor(simulated.socket).code == 0
    assert files() == before


def test_as_a_person_sees_it(simulated: DaemonProcess, bare: Path, ctl: Callable[..., Any]) -> None:
    ran = ctl("doctor", "--socket", str(simulated.socket))
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith("socket ")
    assert all(": " in line for line in lines[:-2])
    assert lines[-1] == "11 checks: all is well"
    simulated.state.chmod(0o755)
    ran = ctl("doctor", "--socket", str(simulated.socket))
    assert ran.code == 0  # a warning is no failure
    assert f"> chmod 0700 {simulated.state}; the daemon does so when it starts." in ran.out
    assert ran.out.splitlines()[-1] == "11 checks: 1 to look at"


def test_a_time_limit_out_of_bounds(ctl: Callable[..., Any]) -> None:
    ran = ctl("doctor", "--timeout", "2m")
    assert (ran.code, ran.err) == (64, "aiorchctl: --timeout: at most 60 s; see `aiorchctl doctor --help`\n")


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([], ("ok", 0)),
        ([ok("a", "x"), not_checked("b", "x")], ("not_checked", 0)),
        ([warning("a", "x", "y"), not_checked("b", "x")], ("warning", 0)),
        ([failed("a", "x", "y", os.EX_CONFIG), failed("b", "x", "y", os.EX_UNAVAILABLE)], ("failed", os.EX_CONFIG)),
    ],
)
def test_the_verdict_is_the_gravest_and_the_code_that_of_the_first_failure(findings: Any, expected: Any) -> None:
    assert verdict(findings) == expected
