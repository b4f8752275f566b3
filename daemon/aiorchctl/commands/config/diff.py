"""``aiorchctl config diff``: which settings are not the built-in ones, what each layer says, and what is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

import aiorch
from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.config.names import by_name, model_names, provider_names
from aiorchctl.commands.config.offline import find_file, load_file, to_wire
from aiorchctl.commands.config.show import literal
from aiorchctl.commands.verdict import problem_line
from aiorchctl.page import Cell, Column, Page, Paragraph, Table, Words

LAYERS: Final = ("built-in", "profile", "file", "environment", "override")


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl config diff", "What is not the default, and who says so:"),
        ("aiorchctl config diff --all", "Every key:"),
        ("aiorchctl config diff new.toml", "What a file would change; needs no daemon:"),
    ),
    exits=((78, "The file it should show is wrong."),),
)
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--all", "every", is_flag=True, help="Also keys that nothing sets.")
@pass_invocation
def diff(invocation: Invocation, file: str | None, *, every: bool) -> None:
    """Show the settings of each layer (built-in, profile, file, environment, override) side by side with what is live.

    For administrators; without a daemon, or with a FILE, it shows what that file means.
    """
    told = _offline(file) if file is not None else None
    if told is None:
        try:
            with invocation.client() as client:
                told = _live(client)
        except (aiorch.Unreachable, aiorch.Forbidden) as error:
            told = _offline(None)
            told["without"] = str(error) if isinstance(error, aiorch.Forbidden) else "no daemon answers"
    told["keys"] = _rows(told, every=every)
    del told["layers"], told["in_force"]
    invocation.tell(told, _page)


def _live(client: aiorch.Client) -> dict[str, Any]:
    """Ask the daemon, and look at the file: it may hold something else by now."""
    told = client.config_layers()
    told["problems"], told["unread"], told["without"] = [], False, None
    if told["path"] is None:
        return told
    from aiorchctl.config_file import read_file
    from aiorchd.config.load import load_text
    from aiorchd.config.problems import ConfigError

    path = Path(told["path"])
    try:
        found = load_text(read_file(path).content, path, {}, overrides=_environment(told))
    except ConfigError as error:
        told["problems"] = to_wire(error.problems)
        return told
    held = next((dict(layer.values) for layer in found.layers if layer.name == "file"), {})
    told["unread"] = held != _layer(told, "file")
    return told


def _layer(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    for layer in told["layers"]:
        if layer["name"] == name:
            return dict(layer["values"])
    return {}


def _environment(told: Mapping[str, Any]) -> dict[tuple[str | int, ...], Any]:
    """Give what the daemon's environment sets, so that a file which relies on it is not called wrong."""
    from aiorchd.config.address import find_address

    names = provider_names(told["in_force"])
    set_there = _layer(told, "environment")
    return {find_address(key, providers=names, models=()).whole: value for key, value in set_there.items()}


def _offline(file: str | None) -> dict[str, Any]:
    from aiorchd.config.compare import flatten

    place = find_file(file)
    _, loaded = load_file(file)
    return {
        "path": None if place is None else str(place.path),
        "layers": [
            {"name": layer.name, "source": layer.source, "values": dict(layer.values)} for layer in loaded.layers
        ],
        "in_force": flatten(loaded.config),
        "restart_needed": [],
        "problems": [],
        "unread": False,
        "without": "",
    }


def _rows(told: Mapping[str, Any], *, every: bool) -> dict[str, dict[str, Any]]:
    """Put the layers side by side, by key: models by name, and of several profiles the uppermost that sets it."""
    in_force: Mapping[str, Any] = told["in_force"]
    models = model_names(in_force)
    rows: dict[str, dict[str, Any]] = {}
    for layer in told["layers"]:
        for key, value in layer["values"].items():
            row = rows.setdefault(by_name(key, models), {})
            row[layer["name"]] = value
            if layer["name"] == "profile":
                row["profile_name"] = layer["source"]
    for key, value in in_force.items():
        rows.setdefault(by_name(key, models), {})["live"] = value
    for key, row in rows.items():
        table, _, entry = key.rpartition(".")
        if "live" not in row and isinstance(rows.get(table, {}).get("live"), dict):
            row["live"] = rows[table]["live"].get(entry)  # one entry of a key that is a table
    in_order = [by_name(key, models) for key in in_force]
    in_order += [key for key in rows if key not in set(in_order)]
    return {key: rows[key] for key in in_order if every or any(name in rows[key] for name in LAYERS[1:])}


def _page(told: dict[str, Any]) -> Page:
    page: list[Any] = []
    path = told["path"]
    if told["without"]:
        page.append(Paragraph(Words(f"{told['without']}: this is what the file means, not what is live", "doubtful")))
    if told["problems"]:
        listed = "\n".join(problem_line(problem) for problem in told["problems"])
        page.append(
            Paragraph(Words(f"the file is wrong, and what was read of it before stays in force:\n{listed}", "bad"))
        )
    elif told["unread"]:
        page.append(Paragraph(Words(f"{path} says something else by now: aiorchctl config reload", "doubtful")))
    rows = told["keys"]
    if not rows:
        page.append(Paragraph(f"every key is at its default ({path or 'no file is read'})"))
        return page
    shown = [name for name in LAYERS[1:] if any(name in row for row in rows.values())]
    live = "live" if told["without"] is None else "would be"
    columns = [Column("key"), Column("built-in"), *(Column(name) for name in shown), Column(live)]
    waiting = set(told["restart_needed"])
    page.append(Table(columns, [_cells(key, row, shown, waiting) for key, row in rows.items()], path))
    return page


def _cells(key: str, row: Mapping[str, Any], shown: Sequence[str], waiting: set[str]) -> list[Cell]:
    winner = next((name for name in reversed(LAYERS) if name in row), None)
    cells: list[Cell] = [key]
    for name in ("built-in", *shown):
        if name not in row or (name == "built-in" and row[name] is None):
            cells.append("")
            continue
        text = literal(row[name])
        if name == "profile":
            text += f" ({row['profile_name']})"
        cells.append(Words(text, "good" if name == winner else "quiet"))
    live = "" if row.get("live") is None else literal(row["live"])
    cells.append(Words(f"{live} after a restart", "doubtful") if key in waiting else Words(live, "strong"))
    return cells
