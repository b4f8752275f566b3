"""``aiorchctl config set`` and ``use``: the file itself, changed by the person who runs them, then read by the daemon."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import aiorch
from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.config.names import callers_in_tables, names_in_tables, operations_in_tables
from aiorchctl.commands.config.offline import find_file, refused
from aiorchctl.commands.config.show import literal
from aiorchctl.commands.config.signed import SignedCommand
from aiorchctl.commands.verdict import doubts, problem_line, verdict_words
from aiorchctl.completing import config_keys, config_values, profiles
from aiorchctl.config_file import ConfigFile, WriteError, read_file, replace_content
from aiorchctl.failures import Failed
from aiorchctl.page import Cell, Fields, Page, Words

if TYPE_CHECKING:
    from aiorchd.config.address import Address
    from aiorchd.config.load import Loaded

_MOST_TURNS: Final = 10
_FILE_OPTION: Final = click.option(
    "--file", metavar="FILE", help="Change this file.  [default: the one the daemon reads, then the usual places]"
)


@click.command(
    name="set",
    cls=SignedCommand,
    examples=(
        ("aiorchctl config set cache.ttl_s 7200", "One key:"),
        ("aiorchctl config set models.small.requests_per_minute 500", "Of a model, by its name:"),
        ("aiorchctl config set routing.fallback small,large", "A list, with commas or as TOML:"),
        ("aiorchctl config set cache.ttl_s --unset", "Back to what lies below the file:"),
    ),
    exits=(
        (77, "You may not write the file."),
        (78, "It would be wrong, and is not written; or the daemon refused the file."),
    ),
)
@click.argument("key", metavar="KEY", shell_complete=config_keys)
@click.argument("value", metavar="[VALUE]", required=False, shell_complete=config_values)
@click.option("--unset", is_flag=True, help="Take the key out of the file.")
@_FILE_OPTION
@pass_invocation
def set_(invocation: Invocation, key: str, value: str | None, *, unset: bool, file: str | None) -> int:
    """Set a dotted KEY in the configuration file, as you, keeping its comments and layout, and have the daemon read it.

    What would be wrong is not written, and everything that is wrong with it is told. Every key with its meaning is in
    aiorch.toml(5) and, as TOML, in `aiorchctl config schema --manual`. A negative number is a value (`-3`); other text that
    begins with a dash stands after `--`.
    """
    if (value is None) is not unset:
        raise click.UsageError("say what to set it to, or --unset")
    return _edit(invocation, file, key, value)


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl config use aggressive", "A level:"),
        ("aiorchctl config use real_time_validation", "A scenario:"),
        ("aiorchctl config use none", "Only what the file says itself:"),
    ),
    exits=(
        (77, "You may not write the file."),
        (78, "It would be wrong, and is not written; or the daemon refused the file."),
    ),
)
@click.argument("profile", metavar="PROFILE", shell_complete=profiles)
@_FILE_OPTION
@pass_invocation
def use(invocation: Invocation, profile: str, *, file: str | None) -> int:
    """Take a profile: a level (basic, moderate, aggressive) or a scenario (large_repository_analysis, real_time_validation,
    batch_processing, api_heavy_workload), or none. It is written at the top of the file; what the file says itself wins.
    """
    return _edit(invocation, file, "profile", None if profile == "none" else profile)


@dataclass(slots=True)
class _Daemon:
    """What could be learned of the daemon: the file it reads, and the layers around that file if this person may see them."""

    client: aiorch.Client | None = None
    path: Path | None = None
    generation: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict)
    allowed: bool = False


def _edit(invocation: Invocation, file: str | None, key: str, text: str | None) -> int:
    with invocation.client() as client:
        daemon = _ask(client)
        path = _which(file, daemon)
        try:
            return _change(invocation, daemon, path, key, text)
        except WriteError as error:
            raise Failed("cannot_write", str(error), error.exit_code) from error


def _ask(client: aiorch.Client) -> _Daemon:
    try:
        status = client.status()
    except aiorch.Unreachable:
        return _Daemon()
    path = status["config"]["path"]
    daemon = _Daemon(client, None if path is None else Path(path), int(status["generation"]))
    try:
        layers = client.config_layers()["layers"]
    except aiorch.Forbidden:
        return daemon
    daemon.allowed = True
    daemon.environment = next((layer["values"] for layer in layers if layer["name"] == "environment"), {})
    return daemon


def _which(file: str | None, daemon: _Daemon) -> Path:
    """Choose the file: the one that is named, the one the daemon reads, the one a daemon started now would read."""
    if file is None and daemon.path is not None:
        return daemon.path
    place = None if file is None and daemon.client is not None else find_file(file)
    if place is None:
        which = "the daemon runs on the built-in configuration" if daemon.client else "there is no configuration file"
        then = ", then restart the daemon" if daemon.client else ""
        raise Failed(
            "no_file", f"{which}: make a file with `aiorchctl init`{then}, or name one with --file", os.EX_CONFIG
        )
    return place.path


def _change(invocation: Invocation, daemon: _Daemon, path: Path, key: str, text: str | None) -> int:
    reads_it = daemon.path is not None and _same(daemon.path, path)
    environment = daemon.environment if reads_it else {}
    done = _written(path, key, text, environment)
    result: dict[str, Any] = {
        "file": str(path),
        "key": str(done.address),
        "value": _below(done.loaded, done.address) if text is None else done.value,
        "unset": text is None,
        "written": done.changed,
        "warnings": [warning.to_wire() for warning in done.loaded.warnings],
        "generation_before": daemon.generation,
        "daemon": "none" if daemon.client is None else "reads it" if reads_it else "reads another file",
        "verdict": None,
        "hidden_by": None,
    }
    if reads_it and daemon.client is not None and daemon.allowed:
        result["verdict"] = daemon.client.config_reload()
        result["hidden_by"] = _hidden_by(daemon.client, str(done.address), done.loaded)
    invocation.tell(result, _page)
    verdict = result["verdict"]
    return os.EX_CONFIG if verdict is not None and verdict.get("result") == "refused" else os.EX_OK


@dataclass(frozen=True, slots=True)
class _Change:
    """One key in a new text: where it is, the text, the value as it is written, what the text means, whether it differs."""

    address: Address
    text: str
    value: Any
    loaded: Loaded
    changed: bool


def _written(path: Path, key: str, text: str | None, environment: Mapping[str, Any]) -> _Change:
    """Make the change; when somebody else was faster, to what they wrote."""
    for _ in range(_MOST_TURNS - 1):
        try:
            return _write(path, key, text, environment)
        except WriteError as error:
            if error.exit_code != os.EX_TEMPFAIL:
                raise
    return _write(path, key, text, environment)


def _write(path: Path, key: str, text: str | None, environment: Mapping[str, Any]) -> _Change:
    """Read the file, make the new text, which is right or not written, and put it in place."""
    from aiorchd.config.problems import ConfigError

    try:
        read = read_file(path)
        address, new, value = _edited(read, key, text)
        change = _Change(address, new, value, _loaded(new, path, environment), new.encode() != read.content)
    except ConfigError as error:
        raise refused(error, "not written, because it would be wrong:") from error
    if change.changed:
        replace_content(read, new.encode())
    return change


def _edited(read: ConfigFile, key: str, text: str | None) -> tuple[Address, str, Any]:
    """Find what the key means in this file, write the file with it, and give the value as it is written."""
    from aiorchctl.toml_edit import EditError, with_key, without_key
    from aiorchd.config.address import AddressError, find_address
    from aiorchd.config.values import value_from_text

    try:
        raw = tomllib.loads(read.text)
    except tomllib.TOMLDecodeError as error:
        raise Failed("config", f"{read.path}: is not TOML: {error}; use an editor", os.EX_CONFIG) from error
    providers, models = names_in_tables(raw)
    try:
        address = find_address(
            key,
            providers=providers,
            models=models,
            callers=callers_in_tables(raw),
            operations=operations_in_tables(raw),
        )
    except AddressError as error:
        raise Failed("usage", str(error), os.EX_USAGE) from error
    path = tuple(map(str, address.whole))
    try:
        if text is None:
            return address, without_key(read.text, path), None
        value = value_from_text(text, address.shape)
        _check_value(read, address, value)
        return address, with_key(read.text, path, value), value
    except EditError as error:
        raise Failed("layout", f"{read.path}: {error}", os.EX_SOFTWARE) from error


def _check_value(read: ConfigFile, address: Address, value: Any) -> None:
    """Refuse a value that could never hold, also where a layer above the file hides it for now."""
    import msgspec

    from aiorchd.config.problems import ConfigError, Problem, did_you_mean, show

    try:
        msgspec.convert(value if address.entry is None else {address.entry: value}, address.field.shape)
    except msgspec.ValidationError as error:
        sentence = f"must be {address.field.expectation()}, not {show(value)}."
        remedy = did_you_mean(str(value), address.field.choices())
        raise ConfigError([Problem(str(read.path), str(address), None, sentence, remedy)]) from error


def _loaded(text: str, path: Path, environment: Mapping[str, Any]) -> Loaded:
    """Check the text as the daemon will: with what its environment, which this process does not have, sets over it."""
    from aiorchd.config.address import find_address
    from aiorchd.config.load import load_text

    providers, models = names_in_tables(tomllib.loads(text))
    over = {find_address(key, providers=providers, models=models).whole: value for key, value in environment.items()}
    return load_text(text.encode(), path, {}, overrides=over)


def _hidden_by(client: aiorch.Client, key: str, loaded: Loaded) -> str | None:
    """Tell which layer over the file has the last word about this key, if one has."""
    from aiorchctl.commands.config.names import by_name

    models = [model.name for model in loaded.config.models]
    for layer in reversed(client.config_layers()["layers"]):
        if layer["name"] in ("environment", "override") and key in {by_name(name, models) for name in layer["values"]}:
            return str(layer["name"])
    return None


def _below(loaded: Loaded, address: Address) -> Any:
    """Find what holds for a key that is not in the file any more; None when nothing does."""
    from aiorchd.config.address import AddressError
    from aiorchd.config.compare import find_value

    try:
        return find_value(loaded.config, str(address))
    except AddressError:
        return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _page(result: dict[str, Any]) -> Page:
    done = "written to" if result["written"] else "already so in"
    what = f"{result['key']} = {literal(result['value'])}"
    if result["unset"]:
        what = f"{result['key']} taken out; it is {literal(result['value'])}"
        done = "written to" if result["written"] else "was not in"
    rows: list[tuple[str, Cell]] = [(done, result["file"]), ("", what)]
    verdict = result["verdict"]
    if verdict is not None:
        # The daemon watches the file: it may have read it before it was asked to.
        if (
            result["written"]
            and verdict.get("result") == "unchanged"
            and verdict["generation"] > result["generation_before"]
        ):
            verdict = {**verdict, "result": "accepted", "changed": []}
        rows.append(("configuration", verdict_words(verdict)))
        rows.extend(doubts(verdict))
    else:
        rows.append(("live", _no_verdict(result)))
        if result["warnings"]:
            rows.append(("warnings", Words("\n".join(map(problem_line, result["warnings"])), "doubtful")))
    if result["hidden_by"] == "override":
        rows.append(("hidden", Words("an override says otherwise: aiorchctl config reset", "doubtful")))
    elif result["hidden_by"] == "environment":
        rows.append(("hidden", Words("the daemon's environment says otherwise", "doubtful")))
    return [Fields(rows)]


def _no_verdict(result: Mapping[str, Any]) -> Cell:
    return {
        "none": Words("no daemon answers: it holds from its next start", "doubtful"),
        "reads it": Words("the daemon reads the file by itself; see `aiorchctl status`", "quiet"),
        "reads another file": Words("the daemon that answers reads another file", "doubtful"),
    }[result["daemon"]]
