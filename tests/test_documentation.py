"""The documents and the programs say the same, in both directions.

What is made from the source (docs/commands.md, docs/configuration.md, man/, config/) is held to it in
tests/aiorchctl/manual; here is what people write: methods and their arguments, statistics, and everything that prose
mentions: commands, options, keys, variables, links, examples.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from processes import daemon

import aiorch
from aiorch.errors import CALL_ERRORS, CallError
from aiorchctl.failures import OWN_CODES
from aiorchctl.program import program
from aiorchd.app import options as daemon_options
from aiorchd.config.address import AddressError, find_address
from aiorchd.config.document_names import DOCUMENT_NAMES
from aiorchd.config.key import fields_of
from aiorchd.config.later import NOT_YET
from aiorchd.config.load import load_text
from aiorchd.config.schema import CallerTable, Model, Operation, Provider, sections, top_keys
from aiorchd.doors.methods import method_table
from aiorchd.runtime.host_models import HostModels
from aiorchsim import options as simulator_options
from aiorchsim.process import start_simulator

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
MENTIONING = [*DOCUMENTS, ROOT / "config" / "aiorch.toml", *sorted((ROOT / "systemd").rglob("aiorch*"))]
SOURCES = sorted((ROOT / "daemon").rglob("*.py")) + sorted((ROOT / "client").rglob("*.py"))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def document(name: str) -> str:
    return text_of(ROOT / "docs" / name)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """Inline code."""
    without_blocks = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", without_blocks)]


def table(text: str, heading: str) -> list[list[str]]:
    section = text.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    return [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]


def code_words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# --- methods


QUESTIONS: Any = SimpleNamespace(complete=None, embed=None)
METHODS = method_table(
    QUESTIONS,
    SimpleNamespace(
        __getattr__=None,
        **dict.fromkeys(  # type: ignore[arg-type]
            ("models", "cache_stats", "config_reload", "status")
        ),
    ),
    HostModels(),
    lambda: QUESTIONS,
)
TOLD_METHODS = {code_words(row[0])[0].strip(): row for row in table(document("protocol.md"), "### The other methods")}


def test_every_method_is_told_and_no_other():
    assert set(TOLD_METHODS) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_the_arguments_of_a_method(name):
    row = TOLD_METHODS[name]
    if row[1] == "see above":
        told = {
            word
            for line in table(document("protocol.md"), f"### `{name}`")
            if len(line) == (3 if name == "complete" else 2)
            for word in code_words(line[0])
        }
    else:
        told = set(code_words(re.sub(r"\([^)]*\)", "", row[1])))
    assert told == METHODS[name].takes, f"the arguments of {name} in docs/protocol.md"


@pytest.mark.parametrize("name", METHODS)
def test_who_may_call_a_method(name):
    assert (TOLD_METHODS[name][3] == "admins") == METHODS[name].admin_only


# --- statistics


PROFILE = """
[[models]]
name = "good-1"
[[models]]
name = "broken-1"
fault = "error_500"
"""
CONFIG = """
[providers.main]
base_url = "{}"
[retry]
backoff_s = [0.001]
[[models]]
name = "good"
provider = "main"
id = "good-1"
input_usd_per_1m = 1.0
output_usd_per_1m = 2.0
[[models]]
name = "broken"
provider = "main"
id = "broken-1"
[routing]
fallback = []
[operations.tag]
models = ["good"]
batch_size = 4
[budget]
per_day_usd = 5.0
[cache.semantic]
enabled = true
embedding_model = "good"
"""


def names_in(value: Any, before: str = "") -> Iterator[str]:
    """Every leaf by its dotted name; ``{}`` stands for what an empty map would hold."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from names_in(inner, f"{before}.{name}" if before else name)
        if not value:
            yield f"{before}.{{}}"
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for inner in value:
            yield from names_in(inner, f"{before}[]")
    else:
        yield before


def told_statistics(section: str) -> dict[str, str]:
    """The names of one part of docs/statistics.md, each with its heading."""
    text = document("statistics.md").split(f"\n## `{section}`\n", 1)[1].split("\n## ", 1)[0]
    found, prefix = {}, ""
    for line in text.splitlines():
        if line.startswith("### "):
            prefix = code_words(line)[0] + "."
        elif line.startswith("| `"):
            for name in code_words(line.split("|")[1]):
                found[prefix + name] = line
    return found


def pattern(told: str) -> re.Pattern[str]:
    """What a told name stands for; words in capitals stand for any name."""
    parts = re.split(r"\b([A-Z]{3,})\b", told)
    return re.compile("".join(r"(?:[^\[\]]+?)" if number % 2 else re.escape(part) for number, part in enumerate(parts)))


@pytest.fixture(scope="module")
def told_by_a_daemon(tmp_path_factory) -> dict[str, set[str]]:
    """The names in ``stats`` and ``status`` of a daemon that has served, failed, been overridden and refused a file."""
    with start_simulator(PROFILE) as simulator:
        folder = tmp_path_factory.mktemp("d")
        with daemon(folder, CONFIG.format(simulator.base_url)) as process, aiorch.Client(str(process.socket)) as client:
            for _ in range(2):
                client.complete("What is 6 * 7?", model="good")
            client.complete(operation="tag", input="cats and dogs")
            with pytest.raises(CallError):
                client.complete("What is 6 * 7?", model="broken")
            client.config_override("cache.ttl_s", 60)
            stats = client.call("stats", by="model")
            process.config.write_text("no = 1\n", encoding="utf-8")
            client.config_reload()
            found = {"stats": set(names_in(stats)), "status": set(names_in(client.status()))}
    found["stats"] = {name.removeprefix("groups[].") for name in found["stats"]} | {"groups[]"}
    return found


@pytest.mark.parametrize("section", ["stats", "status"])
def test_every_statistic_is_told(section, told_by_a_daemon):
    patterns = [pattern(told) for told in told_statistics(section)] + [re.compile("name")] * (section == "stats")
    missing = sorted(name for name in told_by_a_daemon[section] if not any(each.fullmatch(name) for each in patterns))
    assert not missing, f"tell what these are in docs/statistics.md, section `{section}`"


@pytest.mark.parametrize("section", ["stats", "status"])
def test_every_told_statistic_is_there(section, told_by_a_daemon):
    idle = [
        told for told in told_statistics(section) if not any(map(pattern(told).fullmatch, told_by_a_daemon[section]))
    ]
    assert not idle, f"docs/statistics.md tells of what `{section}` does not give"


# --- codes of errors


def test_every_code_of_the_command_line_is_told_and_used():
    used: set[str] = set()
    for path in (ROOT / "daemon" / "aiorchctl").rglob("*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"Failed": 0, "_details": 0, "_failure": 1}.get(node.func.id)
                argument = node.args[place] if place is not None and len(node.args) > place else None
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    used.add(argument.value)
    assert used - {known.code for known in CALL_ERRORS} | {"forbidden", "not_found"} == set(OWN_CODES)


# --- commands, options, keys and variables that prose mentions


OPTIONS = {
    "aiorchd": {name for action in daemon_options.parser()._actions for name in action.option_strings},
    "aiorchsim": {name for action in simulator_options.parser()._actions for name in action.option_strings},
}


def mentioned(path: Path) -> Iterator[str]:
    """Command lines of this project's programs: in inline code and in blocks, or, elsewhere than in Markdown, between
    backticks and in settings of units.
    """
    text = text_of(path)
    lines = spans(re.sub(r"(?m)^# ?", "", text) if path.suffix != ".md" else text)
    if path.suffix == ".md":
        lines += [line for block in blocks(text, r"\w*") for line in block.splitlines()]
    else:
        lines += [line.partition("=")[2] for line in text.splitlines() if line.startswith("Exec")]
    for line in lines:
        for match in re.finditer(
            r"(?:^|[\s/(\"])(aiorch(?:ctl|d|sim))(?= )([^|&;>#)\"]*(?:\|[a-z][^|&;>#)\"]*)*)", line
        ):
            yield match[1] + match[2]


def check_line(line: str) -> None:
    """Walk along one command line as far as it names commands and options."""
    name, *words = line.split()
    if name != "aiorchctl":
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in OPTIONS[name], line
        return
    command: click.Command = program
    known = {"-h", "--help"}
    for number, word in enumerate(words):
        known |= {
            option
            for param in command.params
            if isinstance(param, click.Option)
            for option in (*param.opts, *param.secondary_opts)
        }
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0].rstrip("].,") in known, f"{line}: there is no option {word}"
        elif isinstance(command, click.Group) and not (number and words[number - 1] == "--socket"):
            if not re.fullmatch(r"[a-z][a-z|-]*", word):
                return
            if command is program and word in COMING:
                return
            inner = [command.get_command(click.Context(command), one) for one in word.split("|")]
            assert None not in inner, f"{line}: there is no command {word}"
            command = inner[0] or command


COMING: frozenset[str] = frozenset()
"""Commands that documents tell of already. One that has come must leave this list."""


def test_what_is_coming_has_not_come():
    assert not COMING & set(program.list_commands(click.Context(program)))


LINES = sorted({(named(path), line) for path in MENTIONING for line in mentioned(path)})


def test_command_lines_are_found():
    assert len(LINES) > 100


@pytest.mark.parametrize("path", sorted({path for path, _ in LINES}))
def test_commands_that_are_mentioned_exist(path):
    for line in (line for where, line in LINES if where == path):
        check_line(line)


def known_key(key: str) -> bool:
    names = [*sections(), "providers", "models", *NOT_YET]
    if key in NOT_YET or any(key.startswith(f"{name}.") for name in NOT_YET if name not in sections()):
        return True
    key = re.sub(r"^(providers|models)\.(?:NAME|\*)\.", r"\1.main.", key)
    head, _, rest = key.partition(".")
    if head not in names or (head == "models" and rest in fields_of(Model)):
        return True  # not meant as a key, or of any model
    try:
        find_address(key, providers=["main"], models=["main", "small", "large"])
    except AddressError as error:
        return bool(error.table)
    return True


KEY = re.compile(r"(?:[a-z_]+\.)+[a-z0-9_*]+")
IN_SECTION = re.compile(r"\[([a-z.]+)\] ([a-z_0-9]+)")
NOT_KEYS = frozenset(
    (
        "cache.stats",
        "cache.clear",
        "cache.forget",
        "cache.explain",
        "cache.db",
        "metrics.db",
        "models.list",
        "models.register",
        "models.remove",
        "limits.rules",
    )
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_keys_that_are_mentioned_exist(path):
    if path.name == "statistics.md":
        return  # its names look like keys and are none
    for span in spans(text_of(path)):
        key = span.partition(" = ")[0]
        if KEY.fullmatch(key) and key not in NOT_KEYS and not key.endswith((".py", ".md", ".json", ".toml", ".sock")):
            assert known_key(key), f"{named(path)}: there is no key {key}"
        for section, name in IN_SECTION.findall(span):
            assert known_key(f"{section}.{name}"), f"{named(path)}: there is no key [{section}] {name}"


def test_keys_that_messages_mention_exist():
    """A remedy that names a key which there is not sends people looking."""
    found = 0
    for path in SOURCES:
        for section, name in IN_SECTION.findall(text_of(path)):
            if section in (*sections(), "providers", "models") and "_" in name:
                found += 1
                assert known_key(f"{section}.{name}"), f"{named(path)}: there is no key [{section}] {name}"
    assert found > 3


def test_variables_that_are_mentioned_set_keys():
    for path in MENTIONING:
        for variable in re.findall(r"AIORCH__[A-Z0-9_]+[A-Z0-9]", text_of(path)):
            key = variable.removeprefix("AIORCH__").replace("__", ".").lower()
            assert key == "section.key" or known_key(key), f"{named(path)}: {variable} sets no key"


NOT_OURS = frozenset(
    ("HOME", "TERM", "JOURNAL_STREAM", "SUDO_USER", "PATH", "REQUEST_METHOD", "LISTEN_FDNAMES", "WATCHDOG_PID")
)
"""Read without being a setting: who and where we are."""


def test_every_variable_that_is_read_is_told():
    told = document("commands.md") + document("configuration.md")
    for path in SOURCES:
        for variable in re.findall(r"environ(?:\.(?:get|pop)\(|\[)\"([A-Za-z_]+)\"", text_of(path)):
            assert variable in NOT_OURS or re.search(rf"\b{variable}\b", told), f"{named(path)} reads {variable}"
    assert all(f"`{name}`" in told for name in DOCUMENT_NAMES)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_targets_of_make_exist(path):
    targets = set(re.findall(r"(?m)^([a-z-]+):", text_of(ROOT / "Makefile")))
    for target in re.findall(r"`make ([a-z-]+)", text_of(path)) + re.findall(r"(?m)^\$ make ([a-z-]+)", text_of(path)):
        assert target in targets, f"{named(path)}: there is no `make {target}`"


# --- examples


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_python_in_documents_is_python(path):
    for block in blocks(text_of(path), "python"):
        compile(block, named(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_what_documents_take_from_the_client_is_there():
    for path in DOCUMENTS:
        for name in re.findall(
            r"(?<![\w./-])aiorch\.([A-Za-z_]\w*)", "\n".join([*spans(text_of(path)), *blocks(text_of(path), "python")])
        ):
            assert (
                name in ("toml", "sock", "schema", "conf", "sysusers", "tmpfiles")
                or hasattr(aiorch, name)
                or (ROOT / "client" / "aiorch" / name).with_suffix(".py").exists()
                or (ROOT / "client" / "aiorch" / name).is_dir()
            ), f"{named(path)}: aiorch.{name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_toml_in_documents_is_right(path):
    for block in blocks(text_of(path), "toml"):
        tables = tomllib.loads(block)
        if "models" in tables:  # whole
            assert not load_text(block.encode(), Path("aiorch.toml"), {}).warnings
            continue
        for name, inner in tables.items():  # a part: its keys are keys
            if name == "providers":
                for provider in inner.values():
                    assert set(provider) <= set(fields_of(Provider)), block
            elif name == "operations":
                for operation in inner.values():
                    assert set(operation) <= set(fields_of(Operation)), block
            elif name == "callers":
                for caller in inner.values():
                    assert set(caller) <= set(fields_of(CallerTable)), block
            elif name in sections():
                nested = {each for each in inner if f"{name}.{each}" in sections()}
                assert set(inner) - nested <= set(fields_of(sections()[name])), block
                for each in nested:
                    assert set(inner[each]) <= set(fields_of(sections()[f"{name}.{each}"])), block
            else:
                assert name in top_keys(), block


def test_both_kinds_of_toml_are_checked():
    assert any("[[models]]" in block for block in blocks(text_of(ROOT / "README.md"), "toml"))
    assert fields_of(Model)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_json_in_documents_is_json(path):
    for block in blocks(text_of(path), "json"):
        json.loads(block)


# --- links


def anchors(path: Path) -> set[str]:
    """The anchors of a Markdown file's headings, as GitHub makes them."""
    without_blocks = re.sub(r"^```.*?^```$", "", text_of(path), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ (.*)$", without_blocks):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (unique := slug if not number else f"{slug}-{number}") in found:
            number += 1
        found.add(unique)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text_of(path))):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        found = (path.parent / place).resolve() if place else path
        if found == ROOT / "docs" / "systemd-figures.md" and not found.exists():
            continue  # `make test-systemd` writes it, which needs root
        assert found.exists(), f"{named(path)}: {target}"
        assert not anchor or anchor in anchors(found), f"{named(path)}: {target}"


def test_every_document_can_be_reached():
    """From the README, over one document at most."""
    reached = {ROOT / "README.md"}
    for _ in range(2):
        for path in list(reached):
            links = re.findall(r"\]\(([^)#\s]+)", text_of(path)) if path.suffix == ".md" else []
            reached |= {(path.parent / link).resolve() for link in links if "://" not in link}
        reached = {path for path in reached if path.is_file()}
    assert not [named(path) for path in DOCUMENTS if path not in reached]
