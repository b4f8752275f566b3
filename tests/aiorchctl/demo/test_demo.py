"""The demonstration itself: real processes, a real daemon, and nothing left of them however it ends."""

import json
import os
import signal
import time
from pathlib import Path

import pytest


@pytest.fixture
def elsewhere(program, tmp_path):
    """A program whose temporary files are in a folder of the test's own."""
    folder = tmp_path / "t"
    folder.mkdir()
    program.environment["TMPDIR"] = str(folder)
    return program, folder


def inhabitants(folder: Path) -> list[str]:
    """Processes of a demonstration that lives in a folder: its path is in their environment or command line."""
    found = []
    mark = f"{folder}/aiorch-demo-".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if mark in (process / "environ").read_bytes() or mark in (process / "cmdline").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in found if line]  # a zombie has no command line


def nobody_left(folder: Path) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not inhabitants(folder):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_calls_are_saved_and_answers_are_equal(elsewhere):
    program, folder = elsewhere
    ran = program.run("demo", "--json", "--pages", "12", "--calls", "60", "--limit", "2400")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["ok"] is True
    direct, first, again = (told["rounds"][name] for name in ("direct", "aiorchd", "aiorchd_restarted"))
    assert direct["provider_calls"] == 240
    assert first["provider_received"] == told["distinct_pages"] == 12
    assert first["oracle"] == {"would_save": 228, "saved": 228, "reached": 1.0}
    assert first["how"]["miss"] == 12
    assert first["how"].get("exact", 0) + first["how"].get("coalesced", 0) == 228
    assert first["answers_equal"] == again["answers_equal"] == 240
    assert again["how"] == {"exact": 240}
    assert again["provider_received"] == 0
    assert 0 < first["cost_usd"] < direct["cost_usd"]
    assert first["accounted_usd"] == pytest.approx(first["cost_usd"])  # the daemon's account agrees with the provider's
    assert first["accounted_usd"] + first["saved_usd"] == pytest.approx(direct["cost_usd"])
    assert again["cost_usd"] == 0
    assert "through aiorchd" in ran.err
    assert list(folder.iterdir()) == []
    assert inhabitants(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["reading pages", "directly", "through aiorchd", "after a restart"])
def test_ctrl_c_leaves_nothing(elsewhere, stage):
    program, folder = elsewhere
    sizes = ("--pages", "20", "--calls", "60", "--limit", "6000")
    process = program.start("-m", "aiorchctl", "demo", *sizes, start_new_session=True)
    for line in process.stdout:
        if line.startswith(stage):
            break
    else:
        pytest.fail(process.stderr.read())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the simulator, which shares the group, gets it too
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "\n")
    assert list(folder.iterdir()) == []
    assert nobody_left(folder)


@pytest.mark.slow
def test_being_killed_leaves_no_process(elsewhere):
    program, folder = elsewhere
    process = program.start("-m", "aiorchctl", "demo", "--pages", "20", "--calls", "60", "--limit", "6000")
    for line in process.stdout:
        if line.startswith("through aiorchd"):
            break
    assert any("aiorchd" in line for line in inhabitants(folder))
    process.kill()
    process.communicate(timeout=30)
    assert nobody_left(folder)


@pytest.mark.slow
def test_a_daemon_that_does_not_start_is_told(elsewhere, tmp_path):
    program, folder = elsewhere
    deep = folder / ("d" * 90)
    deep.mkdir()
    program.environment["TMPDIR"] = str(deep)
    ran = program.run("demo", "--pages", "2", "--calls", "1", "--json")
    assert ran.code == 70
    told = json.loads(ran.err[ran.err.index("{") :])  # after the lines of progress
    assert "set TMPDIR to a shorter one" in told["message"]
    assert list(deep.iterdir()) == []
