"""``aiorchctl config check``: whether a file is right."""

from __future__ import annotations

from typing import Any

import click

from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.config.offline import load_file, to_wire
from aiorchctl.commands.verdict import problem_line
from aiorchctl.page import Page, Paragraph, Words
from aiorchctl.quantities import plural


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl config check", "The file that a daemon started by you would read:"),
        ("aiorchctl config check new.toml && mv new.toml aiorch.toml", "Before putting a file in place:"),
    ),
    exits=((78, "The file is wrong; all that is wrong with it is told."),),
)
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(dir_okay=True))
@pass_invocation
def check(invocation: Invocation, file: str | None) -> None:
    """Check a file as the daemon would, without one, and tell everything that is wrong with it at once."""
    place, loaded = load_file(file)
    result = {
        "ok": True,
        "file": None if place is None else str(place.path),
        "chosen_by": None if place is None else place.rule,
        "fingerprint": loaded.fingerprint,
        "simulated": loaded.simulated,
        "empty": loaded.empty,
        "models": [model.name for model in loaded.config.models],
        "warnings": to_wire(loaded.warnings),
    }
    invocation.tell(result, _check_page)


def _check_page(result: dict[str, Any]) -> Page:
    where = (
        f"{result['file']} (by {result['chosen_by']})" if result["file"] else "no file is named or in the usual places"
    )
    good = "is right" if result["file"] else "the built-in configuration would serve"
    page: list[Any] = [Paragraph(Words(f"{where}: {good}", "good"))]
    if result["simulated"]:
        page.append(Paragraph(Words("It names no models: an embedded simulated one would answer.", "doubtful")))
    else:
        page.append(Paragraph(f"{plural(len(result['models']), 'model')}: {', '.join(result['models'])}"))
    page.extend(Paragraph(Words(f"doubtful: {problem_line(warning)}", "doubtful")) for warning in result["warnings"])
    return page
