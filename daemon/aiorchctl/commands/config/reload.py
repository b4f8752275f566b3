"""``aiorchctl config reload``: reading the file now."""

from __future__ import annotations

import os

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.verdict import doubts, verdict_words
from aiorchctl.page import Fields


@click.command(
    cls=Command,
    examples=(("aiorchctl config reload && echo live", "Read the file now, and know the verdict:"),),
    exits=((78, "The daemon refused the file; the last good one stays in force."),),
)
@pass_invocation
def reload(invocation: Invocation) -> int:
    """Have the daemon read its file now, and tell the verdict. For administrators.

    A daemon reads its file by itself when it is saved; this is for knowing the verdict, and for keys of providers that have
    changed in their systemd credential.
    """
    with invocation.client() as client:
        verdict = client.config_reload()
    invocation.tell(verdict, lambda result: [Fields([("configuration", verdict_words(result)), *doubts(result)])])
    return os.EX_CONFIG if verdict.get("result") == "refused" else os.EX_OK
