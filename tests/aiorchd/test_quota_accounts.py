"""Which accounts a way draws on: its own, those of its key, and those that providers or keys share."""

from __future__ import annotations

from typing import Any

from aiorchd.config.schema import Config, Model, Provider, Queue
from aiorchd.core.quota_account import Need, QuotaAccount
from aiorchd.pipeline.quota_accounts import QuotaAccounts
from aiorchd.pipeline.settings import ways_of


def a_config(*models: Model, **providers: Provider) -> Config:
    return Config(providers=providers, models=models)


def a_provider(**fields: Any) -> Provider:
    return Provider(base_url="http://localhost/v1", **fields)


def drawn_on(accounts: QuotaAccounts, config: Config) -> dict[str, list[str]]:
    return {
        way: [account.name for account in accounts.of(0.0, config, model, way)]
        for model in config.models
        for way in ways_of(config, model)
    }


def first_of(accounts: QuotaAccounts, config: Config, number: int) -> QuotaAccount:
    model = config.models[number]
    return accounts.of(0.0, config, model, ways_of(config, model)[-1])[0]


def test_without_an_account_every_key_has_its_own() -> None:
    keys = ("K1", "K2")
    config = a_config(
        Model(name="small", provider="main"),
        Model(name="large", provider="main"),
        main=a_provider(api_keys_env=keys, requests_per_minute=60),
    )
    assert drawn_on(QuotaAccounts(), config) == {
        "small by K1": ["model small by K1", "key of main by K1"],
        "small by K2": ["model small by K2", "key of main by K2"],
        "large by K1": ["model large by K1", "key of main by K1"],
        "large by K2": ["model large by K2", "key of main by K2"],
    }


def test_who_names_the_same_account_shares_it_by_model_and_as_a_whole() -> None:
    config = a_config(
        Model(name="small", provider="main"),
        Model(name="too", provider="other", id="small"),
        Model(name="large", provider="other"),
        Model(name="apart", provider="alone", id="small"),
        main=a_provider(account="ours", api_keys_env=("K1", "K2"), requests_per_minute=60),
        other=a_provider(account="ours"),
        alone=a_provider(),
    )
    assert drawn_on(accounts := QuotaAccounts(), config) == {
        "small by K1": ["model small of account ours", "account ours"],
        "small by K2": ["model small of account ours", "account ours"],
        "too": ["model small of account ours", "account ours"],
        "large": ["model large of account ours", "account ours"],
        "apart": ["model apart"],
    }
    assert first_of(accounts, config, 0) is first_of(accounts, config, 1)


def test_the_lowest_limit_holds_whoever_says_it_and_in_whatever_order() -> None:
    models = (
        Model(name="a", provider="main", id="small", requests_per_minute=600),
        Model(name="b", provider="other", id="small", requests_per_minute=60, tokens_per_minute=1000),
    )
    for order in (models, models[::-1]):
        config = a_config(*order, main=a_provider(account="ours"), other=a_provider(account="ours"))
        account = first_of(QuotaAccounts(), config, 0)
        limits = {view.kind: view.limit for view in account.views(0.0)}
        assert limits == {"requests": 54.0, "tokens": 900.0}


def test_what_was_used_stays_used_over_a_reload_and_who_is_busy_keeps_its_account() -> None:
    limited = Model(name="small", provider="main", requests_per_minute=60)
    config = a_config(limited, main=a_provider(account="ours"))
    accounts = QuotaAccounts()
    accounts.reconfigure(0.0, config, ())
    account = first_of(accounts, config, 0)
    account.take(0.0, Need())
    left = account.level(0.0, "requests")
    accounts.reconfigure(0.0, config, ())
    assert first_of(accounts, config, 0) is account
    assert account.level(0.0, "requests") == left
    nothing = Config()
    accounts.reconfigure(0.0, nothing, [account])
    accounts.reconfigure(0.0, config, ())
    assert first_of(accounts, config, 0) is account
    accounts.reconfigure(0.0, nothing, ())
    accounts.reconfigure(0.0, config, ())
    assert first_of(accounts, config, 0) is not account


def test_the_throttle_over_all_is_drawn_on_while_there_is_one() -> None:
    config = Config(
        providers={"main": a_provider()},
        models=(Model(name="small", provider="main"),),
        queue=Queue(calls_per_second=2.0),
    )
    accounts = QuotaAccounts()
    assert drawn_on(accounts, config) == {"small": ["model small"]}
    accounts.reconfigure(0.0, config, ())
    assert drawn_on(accounts, config) == {"small": ["model small", "all models"]}
