"""Clocks that are wrong, releases that differ, and limits that are too low."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import pytest
from doctoring import Doctor
from processes import DaemonProcess

import aiorchctl.doctor.host as host
from aiorch.reply import Server
from aiorch.version import __version__
from aiorchctl.doctor.contact import Contact
from aiorchctl.doctor.finding import Finding
from aiorchctl.doctor.host import check_clock, check_descriptors, check_versions

NOW = 1_790_000_000.0


def clock(*, ahead_s: float = 0.0, stepped_s: float = 0.0, providers: Any = ()) -> Contact:
    inside = {"clock": {"wall_s": NOW + ahead_s, "stepped_s": stepped_s}, "providers": list(providers)}
    return Contact((), inside=inside, before_s=NOW - 0.1, after_s=NOW + 0.1)


def the(found: Any) -> Finding:
    [one] = found
    return one


def test_a_clock_in_order() -> None:
    found = the(check_clock(clock(ahead_s=0.05, providers=[{"name": "main", "clock_s": NOW - 3}]), lambda: NOW))
    assert found.result == "ok"
    assert found.sentence.endswith("; the daemon sees the same")


@pytest.mark.parametrize("wall_s", [0.0, 1_700_000_000.0, 4_200_000_000.0])
def test_a_year_that_cannot_be(wall_s: float) -> None:
    found = next(check_clock(Contact(()), lambda: wall_s))
    assert (found.result, found.exit_code) == ("failed", 70)
    assert "timedatectl set-ntp true" in found.remedy


@pytest.mark.parametrize(("ahead_s", "words"), [(3600.0, "1 h ahead of"), (-90.0, "1 min 30 s behind")])
def test_a_daemon_with_a_time_of_its_own(ahead_s: float, words: str) -> None:
    found = the(check_clock(clock(ahead_s=ahead_s), lambda: NOW))
    assert (found.result, found.exit_code) == ("failed", 70)
    assert f"the daemon's clock is {words} that of this program" in found.sentence
    assert "faketime" in found.remedy


@pytest.mark.parametrize(("stepped_s", "words"), [(7200.0, "forward by 2 h"), (-300.0, "back by 5 min")])
def test_a_clock_that_was_set_while_the_daemon_ran(stepped_s: float, words: str) -> None:
    found = the(check_clock(clock(stepped_s=stepped_s), lambda: NOW))
    assert found.result == "warning"
    assert f"the clock was set {words} while the daemon ran" in found.sentence
    assert "aiorchctl cache clear" in found.remedy


def test_a_clock_far_from_a_providers() -> None:
    found = the(check_clock(clock(providers=[{"name": "main", "clock_s": NOW + 400}]), lambda: NOW))
    assert (found.result, found.subject) == ("warning", "of main")
    assert "6 min 40 s behind that of provider main" in found.sentence


def test_without_a_daemon_its_clock_is_not_known() -> None:
    found = list(check_clock(Contact(()), lambda: NOW))
    assert [one.result for one in found] == ["ok", "not_checked"]
    assert found[1].sentence == "no daemon answers"


def server(version: str = __version__, protocol: int = 1) -> Contact:
    software = {"python": "3.11.2", "sqlite": "3.40.1", "libraries": {"trio": "0.35.0", "h2": "4.2"}}
    return Contact((), server=Server(version=version, protocol=protocol), inside={"software": software})


def test_releases_that_agree() -> None:
    found = the(check_versions(server()))
    assert found.result == "ok"
    assert (
        found.sentence == f"daemon and command line are {__version__}, protocol 1, on Python 3.11.2 with SQLite 3.40.1"
    )
    assert found.details["daemon"]["libraries"]["trio"] == "0.35.0"


def test_a_daemon_of_another_release() -> None:
    found = the(check_versions(server("0.0.9")))
    assert found.result == "warning"
    assert "the daemon is of release 0.0.9 and this program of" in found.sentence
    assert found.remedy.startswith("If you upgraded, restart the daemon")


def test_a_daemon_of_another_protocol() -> None:
    found = the(check_versions(server(protocol=2)))
    assert (found.result, found.exit_code) == ("failed", 70)
    assert "the daemon speaks protocol 2 and this program 1" in found.sentence


def test_libraries_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    contact = server()
    contact.inside["software"]["libraries"]["h2"] = None
    [ours, theirs] = check_versions(contact)
    assert (ours.result, theirs.result) == ("ok", "warning")
    assert "does not have h2 as an installed package" in theirs.sentence
    monkeypatch.setattr(host, "_installed", lambda name: None if name == "trio" else "1.0")
    found = the(check_versions(Contact(())))
    assert (found.result, found.remedy) == ("failed", "pip install 'aiorch[daemon]'")
    assert "trio is not installed" in found.sentence


def test_no_daemon_to_compare_with() -> None:
    assert the(check_versions(Contact(()))).sentence.endswith("; no daemon answers")


def limits(**told: Any) -> Finding:
    return the(check_descriptors(Contact((), inside={"descriptors": told})))


def test_limits_that_suffice() -> None:
    assert limits(soft=5000, needed=4310, open=30).result == "ok"
    assert limits(soft=None, needed=4310, open=None).sentence == "there is no limit, and 4,310 is the most it needs"


def test_limits_that_are_too_low() -> None:
    found = limits(soft=1024, needed=4310, open=30)
    assert found.result == "warning"
    assert "may open 1,024 descriptors, 30 are open; its configuration may take 4,310" in found.sentence
    assert "LimitNOFILE=4310" in found.remedy


def test_limits_that_are_nearly_used_up() -> None:
    found = limits(soft=1024, needed=4310, open=1000)
    assert (found.result, found.exit_code) == ("failed", 70)
    assert "LimitNOFILE=4310" in found.remedy


def test_a_real_daemon_under_a_low_limit(simulated: DaemonProcess, doctor: Doctor) -> None:
    resource.prlimit(simulated.pid, resource.RLIMIT_NOFILE, (300, 300))
    found = doctor(simulated.socket).of("descriptors")
    assert found["result"] == "warning"
    assert (found["details"]["soft"], found["details"]["hard"]) == (300, 300)


def test_a_real_daemon_raises_its_own_limit(simulated: DaemonProcess, doctor: Doctor) -> None:
    told = doctor(simulated.socket).of("descriptors")["details"]
    assert told["soft"] == told["hard"]


def test_the_daemon_sees_the_time_of_the_host(simulated: DaemonProcess, doctor: Callable[..., Any]) -> None:
    found = doctor(simulated.socket).of("clock")
    assert abs(found["details"]["wall_s"] - time.time()) < 60
