"""``aiorchctl ping``: whether a daemon answers, which one, and how fast."""

from __future__ import annotations

import time
from typing import Any

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.asking import LENGTH_OF_TIME
from aiorchctl.page import Page, Paragraph, Words
from aiorchctl.quantities import count as count_of
from aiorchctl.quantities import seconds


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl ping", "Is it there?"),
        ("aiorchd & aiorchctl ping --wait 10s", "Start one, and go on when it answers:"),
        ("aiorchctl ping --count 1000 --json", "How long does a round trip take?"),
    ),
    exits=((69, "No daemon answers."),),
)
@click.option("--count", type=click.IntRange(1, 1_000_000), default=1, metavar="N", help="Ask N times.  [default: 1]")
@click.option(
    "--wait", "wait_s", type=LENGTH_OF_TIME, default=0.0, metavar="TIME", help="Wait so long for one to answer."
)
@pass_invocation
def ping(invocation: Invocation, count: int, wait_s: float) -> None:
    """Ask the daemon for a sign of life, and learn which it is and who you are to it."""
    with invocation.client(wait_s) as client:
        server = client.hello()  # also connects
        times = []
        for _ in range(count):
            began = time.perf_counter()
            client.ping()
            times.append(time.perf_counter() - began)
    times.sort()
    result = {
        "answer": "pong",
        "version": server.version,
        "protocol": server.protocol,
        "uid": server.uid,
        "unit": server.unit,
        "admin": server.admin,
        "count": count,
        "p50_s": times[len(times) // 2],
        "max_s": times[-1],
    }
    invocation.tell(result, page)


def page(result: dict[str, Any]) -> Page:
    """Tell it to a person."""
    took = seconds(result["p50_s"])
    if result["count"] > 1:
        took = f"{took} (median of {count_of(result['count'])}, slowest {seconds(result['max_s'])})"
    who = f"user {result['uid']}" + (", an administrator" if result["admin"] else "")
    return [Paragraph(Words(f"pong from aiorchd {result['version']} in {took}; you are {who}", "good"))]
