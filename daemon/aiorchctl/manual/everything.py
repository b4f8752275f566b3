"""Every document that is made and not written, by its place in the checkout: so that one command makes them and one test
holds them to their sources.
"""

from __future__ import annotations

from aiorchctl.manual.commands import aiorchctl
from aiorchctl.manual.configuration import aiorch_toml
from aiorchctl.manual.markdown import markdown
from aiorchctl.manual.programs import aiorchd, aiorchsim
from aiorchctl.manual.roff import roff
from aiorchd.config.json_schema import json_schema_text
from aiorchd.config.manual import manual
from aiorchd.config.reference import reference

_OPENING = (
    "<!-- Made from the programs: make docs -->",
    "",
    "What each program and command is for, its options, examples and exit codes: the words of `--help` and of the manual",
    "pages aiorchctl(1), aiorchd(8), aiorchsim(1). The file they read is in [configuration.md](configuration.md).",
)


def documents() -> dict[str, str]:
    """Make them all."""
    pages = [aiorchctl(), aiorchd(), aiorchsim()]
    return {
        "config/aiorch.toml": manual(),
        "config/aiorch.schema.json": json_schema_text(),
        "docs/configuration.md": reference(),
        "docs/commands.md": markdown("Commands", _OPENING, pages),
        **{f"man/{page.file}": roff(page) for page in (*pages, aiorch_toml())},
    }
