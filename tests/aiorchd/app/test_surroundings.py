"""What the daemon says of its own surroundings: clock, limits, libraries, providers."""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wire import Wire, raw_server

from aiorchd.app.supply import Supply, open_supply
from aiorchd.app.surroundings import Surroundings, needed_descriptors
from aiorchd.config.load import Loaded, load_text
from aiorchd.config.schema import Config, Daemon, Pool
from aiorchd.runtime.host_models import HostModels

CONFIG = """
[providers.gone]
base_url = "http://127.0.0.1:1/v1"
[providers.main]
base_url = "{}"
api_key_env = "MAIN_KEY"
[providers.keyless]
base_url = "{}"
api_key_credential = "other"
[providers.sim]
dialect = "simulated"
[[models]]
name = "small"
id = "small-1"
provider = "main"
[[models]]
name = "off"
id = "off-1"
provider = "main"
enabled = false
"""


class Clock:
    """Wall time that can be set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        import time

        return time.time() + self.ahead_s


async def listing(wire: Wire) -> None:
    while True:
        request = await wire.read_request()
        known = request.headers.get("authorization") == "Bearer sk-canary-123456"
        body = b'{"data": [{"id": "large-1"}]}' if known else b'{"error": "no key"}'
        head = f"HTTP/1.1 {200 if known else 401} X\r\ncontent-type: application/json\r\n"
        await wire.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


@asynccontextmanager
async def supplied(config: str, clock: Clock) -> AsyncIterator[tuple[Supply, Loaded]]:
    loaded = load_text(config.encode(), __import__("pathlib").Path("/x.toml"), {})
    async with open_supply({"MAIN_KEY": "sk-canary-123456"}, loaded.config.pool, clock, HostModels()) as supply:
        await supply.plan(loaded)
        yield supply, loaded


async def test_every_provider_is_asked() -> None:
    clock = Clock()
    async with raw_server(listing) as server:
        config = CONFIG.format(server.url("/v1"), server.url("/v1"))
        async with supplied(config, clock) as (supply, loaded):
            told = await Surroundings(supply, clock).look(loaded.config, 5.0)
    rows = {row["name"]: row for row in told["providers"]}
    assert list(rows) == ["gone", "main", "keyless", "sim"]
    assert {name: row["result"] for name, row in rows.items()} == {
        "gone": "unreachable",
        "main": "ok",
        "keyless": "no_key",
        "sim": "simulated",
    }
    assert rows["main"]["missing"] == ["small-1"]  # the one that is switched off is not asked after
    assert rows["main"]["key_place"] == "environment variable MAIN_KEY"
    assert rows["main"]["base_url"] == server.url("/v1")
    assert "canary" not in str(told)


async def test_limits_identity_and_libraries() -> None:
    clock = Clock()
    async with supplied("[daemon]\nlog_level = 'info'\n", clock) as (supply, loaded):
        told = await Surroundings(supply, clock).look(loaded.config, 1.0)
    assert told["identity"] == {"pid": os.getpid(), "uid": os.geteuid(), "gid": os.getegid()}
    assert told["software"]["python"] == platform.python_version()
    assert all(told["software"]["libraries"].values()), told["software"]
    assert told["descriptors"]["needed"] == needed_descriptors(Config())
    assert told["descriptors"]["open"] > 2
    assert [row["result"] for row in told["providers"]] == ["simulated"]


@pytest.mark.parametrize("by_s", [3600.0, -90.0])
async def test_a_clock_that_was_set_is_noticed(by_s: float) -> None:
    clock = Clock()
    async with supplied("[daemon]\nlog_level = 'info'\n", clock) as (supply, loaded):
        surroundings = Surroundings(supply, clock)
        assert abs((await surroundings.look(loaded.config, 1.0))["clock"]["stepped_s"]) < 0.5
        clock.ahead_s = by_s
        told = (await surroundings.look(loaded.config, 1.0))["clock"]
    assert told["stepped_s"] == pytest.approx(by_s, abs=0.5)
    assert 0 <= told["uptime_s"] < 30


def test_what_the_bounds_of_the_configuration_take() -> None:
    config = Config(daemon=Daemon(max_connections=10), pool=Pool(max_connections=5, max_keepalive=3))
    assert needed_descriptors(config) == 10 + 5 + 3 + 64
