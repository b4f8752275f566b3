"""What `aiorchctl init` has to know: taken from options, asked on a terminal where they say nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import click

from aiorchctl.first_file import KNOWN, OTHER, FirstFile, FirstModel

_UNKNOWN: Final = "unknown"
_NO_BUDGET: Final = "none"


@dataclass(slots=True)
class Wishes:
    """What was given as options; None and () are asked for, where somebody can be asked."""

    provider: str | None
    base_url: str | None
    key_env: str | None
    key_credential: str | None
    no_key: bool
    models: tuple[str, ...]
    prices: dict[str, tuple[float | None, float | None]]
    profile: str | None
    per_day_usd: float | None = None

    @property
    def says_where_the_key_is(self) -> bool:
        """Whether nothing need be asked about the key."""
        return bool(self.key_env or self.key_credential or self.no_key)


def first_file(wishes: Wishes, *, asking: bool) -> FirstFile:
    """Make the file of what was given, with questions about the rest, or a usage error when nobody can be asked."""
    if not asking:
        missing = [
            option
            for option, there in (
                ("--provider", wishes.provider),
                ("--model", wishes.models),
                ("--base-url", wishes.base_url or wishes.provider not in ("azure", OTHER)),
                ("--key-env, --key-credential or --no-key", wishes.says_where_the_key_is or wishes.provider != OTHER),
            )
            if not there
        ]
        if missing:
            raise click.UsageError(f"nobody can be asked here; name {', '.join(missing)}")
    kind = wishes.provider or _ask("Provider", choices=list(KNOWN))
    known = KNOWN[kind]
    name = "main" if kind == OTHER else kind
    first = FirstFile(name, wishes.base_url or _base_url(kind), known.dialect, profile=wishes.profile)
    first = _with_key(first, wishes, known.key_env, asking=asking)
    models = [_model(text, wishes) for text in wishes.models]
    if not models:
        models = _asked_models(known.model, wishes, free=known.free)
    elif asking:
        models = [_priced(model, wishes, free=known.free) for model in models]
    unmatched = set(wishes.prices) - {model.name for model in models}
    if unmatched:
        raise click.UsageError(f"--price {min(unmatched)}: there is no such model among {_listed(models)}")
    per_day_usd = wishes.per_day_usd
    if per_day_usd is None and asking and not _free(models):
        per_day_usd = _asked_budget()
    return replace(first, models=tuple(models), per_day_usd=per_day_usd)


def _free(models: Sequence[FirstModel]) -> bool:
    return all(model.input_usd_per_1m == 0 and model.output_usd_per_1m == 0 for model in models)


def _asked_budget() -> float | None:
    """Ask what may be spent in a day; None for no limit."""
    while True:
        text = _ask(
            f"US dollars that all calls of a day may cost together (a number, or {_NO_BUDGET})", default=_NO_BUDGET
        )
        try:
            return None if text.strip().lower() == _NO_BUDGET else budget_of(text)
        except ValueError as error:
            click.echo(f"{error}.", err=True)


def budget_of(text: str) -> float:
    """Read the budget of a day. Raises `ValueError` with a sentence."""
    try:
        usd = float(text.strip().removeprefix("$"))
    except ValueError:
        raise ValueError(f"{text!r} is not a number of US dollars") from None
    if not 0.001 <= usd <= 10_000_000:
        raise ValueError(f"{text!r} is no budget: it is from 0.001 to 10000000 US dollars")
    return usd


def _base_url(kind: str) -> str:
    if kind == "azure":
        resource = _ask("Name of your Azure OpenAI resource, or its whole address")
        return resource if "://" in resource else KNOWN[kind].base_url.format(resource=resource)
    if kind == OTHER:
        return _ask("Address, up to and with the version (such as https://api.example.com/v1)")
    return KNOWN[kind].base_url


def _with_key(first: FirstFile, wishes: Wishes, usual: str, *, asking: bool) -> FirstFile:
    if wishes.says_where_the_key_is:
        return replace(first, key_env=wishes.key_env, key_credential=wishes.key_credential)
    if not asking:
        return replace(first, key_env=usual or None)
    # As root it is for the host: there systemd hands keys over without anybody seeing them in an environment.
    place = "none" if not usual and first.provider != "main" else "credential" if os.geteuid() == 0 else "env"
    place = _ask(
        "Where is its key? env: a variable of the daemon, credential: from systemd, none: it needs no key",
        default=place,
        choices=["env", "credential", "none"],
    )
    if place == "env":
        return replace(first, key_env=_place_name("Name of the variable", usual or f"{first.provider.upper()}_API_KEY"))
    if place == "credential":
        return replace(first, key_credential=_place_name("Name of the credential", first.provider))
    return first


def _place_name(words: str, usual: str) -> str:
    from aiorchd.config.secrets import looks_secret

    while True:
        name = _ask(words, default=usual)
        if not looks_secret(name):
            return name
        click.echo("That looks like the key itself, which belongs in no file of settings; write a name.", err=True)


def _model(text: str, wishes: Wishes) -> FirstModel:
    name, equals, id_ = text.partition("=")
    if not name or (equals and not id_):
        raise click.UsageError(f"--model {text}: write NAME=ID, or what the provider calls it")
    given = wishes.prices.get(name, (None, None))
    return FirstModel(name, id_ or name, *given)


def _asked_models(example: str, wishes: Wishes, *, free: bool) -> list[FirstModel]:
    models: list[FirstModel] = []
    while True:
        words = f"Model, as the provider calls it ({example})" if not models else "Another model (empty: no more)"
        id_ = _ask(words, default="" if models else None)
        if not id_:
            return models
        name = _ask("What callers say for it", default=id_)
        if name in {model.name for model in models}:
            click.echo(f"{name} is taken already.", err=True)
            continue
        models.append(_priced(FirstModel(name, id_, *wishes.prices.get(name, (None, None))), wishes, free=free))


def _priced(model: FirstModel, wishes: Wishes, *, free: bool) -> FirstModel:
    if model.name in wishes.prices:
        return model
    words = f"US dollars for a million {{}} tokens of {model.name} ({_UNKNOWN}, or a number; 0 is free)"
    default = "0" if free else _UNKNOWN
    given = _ask_price(words.format("input"), default)
    return replace(
        model,
        input_usd_per_1m=given,
        output_usd_per_1m=None if given is None else _ask_price(words.format("output"), default),
    )


def _ask_price(words: str, default: str) -> float | None:
    while True:
        try:
            return _price(_ask(words, default=default))
        except ValueError as error:
            click.echo(f"{error}.", err=True)


def prices_given(given: Sequence[tuple[str, str, str]]) -> dict[str, tuple[float | None, float | None]]:
    """Read the prices of options, by the name of the model."""
    try:
        return {name: (_price(into), _price(out)) for name, into, out in given}
    except ValueError as error:
        raise click.UsageError(f"--price: {error}") from error


def _price(text: str) -> float | None:
    if text.strip().lower() in (_UNKNOWN, "?", ""):
        return None
    try:
        price = float(text.strip().removeprefix("$"))
    except ValueError:
        raise ValueError(f"{text!r} is not a number of US dollars; write one, or {_UNKNOWN}") from None
    if not 0 <= price <= 1_000_000:
        raise ValueError(f"{text!r} is not a price for a million tokens")
    return price


def _ask(words: str, *, default: str | None = None, choices: Sequence[str] | None = None) -> str:
    """Ask on standard error, so that what comes out stays what was asked for."""
    kind = None if choices is None else click.Choice(list(choices))
    answer: str = click.prompt(words, default=default, type=kind, show_default=bool(default), err=True)
    return answer.strip()


def _listed(models: Sequence[FirstModel]) -> str:
    return ", ".join(model.name for model in models)
