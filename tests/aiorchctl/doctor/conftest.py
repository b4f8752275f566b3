"""Real daemons to be looked at, and what `aiorchctl doctor --json` says of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctoring import SIMULATED, Doctor, Looked
from processes import DaemonProcess, daemon

from aiorchctl.program import run as run_program


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that names no place of aiorch's but an empty home and an empty state directory."""
    for name in list(os.environ):
        if name.startswith(("AIORCH", "XDG_")) or name in ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "MAIN_KEY"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "no-state"))
    return tmp_path


@pytest.fixture
def doctor(bare: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Ask the doctor, as a program would; every warning and failure must come with its remedy."""

    def ask(socket: Path | str, *arguments: str) -> Looked:
        capsys.readouterr()
        code = run_program(["doctor", "--json", "--socket", str(socket), *arguments])
        told = json.loads(capsys.readouterr().out)
        assert told["exit_code"] == code
        for one in told["checks"]:
            assert one["sentence"]
            if one["result"] in ("warning", "failed"):
                assert one["remedy"], f"no remedy for: {one['sentence']}"
        return Looked(code, told["result"], told["checks"])

    return ask


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon with a simulated provider in its configuration."""
    with daemon(tmp_path, SIMULATED) as running:
        yield running
