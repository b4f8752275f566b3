"""The configuration is edited under load: no call is lost, every verdict is told, what was good stays in force."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_editing import configuration, edit_under_load
from processes import daemon
from rapid_editing import WAYS, edit_rapidly

from aiorchsim.process import start_simulator


async def test_edits_under_load_lose_no_call(tmp_path: Path) -> None:
    with (
        start_simulator("[[models]]\nlatency_s = 0.05\n") as simulator,
        daemon(tmp_path, configuration(simulator.base_url)) as running,
    ):
        story = await edit_under_load(
            running, simulator.base_url, calls_per_s=50, edits=12, every_invalid=4, pause_s=0.0
        )
        assert running.process is not None
        assert running.process.poll() is None, running.said()
    assert story.failures == []
    assert story.asked == story.answered > 50
    assert story.hits > 0
    assert len(story.valid) == 10  # of 12, the 4th and 8th are spoiled; the 12th is not, because it is the last
    assert len(story.invalid) == 2
    for edit in story.valid:
        assert edit.verdict["result"] == "accepted", edit
        assert edit.took_s < 5.0, edit  # within a second on a machine of its own; benchmarks/live_edit.py measures that
    for edit in story.invalid:
        # The verdict names file and place, and the generation in force is the one before.
        assert edit.verdict["problems"], edit
        assert edit.verdict["generation"] == 1 + sum(earlier.number < edit.number for earlier in story.valid), edit
    config = story.status["config"]
    assert config["verdict"]["result"] == "accepted"
    assert config["verdicts"]["accepted"] == 10
    assert config["verdicts"]["refused"] >= 2
    assert story.status["health"] == "ok"
    assert story.status["generation"] == 11
    assert {model["name"] for model in story.status["models"]} == {"small", "edit-12"}
    stages = story.status["stages"]
    assert stages["observe"]["inside"] == 0, stages


@pytest.mark.parametrize("reload", [True, False], ids=["asked", "watched"])
async def test_edits_faster_than_a_file_keeps_still(tmp_path: Path, reload: bool) -> None:
    with (
        start_simulator("[[models]]\nlatency_s = 0.2\nlatency_jitter_s = 0.2\n") as simulator,
        daemon(tmp_path, configuration(simulator.base_url)) as running,
    ):
        story = await edit_rapidly(running, simulator.base_url, edits=36, edits_per_s=20, callers=30, reload=reload)
        assert running.process is not None
        assert running.process.poll() is None, running.said()
    assert (story.failures, story.misjudged) == ([], [])
    assert story.asked == story.answered > 60
    assert set(story.edits.values()) == {36 // len(WAYS)}
    assert min(story.in_flight) >= 28  # a caller may just now be handed its answer
    assert story.last_live_s < 5.0  # within a second on a machine of its own; benchmarks/edits.py measures that
    if reload:
        assert story.verdicts["refused"] >= 10
        assert story.verdicts["accepted"] >= 10
    else:
        assert story.verdicts["accepted"] >= 1
