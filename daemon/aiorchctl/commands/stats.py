"""``aiorchctl stats``: what was asked, what was saved and by what, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.asking import LENGTH_OF_TIME
from aiorchctl.page import Cell, Column, Fields, Page, Paragraph, Table, Words
from aiorchctl.quantities import NOT_KNOWN, count, moment, money, number_of, plural, seconds, share

if TYPE_CHECKING:
    import aiorch

_HOW: Final[Mapping[str, str]] = {
    "exact": "the same question before",
    "normalised": "the same but for noise before",
    "coalesced": "an equal question under way",
    "semantic": "a question of the same meaning",
    "stale": "an answer out of date, while it was asked for anew",
    "batched": "asked in the provider call of another",
}
_NAMELESS: Final[Mapping[str, str]] = {
    "operation": "(none)",
    "model": "(none)",
    "provider": "(none)",
    "caller": "(nobody)",
    "unit": "(none)",
}


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl stats", "Everything that is on record:"),
        ("aiorchctl stats --since 1h --by model", "The last hour, model by model:"),
        ("aiorchctl stats --watch", "As it changes, every two seconds; Ctrl-C ends it:"),
        ("aiorchctl stats --since 1d --json | jq .saved_usd", "What a day saved, exactly:"),
    ),
)
@click.option(
    "--since", type=LENGTH_OF_TIME, metavar="TIME", help="Count back from now: 30m, 1h, 2d, 1w.  [default: all]"
)
@click.option(
    "--by",
    type=click.Choice(("operation", "model", "provider", "caller", "unit")),
    help="Also tell each of these apart.",
)
@click.option("--own", is_flag=True, help="Only your own calls; administrators otherwise see everybody's.")
@click.option(
    "--watch",
    "watch_s",
    type=LENGTH_OF_TIME,
    is_flag=False,
    flag_value="2",
    metavar="[SECONDS]",
    help="Show it again every so many seconds (2), until Ctrl-C; with --json one line each time.",
)
@pass_invocation
def stats(invocation: Invocation, *, since: float | None, by: str | None, own: bool, watch_s: float | None) -> None:
    """Show calls asked, calls made to providers, what was saved and by what, money, hit rates and times."""

    def ask(client: aiorch.Client) -> Any:
        # Not sent unless it was said: everybody may ask for their own.
        return client.call("stats", since=since, by=by, own=own or None)

    if watch_s is not None:
        from aiorchctl.commands.watching import SHORTEST_S, watch

        if watch_s < SHORTEST_S:
            raise click.UsageError(f"--watch: at least {SHORTEST_S:g} s")
        watch(invocation, ask, lambda now, before: [*_pace(now, before, watch_s), *page(now)], watch_s)
        return
    with invocation.client() as client:
        result = ask(client)
    invocation.tell(result, page)


def _pace(now: Mapping[str, Any], before: Mapping[str, Any] | None, every_s: float) -> Page:
    """Say when this is, and what came since the last look; only sums over everything can be compared so."""
    told = f"{moment(number_of(now, 'until'))}, every {seconds(every_s)}"
    since_s = (number_of(now, "until") or 0.0) - (number_of(before, "until") or 0.0)
    if before is not None and since_s > 0 and not number_of(now, "since"):
        calls, made = (
            (number_of(now, name) or 0.0) - (number_of(before, name) or 0.0) for name in ("calls", "provider_calls")
        )
        if calls >= 0 and made >= 0:  # less, when old records were dropped meanwhile
            told += f": {calls / since_s:,.1f} calls a second, {made / since_s:,.1f} to providers"
    return [Paragraph(Words(told, "quiet"))]


def page(result: dict[str, Any]) -> Page:
    """Tell it to a person: what was saved first."""
    since = f"{moment(number_of(result, 'since'))} to {moment(number_of(result, 'until'))}"
    if not number_of(result, "since"):
        since = f"all calls on record until {moment(number_of(result, 'until'))}"
    calls = int(number_of(result, "calls") or 0)
    if not calls:
        return [Paragraph(Words(f"No calls: {since}.", "quiet")), *_budgets(result)]
    blocks: list[Any] = [
        Fields(_savings(result, calls), since[0].upper() + since[1:]),
        Fields(_money(result), "Money"),
        *_semantic(result),
        *_batching(result),
        *_budgets(result),
        Table(
            _TIMES,
            [_times(result, "total_s", "a whole call"), _times(result, "overhead_s", "of it in aiorchd")],
            "Time",
        ),
        Fields(_troubles(result, calls), "Trouble"),
    ]
    groups = result.get("groups")
    if result.get("by") and isinstance(groups, list):
        blocks.append(_groups(str(result["by"]), groups))
    return blocks


def _budgets(result: Mapping[str, Any]) -> Page:
    from aiorchctl.commands.budgets import budgets_table

    found = result.get("budgets")
    return [budgets_table(found)] if isinstance(found, list) and found else []


def _semantic(result: Mapping[str, Any]) -> Page:
    from aiorchctl.commands.semantic import semantic_fields

    found = result.get("semantic")
    return [semantic_fields(found)] if isinstance(found, dict) and found.get("enabled") else []


def _batching(result: Mapping[str, Any]) -> Page:
    from aiorchctl.commands.batching import batching_tables

    return batching_tables(result.get("batching"))


_TIMES: Final = (
    Column(""),
    Column("p50", right=True),
    Column("p95", right=True),
    Column("p99", right=True),
)


def _savings(result: Mapping[str, Any], calls: int) -> list[tuple[str, Cell]]:
    saved = _counts(result, "saved_calls")
    rows: list[tuple[str, Cell]] = [
        ("calls asked", Words(count(calls), "strong")),
        ("provider calls made", Words(count(number_of(result, "provider_calls")), "strong")),
        ("calls saved", Words(f"{count(sum(saved.values()))} ({share(sum(saved.values()), calls)} of all)", "good")),
    ]
    rows += [
        (f"  {how}", f"{count(number)} ({share(number, calls)}): {_HOW.get(how, how)}") for how, number in saved.items()
    ]
    return rows


def savings_fields(result: Mapping[str, Any], title: str) -> Fields:
    """Make the rows of what was saved, by how, and what it was worth."""
    rows = _savings(result, int(number_of(result, "calls") or 0))
    rows = [row for row in rows if row[0] != "provider calls made"]
    return Fields([*rows, ("money", _amount(result, "saved_usd", "saving_unknown_calls")), *_worth(result)], title)


def _worth(result: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    tokens, saved_s = number_of(result, "saved_tokens"), number_of(result, "saved_s")
    told = [f"{count(tokens)} tokens"] if tokens else []
    told += [f"{seconds(saved_s)} of providers' time"] if saved_s else []
    return [("  besides", ", ".join(told))] if told else []


def _money(result: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    rows = [
        ("spent", _spent(result)),
        ("saved", _amount(result, "saved_usd", "saving_unknown_calls")),
    ]
    rows += _worth(result)
    tokens = _tokens(result)
    return [*rows, ("tokens", tokens)] if tokens else rows


def _spent(result: Mapping[str, Any]) -> Cell:
    """Write what is known to have been spent, and beside it what attempts of unknown cost are counted as."""
    unknown = int(number_of(result, "cost_unknown_attempts") or 0)
    if not unknown:
        return _amount(result, "spent_usd", "cost_unknown_calls")
    usd, estimate = number_of(result, "spent_usd"), number_of(result, "cost_estimate_usd")
    known = "" if usd is None else f"{money(usd)}, and "
    counted = f", counted as ~{money(estimate)} (estimate)" if estimate else ""
    return Words(f"{known}{plural(unknown, 'attempt')} of unknown cost{counted}", "doubtful")


def _amount(result: Mapping[str, Any], name: str, unknown_name: str) -> Cell:
    """Write an amount with the calls that are missing in it: an unknown price is never zero."""
    unknown = int(number_of(result, unknown_name) or 0)
    usd = number_of(result, name)
    if usd is None:
        return Words(f"{NOT_KNOWN}: {plural(unknown, 'call')} at prices that are not configured", "doubtful")
    if unknown:
        return Words(f"{money(usd)}, and {plural(unknown, 'call')} at unknown prices", "doubtful")
    return money(usd)


def _tokens(result: Mapping[str, Any]) -> str:
    names = (
        ("input", "in"),
        ("cache_read", "read from providers' caches"),
        ("cache_write", "written to them"),
        ("output", "out"),
        ("reasoning", "of reasoning"),
    )
    return ", ".join(
        f"{count(number)} {words}" for name, words in names if (number := number_of(result, "tokens", name))
    )


def _times(result: Mapping[str, Any], name: str, words: str) -> tuple[str, ...]:
    return (words, *(seconds(number_of(result, name, which)) for which in ("p50", "p95", "p99")))


def _troubles(result: Mapping[str, Any], calls: int) -> list[tuple[str, Cell]]:
    errors = _counts(result, "errors")
    failed = sum(errors.values())
    told = "none"
    if failed:
        told = f"{count(failed)} ({share(failed, calls)}): " + ", ".join(
            f"{count(n)} {code}" for code, n in errors.items()
        )
    throttled, fallbacks, hedges = (int(number_of(result, name) or 0) for name in ("throttled", "fallbacks", "hedges"))
    kinds = _counts(result, "fallbacks_by_kind")
    why = [f"{count(kinds[kind])} {words}" for kind, words in _KINDS if kinds.get(kind)]
    elsewhere = count(fallbacks) + (f" ({', '.join(why)})" if why else "")
    second = [("second tries", count(hedges))] if hedges else []
    return [
        ("refused by providers (429 and the like)", Words(count(throttled), "doubtful") if throttled else "none"),
        ("fallbacks to another model", elsewhere if fallbacks else "none"),
        *second,
        *_failed(result),
        ("errors", Words(told, "bad" if failed else "plain")),
    ]


def _failed(result: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    failed = _counts(result, "failed_attempts")
    told = f"{count(sum(failed.values()))}: " + ", ".join(f"{count(n)} {code}" for code, n in failed.items())
    return [("provider calls that failed", Words(told, "doubtful"))] if failed else []


_KINDS: Final = (
    ("context_window", "for a prompt that was too long"),
    ("content_filter", "for an answer that was withheld"),
)


def _groups(by: str, groups: list[dict[str, Any]]) -> Table:
    columns = (
        Column(by),
        *(
            Column(name, right=True)
            for name in ("asked", "made", "failed", "saved", "spent", "saved $", "p50", "429s", "errors")
        ),
    )
    rows = [_group(by, group) for group in groups]
    for name, cell in (("near answers wrong", _near_wrong), ("asked together", _together)):
        cells = [cell(group) for group in groups]
        if any(cells):  # most hosts have neither
            columns = (*columns, Column(name))
            rows = [(*row, found or "–") for row, found in zip(rows, cells, strict=True)]
    return Table(columns, rows, f"By {by}")


def _near_wrong(group: Mapping[str, Any]) -> str:
    rate, low, high = (number_of(group, "semantic_checks", f"error_{name}") for name in ("rate", "low", "high"))
    if rate is None or low is None or high is None:
        return ""
    return f"{rate:.1%} of {count(number_of(group, 'semantic_checks', 'checked'))} ({low:.1%} to {high:.1%})"


def _together(group: Mapping[str, Any]) -> str:
    mean = number_of(group, "batched", "mean_questions")
    if mean is None:
        return ""
    left_out = number_of(group, "batched", "left_out")
    alone = f", {count(left_out)} then alone" if left_out else ""
    return f"{count(number_of(group, 'batched', 'questions'))}, {mean:.1f} at once{alone}"


def _group(by: str, group: Mapping[str, Any]) -> tuple[Cell, ...]:
    calls = int(number_of(group, "calls") or 0)
    saved = sum(_counts(group, "saved_calls").values())
    errors = sum(_counts(group, "errors").values())
    return (
        str(group.get("name") or _NAMELESS.get(by, "")),
        count(calls),
        count(number_of(group, "provider_calls")),
        count(sum(_counts(group, "failed_attempts").values())),
        f"{count(saved)} ({share(saved, calls)})" if calls else "–",
        _short_spent(group),
        _short_amount(group, "saved_usd", "saving_unknown_calls"),
        seconds(number_of(group, "total_s", "p50")) if calls else "–",
        count(number_of(group, "throttled")),
        Words(count(errors), "bad" if errors else "plain"),
    )


def _short_spent(group: Mapping[str, Any]) -> Cell:
    unknown = number_of(group, "cost_unknown_attempts")
    if unknown is None:  # of an older daemon
        return _short_amount(group, "spent_usd", "cost_unknown_calls")
    known, estimate = number_of(group, "spent_usd"), number_of(group, "cost_estimate_usd")
    if not unknown:  # a call may have cost what nobody knows: at another model, on its way here
        return money(known)
    told = f"~{money(estimate)}" if estimate else NOT_KNOWN
    return Words(f"{money(known)} + {told}" if known else told, "doubtful")


def _short_amount(group: Mapping[str, Any], name: str, unknown_name: str) -> Cell:
    usd = number_of(group, name)
    if usd is None:
        return Words(NOT_KNOWN, "doubtful")
    return Words(f"{money(usd)} + unknown", "doubtful") if number_of(group, unknown_name) else money(usd)


def _counts(result: Mapping[str, Any], name: str) -> dict[str, int]:
    found = result.get(name)
    return {str(key): int(value) for key, value in found.items()} if isinstance(found, dict) else {}
