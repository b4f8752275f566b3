"""Which accounts a way to a model draws on, and who else draws on them.

A provider counts for a model, for a key, or for both, so a way has an account of its own for the model by that key, and one for
the key where limits of it are configured. Where providers or keys are said to share an account there (``account``), both are
shared: the model's by all that ask for the same model id, the key's by all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from aiorchd.config.schema import Config, Model
from aiorchd.core.quota_account import Limits, QuotaAccount
from aiorchd.pipeline.settings import key_of, limits_of, throttle_of, ways_of
from aiorchd.runtime.turnstile import TargetTurnstile


class QuotaAccounts:
    """All accounts by what they are called, and the throttle over all models. They outlive reloads."""

    def __init__(self) -> None:
        self.throttle: Final = QuotaAccount("all models", learns=False)
        self._by_owner: dict[str, QuotaAccount] = {}

    def reconfigure(self, now: float, config: Config, in_use: Iterable[QuotaAccount]) -> None:
        """Follow a configuration that came into force. An account that it has no owner for is kept as long as it is in use."""
        self.throttle.reconfigure(now, throttle_of(config))
        limits = _limits_by_owner(config)
        for owner, these in limits.items():
            self._find(owner).reconfigure(now, these)
        used = {account.name for account in in_use}
        for owner in [owner for owner in self._by_owner if owner not in limits and owner not in used]:
            del self._by_owner[owner]

    def of(self, now: float, config: Config, model: Model, way: str) -> tuple[QuotaAccount, ...]:
        """Give those of a way: the model's first; the key's and the throttle only where they have limits."""
        owners = (_model_owner(config, model, way), _key_owner(config, model, way))
        if any(owner not in self._by_owner for owner in owners):
            limits = _limits_by_owner(config)
            for owner in owners:
                if owner not in self._by_owner:
                    self._find(owner).reconfigure(now, limits[owner])
        shared = (self._find(owners[1]), self.throttle)
        return (self._find(owners[0]), *(account for account in shared if account.limited))

    def _find(self, owner: str) -> QuotaAccount:
        account = self._by_owner.get(owner)
        if account is None:
            account = self._by_owner[owner] = QuotaAccount(owner)
        return account


def introduce(turnstiles: Iterable[TargetTurnstile]) -> None:
    """Let turnstiles know who draws on an account of theirs, too."""
    by_account: dict[QuotaAccount, list[TargetTurnstile]] = {}
    each = list(turnstiles)
    for turnstile in each:
        for account in turnstile.accounts:
            by_account.setdefault(account, []).append(turnstile)
    for turnstile in each:
        turnstile.beside(dict.fromkeys(other for account in turnstile.accounts for other in by_account[account]))


def _model_owner(config: Config, model: Model, way: str) -> str:
    account = config.providers[model.provider].account
    return f"model {way}" if account is None else f"model {model.provider_model} of account {account}"


def _key_owner(config: Config, model: Model, way: str) -> str:
    account = config.providers[model.provider].account
    return f"key of {key_of(model, way)}" if account is None else f"account {account}"


def _limits_by_owner(config: Config) -> Mapping[str, Limits]:
    """Give the limits of every owner: where several sections say one of the same owner, the lowest holds."""
    found: dict[str, Limits] = {}
    for model in config.models:
        provider = config.providers[model.provider]
        for way in ways_of(config, model):
            for owner, section in (
                (_model_owner(config, model, way), model),
                (_key_owner(config, model, way), provider),
            ):
                limits = limits_of(config, section)
                before = found.get(owner)
                found[owner] = limits if before is None else _lower(before, limits)
    return found


def _lower(one: Limits, other: Limits) -> Limits:
    def lowest(*limits: float | None) -> float | None:
        return min((limit for limit in limits if limit is not None), default=None)

    return replace(
        one,
        requests_per_minute=lowest(one.requests_per_minute, other.requests_per_minute),
        tokens_per_minute=lowest(one.tokens_per_minute, other.tokens_per_minute),
        requests_per_day=lowest(one.requests_per_day, other.requests_per_day),
        tokens_per_day=lowest(one.tokens_per_day, other.tokens_per_day),
    )
