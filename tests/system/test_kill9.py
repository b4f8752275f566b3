"""A daemon killed without warning leaves whole files, and its successor knows what was answered a second before."""

from __future__ import annotations

from pathlib import Path

from killing import FILES, kill_under_load
from live_editing import configuration
from processes import DaemonProcess

from aiorchsim.process import start_simulator


async def test_kill_under_load_and_restart(tmp_path: Path) -> None:
    with start_simulator("[[models]]\nlatency_s = 0.02\n") as simulator:
        daemon = DaemonProcess(tmp_path, configuration(simulator.base_url), (), {})
        try:
            story = await kill_under_load(
                daemon, tmp_path / "copies", kills=2, callers=8, load_s=lambda chance: 1.3 + chance.random() / 5
            )
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
    assert story.wrong == []
    whole = dict.fromkeys(FILES, "ok")
    assert story.integrity == whole
    for kill in story.kills:
        assert kill.integrity == whole, kill
        assert kill.in_flight > 0, kill  # it was killed under load
        assert kill.found == kill.due > 5, kill
    assert story.kills[1].due > story.kills[0].due  # what the first life answered outlived both
