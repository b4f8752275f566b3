"""``aiorchctl explain``: the story of one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.page import Cell, Column, Fields, Page, Paragraph, Table, Tone, Words
from aiorchctl.quantities import NOT_KNOWN, cost, count, moment, money, number_of, plural, seconds

_HOW = (
    ("miss", "asked a provider"),
    ("exact", "the same question was answered before: taken from the cache"),
    ("normalised", "a question that differs only in noise was answered before: taken from the cache"),
    ("semantic", "a question that is nearly the same was answered before: its answer, which is right very probably"),
    ("coalesced", "an equal question was under way: shared its answer"),
    ("stale", "an old answer from the cache, since no provider could be asked"),
    ("none", "ended without an answer"),
)


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl explain 71f7adeee1ef-2", "Why did it take so long, and what did it cost?"),
        ("aiorchctl complete --json 'Hi' | jq -r .id | xargs aiorchctl explain", "Ask, and see what happened:"),
    ),
    exits=((64, "No such call is known; old ones are trimmed."), (77, "It is somebody else's.")),
)
@click.argument("request_id", metavar="ID")
@pass_invocation
def explain(invocation: Invocation, request_id: str) -> None:
    """Tell the story of one call: who asked, what each part decided, attempts, waits and price.

    ID is the id of a reply. Your own calls; administrators see everybody's.
    """
    with invocation.client() as client:
        invocation.tell(client.explain(request_id), page)


def page(story: dict[str, Any]) -> Page:
    """Tell it to a person as a timeline, then that of the call whose answer it got."""
    return [*_tell(story, f"Call {story.get('id')}"), *_sources(story)]


def _sources(story: Mapping[str, Any]) -> Page:
    source = story.get("source")
    if not isinstance(source, dict):
        return []
    name = source.get("id")
    if source.get("kept") is False:
        return [Paragraph(Words(f"Its answer is that of call {name}, which is not on record any more.", "quiet"))]
    if "timing" not in source:
        words = (
            f"Its answer is that of call {name} of another user, by {source.get('model')} at {source.get('provider')}."
        )
        return [Paragraph(Words(words, "quiet"))]
    return [*_tell(source, f"Its answer is that of call {name}"), *_sources(source)]


def _tell(story: Mapping[str, Any], title: str) -> Page:
    blocks: list[Any] = [Fields(_summary(story), title)]
    told = story.get("story")
    told = told if isinstance(told, dict) else {}
    events = _timeline(told)
    if events:
        blocks.append(Table((Column("after", right=True), Column("who"), Column("what")), events, "What happened"))
    attempts = told.get("attempts")
    if isinstance(attempts, list) and attempts:
        blocks.append(_attempts(attempts))
    return blocks


def _summary(story: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    error = story.get("error")
    cache = str(story.get("cache"))
    rows: list[tuple[str, Cell]] = [
        ("asked", f"{moment(number_of(story, 'at'))} by {_who(story)}"),
        ("what", " ".join(str(story[name]) for name in ("kind", "operation", "task") if story.get(name))),
        ("how", Words(dict(_HOW).get(cache, cache), "bad" if error else "good")),
    ]
    if error:
        told = story.get("story")
        details = told.get("error") if isinstance(told, dict) else None
        message = f"{error}"
        if isinstance(details, dict):
            message += f": {details.get('message')}" + (
                f" (decided by {details['stage']})" if details.get("stage") else ""
            )
        rows.append(("error", Words(message, "bad")))
    if story.get("model"):
        at = f" at {story['provider']}" if story.get("provider") else ""
        simulated = " (simulated: no real model answered)" if story.get("simulated") else ""
        rows.append(("model", f"{story['model']}{at}{simulated}"))
    rows.append(("time", _time(story)))
    usage = _usage(story)
    if usage:
        rows.append(("tokens", usage))
    rows.append(("money", _money(story)))
    source = _price_source(story)
    if source:
        rows.append(("price from", source))
    tags = story.get("tags")
    if tags:
        rows.append(("tags", ", ".join(map(str, tags)) if isinstance(tags, list) else str(tags)))
    return rows


def _who(story: Mapping[str, Any]) -> str:
    unit = story.get("unit")
    return f"user {story.get('uid')}, process {story.get('pid')}" + (
        f", unit {unit}" if unit and unit != "user" else ""
    )


def _time(story: Mapping[str, Any]) -> str:
    parts = (("queue_s", "waiting"), ("provider_s", "at the provider"), ("overhead_s", "in the daemon"))
    told = ", ".join(f"{seconds(number_of(story, 'timing', name))} {words}" for name, words in parts)
    return f"{seconds(number_of(story, 'timing', 'total_s'))}: {told}"


def _usage(story: Mapping[str, Any]) -> str:
    names = (
        ("input", "in"),
        ("cache_read", "read from the provider's cache"),
        ("cache_write", "written to it"),
        ("output", "out"),
        ("reasoning", "of reasoning"),
    )
    return ", ".join(f"{count(number)} {word}" for name, word in names if (number := number_of(story, "usage", name)))


def _money(story: Mapping[str, Any]) -> Cell:
    whole, unknown = number_of(story, "cost_usd"), int(number_of(story, "cost_unknown_attempts") or 0)
    if whole is None and unknown:
        known, estimate = number_of(story, "cost_known_usd"), number_of(story, "cost_estimate_usd")
        told = f"known: {money(known)}; beside it {plural(unknown, 'attempt')} of unknown cost"
        return Words(told if estimate is None else f"{told}, counted as ~{money(estimate)} (estimate)", "doubtful")
    if whole is None:
        return Words("cost unknown: the model has no price in the configuration, or told no usage", "doubtful")
    if story.get("cache") in ("miss", "none"):
        return f"cost {money(whole)}"
    return f"cost {money(whole)}, saved {money(number_of(story, 'saved_usd'))}"


def _price_source(story: Mapping[str, Any]) -> str:
    """Say where the price of the last attempt is from."""
    told = story.get("story")
    attempts = told.get("attempts") if isinstance(told, dict) else None
    last = attempts[-1] if isinstance(attempts, list) and attempts else None
    source = last.get("price_source") if isinstance(last, dict) else None
    known = {"configuration": "the configuration", "registered": "the process that registered the model"}
    return known.get(source, f"the bundled table: {source}") if isinstance(source, str) else ""


def _timeline(told: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    """Put what the stages noted and when attempts began in one order."""
    notes = [note for note in told.get("notes") or () if isinstance(note, list) and len(note) == 3]
    events: list[tuple[float, str, str, Tone]] = [
        (float(note[0]), str(note[1]), str(note[2]), "plain") for note in notes
    ]
    for attempt in told.get("attempts") or ():
        if isinstance(attempt, dict):
            began = number_of(attempt, "began_s") or 0.0
            what = f"attempt {attempt.get('number')} began: {attempt.get('model')} at {attempt.get('provider')}"
            if attempt.get("key"):
                what += f" with the key from {attempt['key']}"
            if attempt.get("hedge"):
                what += ", a second try beside the first"
            events.append((began, "attempt", what, "plain"))
            ended = began + sum(number_of(attempt, name) or 0.0 for name in ("queue_s", "provider_s"))
            lost = attempt.get("race") == "lost"
            tone: Tone = "quiet" if lost else "good" if attempt.get("verdict") == "ok" else "bad"
            events.append((ended, "attempt", f"attempt {attempt.get('number')} ended: {_ending(attempt)}", tone))
    events.sort(key=lambda event: event[0])
    return [(seconds(at), who, Words(what, tone)) for at, who, what, tone in events]


def _ending(attempt: Mapping[str, Any]) -> str:
    if attempt.get("race") == "lost":
        return "given up, for the other try answered first"
    if attempt.get("verdict") == "ok":
        return "answered first" if attempt.get("race") == "won" else "answered"
    parts = [str(attempt.get("code") or attempt.get("verdict"))]
    if attempt.get("message"):
        parts.append(str(attempt["message"]))
    return ": ".join(parts)


def _attempts(attempts: list[Any]) -> Table:
    budgeted = any(isinstance(one, dict) and number_of(one, "reserved_usd") is not None for one in attempts)
    raced = any(isinstance(one, dict) and (one.get("hedge") or one.get("race")) for one in attempts)
    columns = (
        Column("attempt", right=True),
        Column("model"),
        *((Column("side by side"),) if raced else ()),
        Column("began", right=True),
        Column("waited", right=True),
        Column("provider", right=True),
        Column("first token", right=True),
        Column("status", right=True),
        Column("tokens", right=True),
        Column("cost", right=True),
        *((Column("reserved", right=True), Column("counted", right=True)) if budgeted else ()),
        Column("told to wait", right=True),
    )
    rows = [
        (
            count(number_of(attempt, "number")),
            str(attempt.get("model")),
            *((_side(attempt),) if raced else ()),
            seconds(number_of(attempt, "began_s")),
            seconds(number_of(attempt, "queue_s")),
            seconds(number_of(attempt, "provider_s")),
            *(_or_dash(attempt, name, seconds) for name in ("first_token_s",)),
            "not sent" if attempt.get("sent") is False else str(attempt.get("status", "–")),
            _or_dash(attempt, "tokens", count),
            _cost(attempt),
            *((_or_dash(attempt, "reserved_usd", money), _counted(attempt)) if budgeted else ()),
            _or_dash(attempt, "retry_after_s", seconds),
        )
        for attempt in sorted(attempts, key=_number)
        if isinstance(attempt, dict)
    ]
    return Table(columns, rows, "Attempts")


def _number(attempt: Any) -> float:
    return (number_of(attempt, "number") or 0.0) if isinstance(attempt, dict) else 0.0


def _side(attempt: Mapping[str, Any]) -> str:
    which = "second try" if attempt.get("hedge") else "first try" if attempt.get("race") else "–"
    return f"{which}, {attempt['race']}" if attempt.get("race") else which


def _cost(attempt: Mapping[str, Any]) -> str:
    """Say what it cost: billed, not billed, or nobody said."""
    if number_of(attempt, "cost_usd") is None and number_of(attempt, "cost_estimate_usd") is None:
        return NOT_KNOWN if attempt.get("verdict") == "ok" else "–"
    return cost(attempt)


def _counted(attempt: Mapping[str, Any]) -> str:
    """What the budgets count for it."""
    told = _or_dash(attempt, "settled_usd", money)
    return f"{told} (estimate)" if attempt.get("settled_by_estimate") else told


def _or_dash(attempt: Mapping[str, Any], name: str, written: Any) -> str:
    number = number_of(attempt, name)
    return "–" if number is None else str(written(number))
