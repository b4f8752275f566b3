"""What a generation of the pipeline is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiorchd.calls.ports import (
    Provider,
)
from aiorchd.calls.target import ListedModel
from aiorchd.config.operations import NOTHING, Material
from aiorchd.config.schema import Config


@dataclass(frozen=True, slots=True)
class KeyedProvider:
    """A provider object that uses one key. ``name`` is what the key's place is called, ``place`` where it is, for people;
    ``problem`` why there is none, or ""; ``mark`` changes with the key and tells nothing of it."""

    name: str
    place: str
    problem: str
    mark: bytes
    provider: Provider


@dataclass(frozen=True, slots=True)
class Plan:
    """What a generation is built from: the configuration, and a provider object for each provider in it."""

    config: Config
    providers: Mapping[str, Provider]
    addresses: Mapping[str, str]
    """Provider name to where its answers come from: dialect and base URL, never a key."""
    simulated: bool
    """Whether the embedded simulated model serves because nothing was configured."""
    keyed: Mapping[str, tuple[KeyedProvider, ...]] = field(default_factory=dict)
    """One object for each key, of the providers that have keys."""
    listed: Mapping[str, ListedModel] = field(default_factory=dict)
    """By the name of the model: what the bundled table says of those that have no price of their own."""
    host: Provider | None = None
    """Asks processes of the host, for the models that these answer for."""
    materials: Mapping[str, Material] = field(default_factory=lambda: NOTHING)
    """By the name of the operation: its template and its schema."""
