"""The host and the programs: clocks, releases and libraries, and how many descriptors the daemon may hold."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from aiorch.version import PROTOCOL, __version__
from aiorchctl.doctor.contact import Contact, found_in
from aiorchctl.doctor.finding import Finding, failed, not_checked, ok, warning
from aiorchctl.quantities import count, moment, seconds

CLOCK: Final = "clock"
VERSIONS: Final = "versions"
DESCRIPTORS: Final = "descriptors"

EARLIEST_S: Final = 1_767_225_600.0
"""The beginning of 2026, in wall seconds: this release did not exist before."""
LATEST_S: Final = 4_102_444_800.0
"""The beginning of 2100."""

_APART_S: Final = 1.0
_STEP_S: Final = 60.0
_WRONG_S: Final = 60.0
_SET_IT: Final = "Set it: timedatectl set-ntp true."


def check_clock(contact: Contact, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Tell whether the year can be, whether daemon and command line see one time, whether somebody set the clock while the
    daemon ran, and how far it is from those of the providers.
    """
    here = now()
    troubles = list(_wrong_clocks(contact, here))
    yield from troubles
    if not troubles:
        compared = "; the daemon sees the same" if contact.inside is not None else ""
        yield ok(CLOCK, f"it is {moment(here)}{compared}", details={"wall_s": here})
    if contact.inside is None:
        why = contact.why_not_inside or "no daemon answers"
        yield not_checked(CLOCK, why, subject="of the daemon")


def _wrong_clocks(contact: Contact, here: float) -> Iterator[Finding]:
    if not EARLIEST_S <= here < LATEST_S:
        yield failed(
            CLOCK,
            f"this host says it is {moment(here)}",
            f"{_SET_IT} With a wrong date certificates are refused and nothing kept stays fresh as long as it should.",
            os.EX_SOFTWARE,
            details={"wall_s": here},
        )
    clock = found_in(contact.inside, "clock")
    if not isinstance(clock, dict):
        return
    there = clock.get("wall_s")
    if isinstance(there, (int, float)):
        ahead_s = max(there - contact.after_s, 0.0) or min(there - contact.before_s, 0.0)
        if abs(ahead_s) > _APART_S:
            yield failed(
                CLOCK,
                f"the daemon's clock is {_by(ahead_s)} that of this program",
                "One of the two is given a time of its own (by faketime, or a time namespace): start both without.",
                os.EX_SOFTWARE,
                details={"ahead_s": ahead_s},
            )
    stepped_s = clock.get("stepped_s")
    if isinstance(stepped_s, (int, float)) and abs(stepped_s) > _STEP_S:
        way = "forward" if stepped_s > 0 else "back"
        yield warning(
            CLOCK,
            f"the clock was set {way} by {seconds(abs(stepped_s))} while the daemon ran: kept answers age wrongly by that, "
            "and figures stand under the wrong time",
            "See that a time service runs (timedatectl). If old answers matter: aiorchctl cache clear.",
            details={"stepped_s": stepped_s},
        )
    for row in found_in(contact.inside, "providers") or ():
        yield from _against_provider(row, there)


def _against_provider(row: Any, there: Any) -> Iterator[Finding]:
    theirs = row.get("clock_s") if isinstance(row, dict) else None
    if not isinstance(theirs, (int, float)) or not isinstance(there, (int, float)):
        return
    ahead_s = there - theirs
    if abs(ahead_s) > _WRONG_S:
        yield warning(
            CLOCK,
            f"this host's clock is {_by(ahead_s)} that of provider {row.get('name')}",
            _SET_IT,
            subject=f"of {row.get('name')}",
            details={"ahead_s": ahead_s},
        )


def _by(ahead_s: float) -> str:
    return f"{seconds(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'}"


def check_versions(contact: Contact) -> Iterator[Finding]:
    """Tell whether command line and daemon are of one release and speak one protocol, and what they run on."""
    here = {"aiorchctl": __version__, "python": platform.python_version()}
    server = contact.server
    if server is None:
        missing = [name for name in ("trio", "msgpack", "msgspec", "h11", "h2") if _installed(name) is None]
        if missing:
            yield failed(
                VERSIONS,
                f"aiorchd cannot start from here: {', '.join(missing)} is not installed",
                "pip install 'aiorch[daemon]'",
                os.EX_SOFTWARE,
                details=here,
            )
        else:
            yield ok(VERSIONS, f"aiorchctl {__version__} on Python {here['python']}; no daemon answers", details=here)
        return
    software = found_in(contact.inside, "software") or {}
    facts = {**here, "aiorchd": server.version, "protocol": server.protocol, "daemon": software}
    if server.protocol != PROTOCOL:
        yield failed(
            VERSIONS,
            f"the daemon speaks protocol {server.protocol} and this program {PROTOCOL}",
            "Install one release for both, and restart the daemon.",
            os.EX_SOFTWARE,
            details=facts,
        )
    elif server.version != __version__:
        yield warning(
            VERSIONS,
            f"the daemon is of release {server.version} and this program of {__version__}",
            "If you upgraded, restart the daemon: systemctl restart aiorchd (systemctl --user for your own).",
            details=facts,
        )
    else:
        python = software.get("python")
        runs = f", on Python {python} with SQLite {software.get('sqlite')}" if python else ""
        yield ok(VERSIONS, f"daemon and command line are {__version__}, protocol {PROTOCOL}{runs}", details=facts)
    absent = [name for name, found in (software.get("libraries") or {}).items() if found is None]
    if absent:
        yield warning(
            VERSIONS,
            f"the daemon's environment does not have {', '.join(absent)} as an installed package",
            "pip install 'aiorch[daemon]' into it, and restart the daemon.",
            subject="of libraries",
            details={"absent": absent},
        )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_descriptors(contact: Contact) -> Iterator[Finding]:
    """Tell whether the daemon may hold as many files and sockets as its configuration lets it need."""
    told = found_in(contact.inside, "descriptors")
    if not isinstance(told, dict):
        yield not_checked(DESCRIPTORS, contact.why_not_inside or "no daemon answers")
        return
    soft, needed, held = told.get("soft"), told.get("needed"), told.get("open")
    if not isinstance(needed, int):
        yield not_checked(DESCRIPTORS, "the daemon does not tell")
        return
    use = f", {count(held)} are open" if isinstance(held, int) else ""
    raise_it = (
        f"Say LimitNOFILE={needed} in the unit (or ulimit -Hn {needed} before starting it), or lower [daemon] "
        "max_connections or [pool] max_connections; then restart the daemon."
    )
    if not isinstance(soft, int) or soft >= needed:
        limit = "there is no limit" if not isinstance(soft, int) else f"{count(soft)} are allowed"
        yield ok(DESCRIPTORS, f"{limit}{use}, and {count(needed)} is the most it needs", details=told)
    elif isinstance(held, int) and held > 0.9 * soft:
        yield failed(
            DESCRIPTORS,
            f"the daemon has nearly used up its descriptors: {count(held)} of {count(soft)} are open",
            raise_it,
            os.EX_SOFTWARE,
            details=told,
        )
    else:
        yield warning(
            DESCRIPTORS,
            f"the daemon may open {count(soft)} descriptors{use}; its configuration may take {count(needed)}",
            raise_it,
            details=told,
        )
