"""The log of a real daemon: lines for calls where asked, levels changed while it runs."""

from __future__ import annotations

import re
from pathlib import Path

from doctoring import SIMULATED
from processes import DaemonProcess, daemon

from aiorch import Client
from aiorch.errors import CallError


def reconfigure(running: DaemonProcess, client: Client, daemon_section: str) -> None:
    """Write the section and have it read."""
    running.config.write_text(f"[daemon]\n{daemon_section}\n{SIMULATED}")
    assert client.config_reload()["result"] in ("accepted", "unchanged")


def lines_of(running: DaemonProcess, area: str) -> list[str]:
    return [line for line in running.said().splitlines() if f" {area}: " in line]


def test_a_line_for_each_call_where_asked_and_only_there(tmp_path: Path) -> None:
    with daemon(tmp_path, SIMULATED) as running, Client(running.socket) as client:
        client.complete("What is 1 + 1?")
        assert lines_of(running, "calls") == []

        reconfigure(running, client, "log_calls = true")
        miss = client.complete("What is 2 + 2?", task="sums")
        hit = client.complete("What is 2 + 2?", task="sums")
        with_error = _refused(client)
        lines = lines_of(running, "calls")
        assert len(lines) == 3, lines
        assert re.search(
            rf"Z info calls: answered id={miss.id} uid=\d+ pid=\d+ unit=\S+ kind=chat task=sums model=small provider=sim "
            r"cache=miss simulated=true attempts=1 input=\d+ output=\d+ cost_usd=\S+ (queue_s=\S+ )?provider_s=\S+ "
            r"total_s=\S+$",
            lines[0],
        ), lines[0]
        assert f"id={hit.id} " in lines[1]
        assert f" cache=exact source={miss.id} " in lines[1]
        assert " cost_usd=0 " in lines[1]
        assert " failed id=" in lines[2]
        assert f" error={with_error} " in lines[2]

        reconfigure(running, client, "log_calls = false")
        client.complete("What is 2 + 2?")
        assert len(lines_of(running, "calls")) == 3


def test_debug_tells_the_story_of_a_call_and_who_comes_and_goes(tmp_path: Path) -> None:
    with daemon(tmp_path, SIMULATED) as running:
        with Client(running.socket) as client:
            reconfigure(running, client, 'log_levels = {calls = "debug", door = "debug"}')
            reply = client.complete("What is 2 + 2?")
        with Client(running.socket) as client:
            client.ping()
        assert running.stop() == 0
        lines = lines_of(running, "calls")
        assert lines
        assert all(" debug calls: " in line and f" id={reply.id} " in line for line in lines), lines
        assert any(" model=small " in line and " verdict=" in line for line in lines), lines
        assert any(" debug door: connected uid=" in line for line in running.said().splitlines())
        assert any(" debug door: left uid=" in line for line in running.said().splitlines())


def _refused(client: Client) -> str:
    try:
        client.complete("never asked", cache="only")
    except CallError as error:
        return error.code
    raise AssertionError("it was answered")


def test_levels_of_areas_change_while_it_runs(tmp_path: Path) -> None:
    with daemon(tmp_path, SIMULATED) as running, Client(running.socket) as client:
        reconfigure(running, client, 'log_calls = true\nlog_level = "warning"')
        client.complete("What is 1 + 1?")
        assert lines_of(running, "calls") == []
        before = _accepted(running)

        reconfigure(running, client, 'log_calls = true\nlog_level = "warning"\nlog_levels = {calls = "info"}')
        client.complete("What is 1 + 1?")
        assert len(lines_of(running, "calls")) == 1
        assert _accepted(running) == before  # still as the others

        reconfigure(running, client, 'log_calls = true\nlog_levels = {calls = "error", reload = "info"}')
        client.complete("What is 1 + 1?")
        assert len(lines_of(running, "calls")) == 1
        assert _accepted(running) == before + 1


def _accepted(running: DaemonProcess) -> int:
    """Count what was told of accepted files; one that is read while it is written may be refused, and told, before."""
    return sum("in force" in line for line in lines_of(running, "reload"))
