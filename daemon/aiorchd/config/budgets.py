"""Whether the budgets of a configuration fit together, and whether the callers that they are for exist here."""

from __future__ import annotations

import pwd
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aiorchd.config.findings import Findings
from aiorchd.config.lines import Path
from aiorchd.config.problems import show
from aiorchd.config.records import Records
from aiorchd.config.schema import Budget, CallerTable, Operation

_UNIT_KINDS: Final = (".service", ".socket", ".timer", ".scope", ".slice", ".mount", ".target", ".path")


def check_budgets(records: Records, findings: Findings) -> None:
    """Note what is wrong with [budget] and [callers]. Asks the host's databases of users and of time zones."""
    budget = records.sections.get("budget")
    if isinstance(budget, Budget):
        _budget(budget, records, findings)
    for name, operation in records.operations.items():
        _months(("operations", name), operation, findings)
        if isinstance(budget, Budget):
            _within(("operations", name), operation, budget, findings)
    seen: dict[int, str] = {}
    for name, caller in records.callers.items():
        path: Path = ("callers", name)
        _months(path, caller, findings)
        uid = _user(path, name, findings)
        if uid is not None and uid in seen:
            findings.wrong(path, f"is the same user as {show(seen[uid])}.", "Put both into one table.")
        elif uid is not None:
            seen[uid] = name
        if isinstance(budget, Budget):
            _within(path, caller, budget, findings)


def _budget(budget: Budget, records: Records, findings: Findings) -> None:
    _months(("budget",), budget, findings)
    if budget.timezone.upper() != "UTC":
        try:
            ZoneInfo(budget.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            findings.wrong(
                ("budget", "timezone"),
                f"this host knows no time zone {show(budget.timezone)}.",
                'Write "UTC" or a name like "Europe/Berlin".',
            )
    limited: tuple[Budget | CallerTable | Operation, ...] = (
        budget,
        *records.callers.values(),
        *records.operations.values(),
    )
    none = not any(one.per_day_usd is not None or one.per_month_usd is not None for one in limited)
    if none and budget.on_exhausted != "refuse":
        findings.doubtful(("budget", "on_exhausted"), "there is no budget that could be exhausted.", "Set per_day_usd.")


def _months(path: Path, one: Budget | CallerTable | Operation, findings: Findings) -> None:
    if one.per_day_usd is not None and one.per_month_usd is not None and one.per_day_usd > one.per_month_usd:
        findings.doubtful(
            (*path, "per_day_usd"), f"{one.per_day_usd:g} a day is more than the month's {one.per_month_usd:g}."
        )


def _within(path: Path, caller: CallerTable | Operation, budget: Budget, findings: Findings) -> None:
    for name in ("per_day_usd", "per_month_usd"):
        own, of_all = getattr(caller, name), getattr(budget, name)
        if own is not None and of_all is not None and own > of_all:
            findings.doubtful((*path, name), f"{own:g} is more than the budget of all, {of_all:g}, and never reached.")


def _user(path: Path, name: str, findings: Findings) -> int | None:
    """Find the user that is meant, None for a unit."""
    if name.isdigit() and len(name) < 11:
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL in the name
        if name.endswith(_UNIT_KINDS) and len(name) <= 256 and name.isprintable():
            return None
    findings.wrong(
        path,
        f"this host knows no user {show(name)}, and it is no name of a unit.",
        'Write a user\'s name or number, or a unit like [callers."web.service"].',
    )
    return None
