"""The configuration as the daemon has it and as it stands on disk: every way in which the two can be at odds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doctoring import SIMULATED, Doctor
from processes import DaemonProcess, daemon

from aiorchctl.doctor.configuration import check_configuration
from aiorchctl.doctor.contact import Contact
from aiorchctl.doctor.person import myself


def until(condition: Callable[[], Any]) -> Any:
    """Ask again until it is true; each condition here starts with a conversation that takes its time."""
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end
    return found


def test_a_file_that_was_refused(simulated: DaemonProcess, doctor: Doctor) -> None:
    simulated.config.write_text(SIMULATED + "[retry]\nmax_atempts = 3\n")
    looked = until(lambda: (one := doctor(simulated.socket)).code and one)
    found = looked.of("configuration")
    assert (looked.code, found["result"]) == (78, "failed")
    assert f"the daemon refused {simulated.config} at " in found["sentence"]
    assert "max_attempts" in found["sentence"]
    assert "`aiorchctl config check`" in found["remedy"]
    assert found["details"]["problems"][0]["key"] == "retry.max_atempts"


def test_no_configuration_at_all(tmp_path: Path, doctor: Doctor) -> None:
    with daemon(tmp_path) as running:
        looked = doctor(running.socket)
    found = looked.of("configuration")
    assert (looked.code, found["result"]) == (0, "warning")
    assert "an embedded simulated model answers" in found["sentence"]
    assert "aiorchctl init" in found["remedy"]


def test_a_doubtful_key(tmp_path: Path, doctor: Doctor) -> None:
    with daemon(tmp_path, SIMULATED + "[pool]\nmax_connections = 5\nmax_keepalive = 9\n") as running:
        found = doctor(running.socket).of("configuration")
    assert found["result"] == "warning"
    assert "pool.max_keepalive: 9 is above pool.max_connections" in found["sentence"]


def test_a_file_that_is_gone(simulated: DaemonProcess, doctor: Doctor) -> None:
    simulated.config.unlink()
    found = doctor(simulated.socket).of("configuration")
    assert found["result"] == "warning"
    assert f"{simulated.config} is gone" in found["sentence"]
    assert found["remedy"].startswith("Put the file back.")


def status_of(path: Path, **config: Any) -> Contact:
    """What a daemon says that looked at a file a minute ago."""
    verdict = {"result": "accepted", "at": time.time() - 60, "problems": [], "warnings": [], "restart_needed": []}
    told = {"path": str(path), "rule": "--config", "verdict": verdict | config.pop("verdict", {}), **config}
    return Contact((), status={"config": told, "generation": 3, "models": [{}, {}], "simulated": False})


def check(contact: Contact, environ: dict[str, str] | None = None) -> list[Any]:
    return list(check_configuration(contact, environ or {}, myself()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "aiorch.toml"
    path.write_text(SIMULATED)
    return path


def test_a_file_changed_since_the_last_look(file: Path) -> None:
    [found] = check(status_of(file))
    assert (found.result, found.remedy) == ("warning", "Have it read: aiorchctl config reload")
    os.utime(file, (time.time() - 100, time.time() - 100))
    [found] = check(status_of(file))
    assert found.result == "ok"
    assert "is in force as generation 3" in found.sentence
    assert found.sentence.endswith("with 2 models")


def test_keys_that_wait_for_a_restart(file: Path) -> None:
    os.utime(file, (0, 0))
    [found] = check(status_of(file, verdict={"restart_needed": ["daemon.x", "http.y"]}))
    assert found.result == "warning"
    assert found.sentence == "the new value of daemon.x, http.y waits for a restart"
    assert "systemctl restart aiorchd" in found.remedy


def test_a_file_that_the_kernel_does_not_watch(file: Path) -> None:
    os.utime(file, (0, 0))
    [found] = check(status_of(file, watched_by={"why": "the kernel tells of no events: too many"}))
    assert found.result == "warning"
    assert "max_user_watches" in found.remedy
    [found] = check(status_of(file, watched_by={"why": "nobody has waited for a change yet"}))
    assert found.result == "ok"


def test_a_file_that_cannot_be_looked_at(file: Path) -> None:
    found = check(status_of(file / "x" / ("y" * 300)))
    assert found[0].result in ("warning", "not_checked")


# --- without a daemon -------------------------------------------------------------------------------------------------


def offline(**environ: str) -> Any:
    [found] = check(Contact(()), {"HOME": "/nonexistent", **environ})
    return found


def test_no_file_anywhere(tmp_path: Path) -> None:
    found = offline(XDG_CONFIG_HOME=str(tmp_path))
    assert found.result == "warning"
    assert "aiorchctl init" in found.remedy


def test_a_file_that_a_start_would_refuse(file: Path) -> None:
    file.write_text("[retry]\nmax_attempts = 0\n")
    found = offline(AIORCH_CONFIG=str(file))
    assert (found.result, found.exit_code) == ("failed", 78)
    assert "a daemon started now would refuse" in found.sentence
    assert f"`aiorchctl config check {file}`" in found.remedy


def test_a_named_file_that_is_missing(tmp_path: Path) -> None:
    found = offline(AIORCH_CONFIG=str(tmp_path / "none.toml"))
    assert (found.result, found.exit_code) == ("failed", 78)
    assert "there is no such file" in found.sentence


def test_a_file_that_is_right(file: Path) -> None:
    found = offline(AIORCH_CONFIG=str(file))
    assert found.result == "ok"
    assert found.sentence == f"{file} (by $AIORCH_CONFIG) is right; no daemon answers to say what is in force"


def test_a_file_that_is_right_and_doubtful(file: Path) -> None:
    file.write_text(SIMULATED + "[cache]\nttl_s = 0\n")
    found = offline(AIORCH_CONFIG=str(file))
    assert found.result == "warning"
    assert "nothing is ever found again" in found.sentence
