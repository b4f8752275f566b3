"""``aiorchctl demo``: see calls being saved, without a daemon, a key or a network."""

from __future__ import annotations

import os
import sys

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.failures import Failed
from aiorchctl.page import Paragraph, show


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl demo", "Watch it:"),
        ("aiorchctl demo --limit 6000", "With a provider that allows four times as much:"),
        ("aiorchctl demo --json > figures.json", "Keep the figures; progress goes to standard error:"),
    ),
    exits=((70, "An answer differs from the direct one, or the saving misses 98 % of what could be saved."),),
)
@click.option(
    "--pages", type=click.IntRange(1, 150), default=150, metavar="N", help="Pages to draw from.  [default: 150]"
)
@click.option(
    "--calls", type=click.IntRange(1, 10_000), default=200, metavar="N", help="Pages each host draws.  [default: 200]"
)
@click.option(
    "--limit",
    type=click.IntRange(60, 1_000_000),
    default=1500,
    metavar="N",
    help="Requests a minute that the provider allows.  [default: 1500]",
)
@pass_invocation
def demo(invocation: Invocation, *, pages: int, calls: int, limit: int) -> int:
    """Tag real pages with four host processes, directly and through aiorchd, and compare.

    The pages are the documentation of some 150 modules of Python's standard library, found on this machine. Four host
    processes, as of a web application, each tag 200 of them drawn at random, with repetition: first with a plain HTTP
    client against a simulated provider that enforces its rate limit, then through a daemon of their own, then again
    after a restart of that daemon. Everything lives in a temporary folder and ends with the demonstration, which takes
    less than a minute.

    What could be saved is what an oracle that knew all calls in advance would save.
    """
    from aiorchctl.demo.household import DemoFailed
    from aiorchctl.demo.pages import PagesFailed
    from aiorchctl.demo.progress import progress_on
    from aiorchctl.demo.scene import Scene
    from aiorchctl.demo.show import run
    from aiorchsim.process import SimulatorFailed

    stream = sys.stderr if invocation.as_json else sys.stdout
    scene = Scene(pages=pages, calls_per_host=calls, requests_per_minute=limit)
    show([Paragraph(scene.introduction())], stream)
    stream.flush()
    try:
        figures = run(scene, progress_on(stream))
    except (DemoFailed, PagesFailed, SimulatorFailed) as error:
        raise Failed("demo", str(error), os.EX_SOFTWARE) from error
    if not invocation.as_json:
        stream.write("\n")
    invocation.tell(figures.to_json() if invocation.as_json else figures, lambda shown: shown.page())
    return os.EX_OK if figures.good else os.EX_SOFTWARE
