"""Where answers come from: the shared transport, and a provider object for each provider of a configuration."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Any, Final, TypeVar

import trio

from aiorchd.app.plain import plain
from aiorchd.calls.host_model import HOST
from aiorchd.calls.ports import Provider as ProviderPort
from aiorchd.calls.ports import WallClock
from aiorchd.calls.target import ListedModel
from aiorchd.config.load import Loaded
from aiorchd.config.problems import ConfigError, Problem, dotted
from aiorchd.config.schema import Config, Pool, Provider
from aiorchd.config.secrets import ProviderKey, find_keys
from aiorchd.pipeline.plan import KeyedProvider, Plan
from aiorchd.pipeline.settings import own_price
from aiorchd.providers.dialect import Dialect
from aiorchd.providers.host import HostProvider
from aiorchd.providers.price_table import look_up, read_table
from aiorchd.providers.remote import RemoteProvider
from aiorchd.providers.secret import MissingKey, Secret
from aiorchd.providers.transport import PoolLimits, Timeouts, Transport, TransportStatistics, open_transport
from aiorchd.runtime.host_models import HostModels

SIMULATED_ADDRESS: Final = "simulated"

_Word = TypeVar("_Word", bound=str)


class Supply:
    """Makes plans of configurations. Providers' connections are the transport's and survive a reload."""

    def __init__(
        self, transport: Transport, environ: Mapping[str, str], wall_clock: WallClock, host_models: HostModels
    ) -> None:
        self._transport = transport
        self._environ = environ
        self._wall_clock = wall_clock
        self._host_models = host_models
        self._salt = os.urandom(16)
        self._keys: Mapping[str, Mapping[str, ProviderKey]] = {}
        """By provider, and by what the key's place is called."""
        self._providers: Mapping[str, Mapping[str, ProviderPort]] = {}
        """One object for each key."""
        self._listed: Mapping[str, ListedModel] = {}

    @property
    def listed(self) -> Mapping[str, ListedModel]:
        """What the bundled table says of the models that have no price of their own, by name."""
        return self._listed

    async def plan(self, loaded: Loaded) -> Plan:
        """Make the providers of a configuration. Raises `ConfigError` for what cannot work on this host."""
        config = loaded.config
        keys = await trio.to_thread.run_sync(partial(_find_keys, config, self._environ))
        made: dict[str, dict[str, ProviderPort]] = {}
        addresses: dict[str, str] = {}
        problems: list[Problem] = []
        for name, provider in config.providers.items():
            if provider.dialect == "simulated":
                # Here and not above: a daemon that has real providers starts sooner without it.
                from aiorchd.providers.simulated import SimulatedProvider

                made[name], addresses[name] = {"": SimulatedProvider(name)}, SIMULATED_ADDRESS
                continue
            if provider.dialect == HOST:
                made[name], addresses[name] = {"": self._host(name, config)}, f"{HOST} {name}"
                continue
            try:
                made[name] = {place: self._remote(name, provider, key, config) for place, key in keys[name].items()}
                addresses[name] = f"{provider.dialect} {provider.address}"
            except ValueError as error:
                problems.append(Problem(str(loaded.path or "built in"), f"providers.{name}", None, f"{error}."))
        if problems:
            raise ConfigError(problems, fingerprint=loaded.fingerprint)
        listed = await trio.to_thread.run_sync(partial(_listed, config, addresses, self._wall_clock()))
        self._keys, self._providers, self._listed = keys, made, listed
        return Plan(
            config=config,
            providers={name: next(iter(each.values())) for name, each in made.items()},
            addresses=addresses,
            simulated=loaded.simulated,
            listed=listed,
            materials=loaded.materials,
            keyed={name: self._keyed(keys[name], each) for name, each in made.items() if "" not in each},
            host=self._host(HOST, config),
        )

    def _keyed(self, keys: Mapping[str, ProviderKey], made: Mapping[str, ProviderPort]) -> tuple[KeyedProvider, ...]:
        return tuple(
            KeyedProvider(
                name=name,
                place=key.place,
                problem=key.problem,
                # Tells whether the key is still the same, to nobody outside this process.
                mark=blake2b((key.reveal() or "").encode(), digest_size=16, key=self._salt).digest(),
                provider=made[name],
            )
            for name, key in keys.items()
        )

    async def rotated(self, config: Config) -> tuple[str, ...]:
        """Name the keys of a configuration in force whose secrets are others by now: what to reload for though the file has
        not changed.
        """
        found = await trio.to_thread.run_sync(partial(_find_keys, config, self._environ))
        changed: list[str] = []
        for name, keys in found.items():
            provider = config.providers[name]
            several = provider.api_keys_env or provider.api_keys_credential
            field = "api_keys" if several else "api_key"
            field += "_env" if provider.api_key_env or provider.api_keys_env else "_credential"
            for number, (place, key) in enumerate(keys.items()):
                before = self._keys.get(name, {}).get(place)
                if before is None or (before.reveal(), before.problem) != (key.reveal(), key.problem):
                    changed.append(dotted(("providers", name, field, *((number,) if several else ()))))
        return tuple(changed)

    def reconfigure(self, pool: Pool) -> None:
        """Change the bounds of the transport, live."""
        self._transport.reconfigure(_limits(pool))

    def key_problems(self) -> dict[str, str]:
        """Say, by provider, why a key that the configuration names could not be had, or why several could not."""
        found = {name: [key.problem for key in keys.values() if key.problem] for name, keys in self._keys.items()}
        return {name: "; ".join(problems) for name, problems in found.items() if problems}

    def key_places(self, provider: str) -> dict[str, tuple[str, str]]:
        """Say where a provider's keys are, by what their places are called, and why one could not be had, else ""."""
        return {name: (key.place, key.problem) for name, key in self._keys.get(provider, {}).items() if name}

    def keyless(self) -> frozenset[str]:
        """Name the providers that have no key at all though one is named."""
        return frozenset(name for name, keys in self._keys.items() if all(key.problem for key in keys.values()))

    async def check(self, config: Config, timeout_s: float) -> list[dict[str, Any]]:
        """Ask every provider at once whether it answers and takes the key, and for its list of models; gives plain data in
        the order of the configuration, which must be the one that was planned last. See `Provider.check`."""
        rows = [(name, place) for name in config.providers for place in self._providers.get(name, ())]
        told: dict[tuple[str, str], dict[str, Any]] = {row: {} for row in rows}

        async def ask(name: str, place: str) -> None:
            models = [model.provider_model for model in config.models if model.provider == name and model.enabled]
            key = self._keys.get(name, {}).get(place)
            told[name, place] = {
                "name": name if len(self._providers[name]) == 1 else f"{name} by {place}",
                "dialect": config.providers[name].dialect,
                "base_url": config.providers[name].address,
                "key_place": None if key is None else key.place,
                **plain(await self._providers[name][place].check(models, timeout_s)),
            }

        async with trio.open_nursery() as nursery:
            for row in rows:
                nursery.start_soon(ask, *row)
        return [row for row in told.values() if row]

    def secrets(self) -> list[str]:
        """Give the keys in use, for the log to hide."""
        return [value for keys in self._keys.values() for key in keys.values() if (value := key.reveal()) is not None]

    def statistics(self) -> TransportStatistics:
        """Tell about connections."""
        return self._transport.statistics()

    def _host(self, name: str, config: Config) -> HostProvider:
        return HostProvider(name, self._host_models, attempt_s=config.timeouts.attempt_s)

    def _remote(self, name: str, provider: Provider, key: ProviderKey, config: Config) -> RemoteProvider:
        times = config.timeouts
        return RemoteProvider(
            name,
            _dialect(provider),
            _key(key),
            self._transport,
            Timeouts(
                connect_s=times.connect_s,
                first_byte_s=times.first_byte_s,
                idle_s=times.idle_s,
                attempt_s=times.attempt_s,
            ),
            self._wall_clock,
        )


@asynccontextmanager
async def open_supply(
    environ: Mapping[str, str], pool: Pool, wall_clock: WallClock, host_models: HostModels
) -> AsyncIterator[Supply]:
    """Have a supply for the length of the block; leaving it closes every connection."""
    async with open_transport(_limits(pool), environ) as transport:
        yield Supply(transport, environ, wall_clock, host_models)


def _listed(config: Config, addresses: Mapping[str, str], now: float) -> dict[str, ListedModel]:
    """Look the models without a price of their own up in the bundled table; it is not read when there are none."""
    wanted = {
        model.name: (addresses[model.provider].partition(" ")[2], model.provider_model)
        for model in config.models
        if own_price(model) is None and "://" in addresses.get(model.provider, "")
    }
    if not wanted:
        return {}
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    found = look_up(read_table(), wanted.values(), day)
    return {name: one for name, one in zip(wanted, found, strict=True) if one is not None}


def _limits(pool: Pool) -> PoolLimits:
    return PoolLimits(max_connections=pool.max_connections, max_keepalive=pool.max_keepalive, idle_s=pool.idle_s)


def _find_keys(config: Config, environ: Mapping[str, str]) -> dict[str, dict[str, ProviderKey]]:
    return {name: find_keys(provider, environ) for name, provider in config.providers.items()}


def _dialect(provider: Provider) -> Dialect:
    """Make a dialect; only those that are spoken are imported, so that the daemon starts sooner."""
    base_url = provider.address or ""
    if provider.dialect == "anthropic":
        from aiorchd.providers.anthropic import AnthropicDialect, AnthropicOptions

        return AnthropicDialect(
            AnthropicOptions(
                base_url=base_url,
                http2=provider.http2,
                authorisation=provider.authorisation,
                api_version=provider.api_version,
                structured_output=_one_of(provider.structured_output, ("json_schema", "tool", "none")),
                prompt_cache=provider.prompt_cache,
                headers=provider.headers,
            )
        )
    if provider.dialect == "gemini":
        from aiorchd.providers.gemini import GeminiDialect, GeminiOptions

        return GeminiDialect(
            GeminiOptions(
                base_url=base_url,
                http2=provider.http2,
                authorisation=provider.authorisation,
                structured_output=_one_of(provider.structured_output, ("json_schema", "json_object", "none")),
                headers=provider.headers,
            )
        )
    from aiorchd.providers.openai import OpenAiDialect, OpenAiOptions

    return OpenAiDialect(
        OpenAiOptions(
            base_url=base_url,
            http2=provider.http2,
            authorisation=provider.authorisation,
            api_version=provider.api_version,
            max_tokens_field=provider.max_tokens_field,
            structured_output=_one_of(provider.structured_output, ("json_schema", "json_object", "none")),
            embedding_encoding=provider.embedding_encoding,
            headers=provider.headers,
        )
    )


def _one_of(value: str, known: tuple[_Word, ...]) -> _Word:
    """Give a word that the configuration was checked to have."""
    return next(word for word in known if word == value)


def _key(found: ProviderKey) -> Secret | MissingKey | None:
    if found.problem:
        return MissingKey(found.problem)
    value = found.reveal()
    return None if value is None else Secret(value)
