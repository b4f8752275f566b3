"""``aiorchctl limits``: what paces each model just now, who waits and for what, and the table of failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

import aiorch
from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.rules import METHOD as RULES_METHOD
from aiorchctl.commands.rules import rules_page
from aiorchctl.commands.watching import SHORTEST_S, watch
from aiorchctl.page import Cell, Column, Page, Paragraph, Table, Words
from aiorchctl.quantities import count, number_of, seconds

_SHOWN: Final = 20
_DAY_S: Final = 86_400


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl limits", "Why does a call wait?"),
        ("aiorchctl limits --watch", "See it live:"),
        ("aiorchctl limits --rules", "What becomes of which failure:"),
        ("aiorchctl limits --json | jq '.targets[].who_waits'", "Who waits, for a program:"),
    ),
)
@click.option("--watch", "watched", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every", type=click.FloatRange(SHORTEST_S, 3600), default=1.0, metavar="SECONDS", help="How often --watch looks."
)
@click.option(
    "--rules", is_flag=True, help="Show instead which error is asked again, asked elsewhere, or ends the call."
)
@pass_invocation
def limits(invocation: Invocation, *, watched: bool, every: float, rules: bool) -> None:
    """Show what paces each model: permits, buckets, closures, and who waits for what.

    A bucket is `configured`, `reported` by the provider in its answers, or `found` from what it refused. Of those who wait you
    see your own; administrators see everybody. docs/limits.md tells how it works.
    """
    if rules:
        with invocation.client() as client:
            invocation.tell(client.call(RULES_METHOD), rules_page)
        return
    if watched:
        watch(invocation, _ask, lambda now, _: page(now), every)
        return
    with invocation.client() as client:
        invocation.tell(_ask(client), page)


def _ask(client: aiorch.Client) -> Any:
    return client.call("limits")


def page(result: Mapping[str, Any]) -> Page:
    """Tell it to a person."""
    targets = [target for target in result.get("targets") or () if isinstance(target, dict)]
    columns: tuple[Column, ...] = (
        Column("model"),
        Column("running", right=True),
        Column("waiting", right=True),
        Column("changed by"),
        Column("state"),
    )
    blocks: list[Any] = [Table(columns, [_permits(target) for target in targets], "Permits")]
    quotas = [row for target in targets for row in _quotas(target)]
    if quotas:
        columns = (
            Column("model"), Column("bucket"), Column("level", right=True), Column("limit", right=True), Column("known"),
            Column("others use", right=True),
        )  # fmt: skip
        blocks.append(Table(columns, quotas, "Buckets"))
    else:
        blocks.append(
            Paragraph("No rate limit is configured, and no provider has told of one or refused anything yet.")
        )
    waiting = [(target, each) for target in targets for each in target.get("who_waits") or ()]
    if waiting:
        columns = (
            Column("model"),
            Column("user"),
            Column("priority"),
            Column("waits", right=True),
            Column("for"),
            Column("call"),
        )
        blocks.append(Table(columns, [_waiting(target, each) for target, each in waiting[:_SHOWN]], "Who waits"))
        if len(waiting) > _SHOWN:
            blocks.append(Paragraph(f"… and {count(len(waiting) - _SHOWN)} more."))
    return blocks


def _permits(target: Mapping[str, Any]) -> list[Cell]:
    changed_s = number_of(target, "permits", "changed_s_ago")
    why = "–"
    if changed_s is not None:
        permits = target.get("permits")
        why = f"{permits.get('changed_by') if isinstance(permits, dict) else '–'}, {seconds(changed_s)} ago"
    return [
        str(target.get("way") or target.get("model")),
        f"{count(number_of(target, 'permits', 'in_use'))} of {count(number_of(target, 'permits', 'limit'))}",
        count(number_of(target, "waiting") or 0),
        why,
        _state(target.get("accounts") or ()),
    ]


def _state(accounts: Sequence[Mapping[str, Any]]) -> Cell:
    closed = max(accounts, key=lambda account: number_of(account, "closed_s") or 0.0, default=None)
    closed_s = None if closed is None else number_of(closed, "closed_s")
    if closed is None or not closed_s:
        return Words("open", "good")
    return Words(f"closed for {seconds(closed_s)}: {closed.get('closed_why')}", "doubtful")


def _quotas(target: Mapping[str, Any]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for account in target.get("accounts") or ():
        for quota in account.get("quotas") or ():
            window = "day" if number_of(quota, "window_s") == _DAY_S else "minute"
            outside = number_of(quota, "outside_per_s") or 0.0
            level, limit = number_of(quota, "level"), number_of(quota, "limit")
            rows.append(
                [
                    str(target.get("way")),
                    f"{str(quota.get('kind')).replace('_', ' ')} a {window}, {account.get('owner')}",
                    "–" if level is None else count(round(level)),
                    "–" if limit is None else count(round(limit)),
                    str(quota.get("source")),
                    f"{outside:.3g}/s" if outside else "–",
                ]
            )
    return rows


def _waiting(target: Mapping[str, Any], each: Mapping[str, Any]) -> list[Cell]:
    unit = each.get("unit")
    return [
        str(target.get("way")),
        str(each.get("uid")) + (f" ({unit})" if unit not in (None, "user") else ""),
        str(each.get("priority")),
        seconds(number_of(each, "waits_s")),
        str(each.get("waits_for")),
        str(each.get("call")),
    ]
