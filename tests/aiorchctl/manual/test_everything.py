"""What is made from the programs and the schema is what stands in the tree, and every command teaches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from aiorchctl.command import Command, Group
from aiorchctl.manual.everything import documents
from aiorchctl.program import program
from aiorchd.config.key import fields_of
from aiorchd.config.schema import Model, Provider, sections, top_keys

ROOT = Path(__file__).resolve().parents[3]
MADE = documents()


def commands(group: click.Group = program, before: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield " ".join((*before, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))


@pytest.mark.parametrize("name", MADE)
def test_the_tree_holds_what_is_made(name):
    assert (ROOT / name).read_text(encoding="utf-8") == MADE[name], "run: make docs"


def test_nothing_else_lies_among_the_pages():
    assert {f"man/{path.name}" for path in (ROOT / "man").iterdir()} == {name for name in MADE if "man/" in name}


def test_every_page_is_packed():
    packed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in MADE:
        if name.startswith("man/"):
            assert f'"{name}" = "share/man/man{name[-1]}/{name.removeprefix("man/")}"' in packed


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_every_command_teaches(name, command):
    """A purpose in a sentence, examples that begin with a command of this project, options that say what they do."""
    assert isinstance(command, Command | Group)
    assert command.help, name
    assert command.get_short_help_str(1000).endswith("."), name
    assert command.examples, name
    for line, meaning in command.examples:
        assert f"aiorchctl {name}" in line, (name, line)
        assert meaning.endswith((":", "?")), (name, meaning)
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, (name, param.opts)


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_both_documents_tell_of_every_command_and_option(name, command):
    page, text = MADE["man/aiorchctl.1"], MADE["docs/commands.md"]
    assert f'.SS "aiorchctl {name}"' in page
    begin = text.index(f"#### aiorchctl {name}\n")
    told = text[begin : text.find("####", begin + 5)]
    for param in command.params:
        if isinstance(param, click.Option) and not {"--json", "--socket"} & set(param.opts):
            assert all(option in told for option in (*param.opts, *param.secondary_opts)), (name, param.opts)


def test_the_page_of_the_file_tells_of_every_key():
    text = MADE["man/aiorch.toml.5"]
    for kind in (*sections().values(), Provider, Model):
        for key in fields_of(kind):
            assert f"\\fB{key}" in text
    assert all(f"\\fB{key}" in text for key in top_keys())
