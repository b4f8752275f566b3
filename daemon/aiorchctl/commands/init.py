"""``aiorchctl init``: a first configuration file, by questions or by options."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

import aiorch
from aiorchctl.command import Command, Invocation, pass_invocation
from aiorchctl.commands.config.offline import refused
from aiorchctl.completing import profiles
from aiorchctl.config_file import WriteError, create
from aiorchctl.failures import Failed, failure_of
from aiorchctl.first_file import KNOWN, FirstFile
from aiorchctl.first_questions import Wishes, budget_of, first_file, prices_given
from aiorchctl.page import Cell, Fields, Page, Words
from aiorchctl.quantities import money, plural, seconds


@click.command(
    cls=Command,
    examples=(
        ("aiorchctl init", "With questions:"),
        (
            "aiorchctl init --provider openai --model small=gpt-4o-mini --price small 0.15 0.60",
            "Without, the key in $OPENAI_API_KEY of the daemon:",
        ),
        ("aiorchctl init --provider ollama --model llama3.2 --price llama3.2 0 0 --try", "A model on this machine:"),
        (
            "sudo aiorchctl init --provider groq --key-credential groq --model llama-3.1-8b-instant",
            "For the host, the key as a systemd credential:",
        ),
    ),
)
@click.option("--provider", type=click.Choice(list(KNOWN)), help="Who answers; other: anything OpenAI-compatible.")
@click.option("--base-url", metavar="URL", help="Where it is, up to and with the version.")
@click.option("--key-env", metavar="NAME", help="The key is in this environment variable of the daemon.")
@click.option(
    "--key-credential", metavar="NAME", help="The key is this systemd credential (LoadCredential=NAME:/path)."
)
@click.option(
    "--key-file", metavar="FILE", type=click.Path(path_type=Path), help="Where that credential lies, for --try."
)
@click.option("--no-key", is_flag=True, help="It needs no key.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]ID",
    help="A model: what the provider calls it, and what callers say. Several times for several.",
)
@click.option(
    "--price",
    "prices",
    multiple=True,
    nargs=3,
    metavar="NAME IN OUT",
    help="US dollars for a million input and output tokens; 0 is free, left out is unknown.",
)
@click.option(
    "--per-day",
    metavar="USD",
    help="US dollars that all calls of a day may cost together; without it nothing bounds them.",
)
@click.option(
    "--profile", metavar="PROFILE", shell_complete=profiles, help="A level or scenario; see `aiorchctl config use`."
)
@click.option("--file", "path", metavar="FILE", type=click.Path(path_type=Path), help="Write it there.")
@click.option("--replace", "replacing", is_flag=True, help="Replace a file that is there.")
@click.option(
    "--try/--no-try", "trying", default=None, help="Make one call to the first model, or do not ask whether to."
)
@pass_invocation
def init(
    invocation: Invocation,
    *,
    provider: str | None,
    base_url: str | None,
    key_env: str | None,
    key_credential: str | None,
    key_file: Path | None,
    no_key: bool,
    models: tuple[str, ...],
    prices: tuple[tuple[str, str, str], ...],
    per_day: str | None,
    profile: str | None,
    path: Path | None,
    replacing: bool,
    trying: bool | None,
) -> int:
    """Make a first configuration file: which provider, where its key is, which models at what price.

    Asks on a terminal, takes options otherwise. The key itself is neither asked for nor written, only where it is.
    """
    try:
        per_day_usd = None if per_day is None else budget_of(per_day)
    except ValueError as error:
        raise click.UsageError(f"--per-day: {error}") from error
    wishes = Wishes(
        provider, base_url, key_env, key_credential, no_key, models, prices_given(prices), profile, per_day_usd
    )
    if sum(map(bool, (key_env, key_credential, no_key))) > 1:
        raise click.UsageError("name one of --key-env, --key-credential and --no-key")
    target = target_of(path)
    asking = not invocation.as_json and sys.stdin.isatty() and sys.stderr.isatty()
    if target.exists() and not replacing:
        raise Failed(
            "exists",
            f"{target} is there already; change it with `aiorchctl config set`, or say --replace",
            os.EX_USAGE,
        )
    first = first_file(wishes, asking=asking)
    _write(first, target, replacing=replacing)
    result: dict[str, Any] = {
        "file": str(target),
        "provider": first.provider,
        "models": [model.name for model in first.models],
        "per_day_usd": first.per_day_usd,
        "unpriced": [model.name for model in first.models if model.input_usd_per_1m is None],
        "daemon": _tell_daemon(invocation, target),
        "trial": None,
    }
    credential = None if key_file is None or first.key_credential is None else (first.key_credential, key_file)
    code = os.EX_OK
    if _shall_try(first, trying, asking=asking, live=result["daemon"] == "reads it", key_file=key_file):
        result["trial"], code = _try(invocation, first, target, credential, live=result["daemon"] == "reads it")
    result["next"] = [
        {"command": command, "purpose": purpose} for command, purpose in _steps(first, target, result["daemon"])
    ]
    invocation.tell(result, _page)
    return code


# --- where it goes ------------------------------------------------------------------------------------------------


def target_of(path: Path | None) -> Path:
    """Choose where the file goes: where it was named, or where a daemon started by this person looks."""
    from aiorchd.config.places import SYSTEM_CONFIG

    if path is not None:
        return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - links stay as they are
    if os.environ.get("AIORCH_CONFIG"):
        return Path(os.path.abspath(os.environ["AIORCH_CONFIG"]))  # noqa: PTH100
    if os.geteuid() == 0:
        return SYSTEM_CONFIG
    home = os.environ.get("XDG_CONFIG_HOME")
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".config"
    return base / "aiorch" / "aiorch.toml"


def _write(first: FirstFile, target: Path, *, replacing: bool) -> None:
    from aiorchd.config.load import load_text
    from aiorchd.config.problems import ConfigError

    content = first.text().encode()
    try:
        load_text(content, target, {})
    except ConfigError as error:
        raise refused(error, "not written, because it would be wrong:") from error
    try:
        create(target, content, replace=replacing)
    except WriteError as error:
        raise Failed("cannot_write", str(error), error.exit_code) from error


def _tell_daemon(invocation: Invocation, target: Path) -> str:
    """Find out whether the daemon that answers reads this file, and have it read it now."""
    try:
        with invocation.client() as client:
            path = client.status()["config"]["path"]
            if path is None or not Path(path).exists() or not Path(path).samefile(target):
                return "reads another file" if path else "runs without a file"
            try:
                client.config_reload()
            except aiorch.Forbidden:
                pass  # it watches the file
            return "reads it"
    except aiorch.Unreachable:
        return "none"


# --- trying it ----------------------------------------------------------------------------------------------------


def _shall_try(first: FirstFile, trying: bool | None, *, asking: bool, live: bool, key_file: Path | None) -> bool:
    if trying is False or (trying is None and not asking):
        return False
    reachable = live or first.key_credential is None or key_file is not None
    known = live or first.key_env is None or bool(os.environ.get(first.key_env))
    if trying is None:
        words = f"Make one call to {first.models[0].name} now?"
        return reachable and known and click.confirm(words, default=True, err=True)
    if not reachable:
        raise Failed(
            "trial",
            f"the file is written; to try it, name the file of the credential {first.key_credential} with --key-file",
            os.EX_USAGE,
        )
    return True


def _try(
    invocation: Invocation, first: FirstFile, target: Path, credential: tuple[str, Path] | None, *, live: bool
) -> tuple[dict[str, Any], int]:
    from aiorchctl.trial import ask, temporary_daemon

    model = first.models[0].name
    try:
        if live:
            with invocation.client() as client:
                reply = ask(client, model)
        else:
            with temporary_daemon(target, os.environ, credential=credential) as client:
                reply = ask(client, model)
    except aiorch.AiorchError as error:
        failure = failure_of(error)
        return {
            "ok": False,
            "model": model,
            "error": failure.to_json(),
            "sentence": failure.sentence,
        }, failure.exit_code
    return {
        "ok": True,
        "model": model,
        "text": reply.text,
        "cost_usd": reply.cost_usd,
        "total_s": reply.timing.total_s,
        "through": "the running daemon" if live else "a daemon of its own",
    }, os.EX_OK


# --- what to do next ----------------------------------------------------------------------------------------------


def _steps(first: FirstFile, target: Path, daemon: str) -> list[tuple[str, str]]:
    steps: list[tuple[str, str]] = []
    root = os.geteuid() == 0
    if first.key_credential is not None:
        folder = "/etc/aiorch/credentials" if root else "/path/of/the/key"
        steps.append(
            (
                f"LoadCredential={first.key_credential}:{folder}{f'/{first.key_credential}' if root else ''}",
                "in a drop-in of the unit (`systemctl edit aiorchd.service`); the key alone in that file, mode 0600",
            )
        )
    elif first.key_env is not None and not (daemon == "reads it" or os.environ.get(first.key_env)):
        steps.append((f"export {first.key_env}=…", "the key, in the environment that the daemon is started from"))
    elif first.key_env is not None and daemon != "reads it":
        steps.append((f"${first.key_env}", "is set here; the daemon needs it in its own environment, too"))
    if daemon == "runs without a file":
        steps.append(("restart aiorchd", "the one that answers was started without a file"))
    elif daemon != "reads it":
        named = "" if _found_by_itself(target) else f" --config {shlex.quote(str(target))}"
        steps.append((f"aiorchd{named}", "start the daemon here; `aiorchctl install-units` makes a service of it"))
    steps.append((f"aiorchctl complete --model {shlex.quote(first.models[0].name)} 'Name three rivers'", "ask"))
    if any(model.input_usd_per_1m is None for model in first.models):
        unpriced = next(model.name for model in first.models if model.input_usd_per_1m is None)
        steps.append(
            (
                f"aiorchctl config set {shlex.quote(f'models.{unpriced}.input_usd_per_1m')} PRICE",
                "when you know a price",
            )
        )
    steps.append(("aiorchctl config schema --manual", "everything else that can be set"))
    return steps


def _found_by_itself(target: Path) -> bool:
    from aiorchd.config.places import PlaceError, find_config

    try:
        place = find_config(None, os.environ, os.getuid())
    except PlaceError:
        return False
    return place is not None and place.path == target


def _page(result: dict[str, Any]) -> Page:
    rows: list[tuple[str, Cell]] = [
        ("wrote", Words(result["file"], "good")),
        ("models", f"{plural(len(result['models']), 'model')} at {result['provider']}: {', '.join(result['models'])}"),
    ]
    if result["per_day_usd"] is not None:
        rows.append(("budget", f"{money(result['per_day_usd'])} a day; `aiorchctl stats` shows what is left"))
    if result["unpriced"]:
        rows.append(("price unknown", Words(", ".join(result["unpriced"]), "doubtful")))
    if result["daemon"] == "reads it":
        rows.append(("live", Words("the daemon has read it; see `aiorchctl status`", "good")))
    trial = result["trial"]
    if trial is not None and trial["ok"]:
        said = f"{trial['model']} answered in {seconds(trial['total_s'])}, for {money(trial['cost_usd'])}"
        rows.append(("tried", Words(f"{said}: {' '.join(trial['text'].split())[:60]}", "good")))
    elif trial is not None:
        rows.append(("tried", Words(f"{trial['model']} did not answer: {trial['sentence']}", "bad")))
    steps: list[tuple[str, Cell]] = [(step["command"], step["purpose"]) for step in result["next"]]
    return [Fields(rows), Fields(steps, "Next:")]
