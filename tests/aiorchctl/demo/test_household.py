"""Whatever way the demonstration is left, nothing runs on and nothing is left on disk."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiorchctl.demo.household import DemoFailed, Household

SLEEP = ["-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    "-c",
    (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    ),
]


def gone(pid: int) -> bool:
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_everything_ends_with_the_block():
    with Household() as house:
        folder = house.folder
        simulator = house.start_simulator("")
        process = house.start(SLEEP)
        assert process.stdout.readline() == b"up\n"
        assert folder.stat().st_mode & 0o777 == 0o700
    assert process.returncode == -signal.SIGTERM
    assert gone(simulator.pid)
    assert not folder.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, DemoFailed, SystemExit])
def test_also_when_it_is_left_by_an_error(error):
    with pytest.raises(error), Household() as house:
        folder = house.folder
        process = house.start(SLEEP)
        raise error
    assert process.returncode is not None
    assert not folder.exists()


def test_who_does_not_listen_is_killed_with_its_children(monkeypatch):
    monkeypatch.setattr("aiorchctl.demo.household._ENDING_S", 0.3)
    with Household() as house:
        process = house.start(STUBBORN)
        child = int(process.stdout.readline())
    assert process.returncode == -signal.SIGKILL
    assert gone(child)


def test_terminating_is_an_interruption_and_the_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        with pytest.raises(KeyboardInterrupt), Household() as house:
            os.kill(os.getpid(), number)
            time.sleep(10)
        assert not house.folder.exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_what_a_process_said_is_told():
    with Household() as house:
        process = house.start(["-c", "import sys; sys.exit('no luck')"])
        process.wait(30)
        assert house.said(process) == "no luck"
        quiet = house.start(["-c", ""])
        quiet.wait(30)
        assert house.said(quiet) == "it said nothing"


def test_stopping_in_order():
    with Household() as house:
        fine = house.start(
            [
                "-c",
                "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('up', flush=True)\nsignal.pause()",
            ]
        )
        assert fine.stdout.readline() == b"up\n"
        house.stop(fine, timeout_s=30)
        bad = house.start(
            [
                "-c",
                "import signal, sys\nsignal.signal(15, lambda *_: sys.exit('oh'))\nprint('up', flush=True)\nsignal.pause()",
            ]
        )
        assert bad.stdout.readline() == b"up\n"
        with pytest.raises(DemoFailed, match="ended with code 1: oh"):
            house.stop(bad, timeout_s=30)
        stubborn = house.start(STUBBORN)
        stubborn.stdout.readline()
        with pytest.raises(DemoFailed, match=r"did not end within 0\.1 s"):
            house.stop(stubborn, timeout_s=0.1)
        house._processes.remove(stubborn)
        os.killpg(stubborn.pid, signal.SIGKILL)
        stubborn.wait()
        stubborn.stdout.close()


def test_a_folder_too_deep_for_a_socket_is_told(monkeypatch, tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with Household() as house, pytest.raises(DemoFailed, match="set TMPDIR to a shorter one"):
        house.start_daemon("", timeout_s=1)


def test_a_tethered_program_dies_with_its_parent():
    tethered = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    parent = (
        "import os, subprocess, sys, time\n"
        "tether = [sys.executable, '-m', 'aiorchctl.demo.tether', str(os.getpid()), '15']\n"
        f"subprocess.Popen([*tether, sys.executable, '-c', {tethered!r}])\n"
        "time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, env=environment)
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    assert gone(child)


def test_a_tether_to_a_parent_that_is_gone_ends_at_once():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "aiorchctl.demo.tether", "1", "15", sys.executable, "-c", "print('ran')"]
    ran = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (69, b"")
