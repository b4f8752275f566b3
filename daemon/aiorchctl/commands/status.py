"""``aiorchctl status``: whether the daemon is well, with what configuration, and what it is doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.batching import batching_tables
from aiorchctl.commands.fill import fill_fields
from aiorchctl.commands.semantic import semantic_fields
from aiorchctl.commands.targets import targets_table
from aiorchctl.commands.verdict import doubts, verdict_words
from aiorchctl.page import Cell, Column, Fields, Page, Paragraph, Table, Tone, Words
from aiorchctl.quantities import count, moment, number_of, plural, seconds, size


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl status", "Is it well?"),
        ("aiorchctl status --json | jq .config.verdict.problems", "What is wrong with the file it refused?"),
    ),
    exits=((0, "A daemon answers, whatever its health is."), (69, "None does.")),
)
@pass_invocation
def status(invocation: Invocation) -> None:
    """Show the daemon's health, configuration, models, cache and stores: what is wrong first.

    Its health is `ok`, `degraded` (it serves, and something is wrong with its files, its configuration or a key) or
    `stopping`. docs/statistics.md explains every name that `--json` gives.
    """
    with invocation.client() as client:
        invocation.tell(client.status(), page)


def page(result: dict[str, Any]) -> Page:
    """Tell it to a person: what is wrong first."""
    health = str(result.get("health"))
    tone: Tone = "good" if health == "ok" else "doubtful" if health == "stopping" else "bad"
    opening = (
        f"aiorchd {result.get('version')} is {health}, generation {count(number_of(result, 'generation'))}, "
        f"up {seconds(number_of(result, 'uptime_s'))} (since {moment(number_of(result, 'started_at'))})"
    )
    blocks: list[Any] = [Paragraph(Words(opening, tone))]
    blocks += [Paragraph(Words(f"! {concern}", "bad")) for concern in result.get("concerns") or ()]
    if result.get("simulated"):
        blocks.append(
            Paragraph(
                Words(
                    "! No model is configured: an embedded simulated one answers, and nothing is kept on disk.",
                    "doubtful",
                )
            )
        )
    blocks.append(Fields(_places(result)))
    models = result.get("models")
    if isinstance(models, list) and models:
        blocks.append(targets_table(models, prices=False))
    cache = _map(_map(result, "stages"), "cache")
    if cache:
        blocks.append(fill_fields(cache, "Cache"))
    semantic = _map(result, "semantic")
    if semantic.get("enabled"):
        blocks.append(semantic_fields(semantic))
    blocks += batching_tables(result.get("batching"))
    blocks.append(Fields(_doing(result), "Now"))
    stores = _stores(_map(_map(result, "store"), "files"))
    if stores.rows:
        blocks.append(stores)
    return blocks


def _places(result: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    config = _map(result, "config")
    rows: list[tuple[str, Cell]] = [("configuration", _by(config.get("path"), config.get("rule")))]
    verdict = _map(config, "verdict")
    if verdict:
        rows.append(("last look at it", verdict_words(verdict)))
        rows.extend(doubts(verdict))
    overrides = _map(config, "overrides")
    if overrides:
        rows.append(("overrides", Words(", ".join(overrides), "doubtful")))
    for name in ("socket", "state"):
        place = _map(result, name)
        if place:
            rows.append((name, _by(place.get("path"), place.get("rule"))))
    rows.append(("process", str(result.get("pid"))))
    return rows


def _by(path: Any, rule: Any) -> str:
    if not path:
        return str(rule)
    return f"{path} (by {rule})" if rule and rule != path else str(path)


def _doing(result: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    door, stages = _map(result, "door"), _map(result, "stages")
    rows: list[tuple[str, Cell]] = []
    connections = number_of(door, "connections")
    if connections is not None:
        in_flight = plural(int(number_of(door, "in_flight") or 0), "request")
        rows.append(("hosts", f"{plural(int(connections), 'connection')}, {in_flight} in flight"))
    observe = _map(stages, "observe")
    if observe:
        told = f"{count(number_of(observe, 'inside'))} under way; since the generation began " + ", ".join(
            f"{count(number_of(observe, name))} {word}"
            for name, word in (
                ("hits", "hits"),
                ("answered", "answered"),
                ("failed", "failed"),
                ("cancelled", "cancelled"),
            )
            if number_of(observe, name) is not None
        )
        rows.append(("calls", told))
    coalesce = _map(stages, "coalesce")
    if coalesce:
        flights = int(number_of(coalesce, "flights") or 0)
        rows.append(
            ("shared flights", f"{count(flights)} for {plural(int(number_of(coalesce, 'passengers') or 0), 'call')}")
        )
    transport = _map(result, "transport")
    if "in_use" in transport:
        under_way, waiting, idle = (int(number_of(transport, name) or 0) for name in ("in_use", "waiting", "idle"))
        told = f"{plural(under_way, 'request')} under way, {count(waiting)} waiting, {plural(idle, 'connection')} idle"
        rows.append(("providers", told))
    return rows


def _stores(files: Mapping[str, Any]) -> Table:
    """Show the files of the state directory."""
    rows: list[tuple[Cell, ...]] = []
    for name in files:
        file = _map(files, name)
        state: Cell = Words("ok", "good")
        if file.get("state") != "ok":
            since = f" since {moment(number_of(file, 'since'))}" if file.get("since") else ""
            state = Words(f"{file.get('state')}{since}: {file.get('fault') or 'no details'}", "bad")
        faults = number_of(file, "faults") or 0
        rows.append(
            (str(name), size(number_of(file, "bytes")), Words(count(faults), "doubtful" if faults else "plain"), state)
        )
    columns = (Column("store"), Column("size", right=True), Column("faults", right=True), Column("state"))
    return Table(columns, rows, "Stores")


def _map(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
