"""``aiorchctl config schema``: the schema for editors, and the manual."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.failures import Failed
from aiorchctl.page import Paragraph, Words


@click.command(
    cls=Command,
    examples=(
        (
            "aiorchctl config schema -o ~/.config/aiorch/aiorch.schema.json",
            "For an editor (taplo, Even Better TOML); then begin the TOML with `#:schema ./aiorch.schema.json`:",
        ),
        ("aiorchctl config schema --manual | less", "Every key with its meaning and default, as TOML:"),
    ),
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there.")
@click.option("--manual", is_flag=True, help="The commented TOML with every key at its default, instead of the schema.")
@pass_invocation
def schema(invocation: Invocation, output: str | None, *, manual: bool) -> None:
    """Write the JSON Schema of the configuration file, so that editors complete, explain and check it."""
    if manual:
        from aiorchd.config.manual import manual as manual_text

        text = manual_text()
    else:
        from aiorchd.config.json_schema import json_schema_text

        text = json_schema_text()
    if output is None:
        sys.stdout.write(text)
        return
    try:
        Path(output).expanduser().write_text(text, encoding="utf-8")
    except OSError as error:
        code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_SOFTWARE
        raise Failed("cannot_write", f"{output} cannot be written: {error.strerror}", code) from error
    invocation.tell({"file": output}, lambda result: [Paragraph(Words(f"wrote {result['file']}", "good"))])
