"""The disk that holds the state is full for a moment, under load; for longer: benchmarks/full_disk.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import fill_under_load, on_a_small_disk, why_not
from live_editing import configuration
from processes import daemon

from aiorchsim.process import start_simulator

REASON = why_not()


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
async def test_what_needs_no_disk_is_served_and_all_of_it_works_again(tmp_path: Path) -> None:
    with (
        start_simulator("[[models]]\nlatency_s = 0.01\n") as simulator,
        daemon(tmp_path, configuration(simulator.base_url), start=False) as running,
    ):
        on_a_small_disk(running)
        running.start()
        story = await fill_under_load(running, tmp_path / "kept", clients=8, pause_s=0.02, before_s=0.3, full_s=2.0)
        said = running.said()
        made = simulator.stats()["calls"]["answered"]
    told = story.told
    assert (told.wrong, told.cut, told.refused, story.wrong) == ([], [], [], [])
    assert story.answered_while_full > 20
    assert "full" in story.states["cache"] | story.states["metrics"], story
    assert any("does not work since" in concern and "full" in concern for concern in story.concerns), story.concerns
    assert story.works_again_s < 5.0
    assert story.dropped == 0
    assert story.counted == story.counted_on_disk > told.answered
    assert story.answers_on_disk == made - 1  # all but the one that was forgotten
    assert set(story.integrity.values()) == {"ok"}, story.integrity
    assert said.count("file does not work") <= 6, said
    assert "file works again" in said
