"""``aiorchctl completion``: what makes a shell complete commands, options, keys, profiles and models."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from aiorchctl.command import Command, Invocation, pass_invocation, write_json
from aiorchctl.failures import Failed
from aiorchctl.page import Paragraph, Words

VARIABLE: Final = "_AIORCHCTL_COMPLETE"
"""By which the shell asks; click finds it by the program's name."""

FILES: Final[Mapping[str, tuple[str, str, str]]] = {
    "bash": ("XDG_DATA_HOME", "~/.local/share", "bash-completion/completions/aiorchctl"),
    "zsh": ("", "~", ".zfunc/_aiorchctl"),
    "fish": ("XDG_CONFIG_HOME", "~/.config", "fish/completions/aiorchctl.fish"),
}
"""Where each shell looks for it by itself: a variable, the folder without it, the file below. Bash does so with the package
bash-completion, zsh when ``~/.zfunc`` is in its ``fpath``.
"""


@click.command(
    cls=Command,
    examples=(
        ('eval "$(aiorchctl completion bash)"', "In this shell:"),
        ("aiorchctl completion bash --install", "For good, in every shell that is begun from now on:"),
        (
            "aiorchctl completion zsh --install",
            "The same for zsh, with `fpath+=~/.zfunc; autoload -Uz compinit; compinit` in ~/.zshrc:",
        ),
        ("aiorchctl completion fish | source", "In this fish:"),
    ),
)
@click.argument("shell", type=click.Choice(list(FILES)))
@click.option("--install", is_flag=True, help="Write it to where the shell looks for it, and say where that is.")
@pass_invocation
def completion(invocation: Invocation, shell: str, *, install: bool) -> None:
    """Write the script that makes a shell complete aiorchctl: commands, options, configuration keys and their values,
    profiles and models.

    Names of models come from the configuration file; no daemon is asked. The script calls the aiorchctl that is found by
    $PATH, so it stays right after an upgrade.
    """
    script = script_of(shell)
    if not install:
        if invocation.as_json:
            write_json({"shell": shell, "script": script, "file": str(place_of(shell))})
        else:
            sys.stdout.write(script)
        return
    path = place_of(shell)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script, encoding="utf-8")
    except OSError as error:
        code = os.EX_NOPERM if isinstance(error, PermissionError) else os.EX_SOFTWARE
        raise Failed("cannot_write", f"{path} cannot be written: {error.strerror}", code) from error
    invocation.tell(
        {"shell": shell, "file": str(path)},
        lambda result: [Paragraph(Words(f"wrote {result['file']}; it holds for shells begun from now on", "good"))],
    )


def place_of(shell: str) -> Path:
    """Find where this person's shell looks for the script."""
    variable, otherwise, below = FILES[shell]
    return Path(os.environ.get(variable) or otherwise).expanduser() / below


def script_of(shell: str) -> str:
    """Make the script, with what click has for this shell."""
    from aiorchctl.program import program

    kind = get_completion_class(shell)
    if kind is None:
        raise LookupError(shell)
    maker = kind(program, {}, "aiorchctl", VARIABLE)
    return maker.source_template % maker.source_vars()  # `source()` would look for a bash and judge it first
