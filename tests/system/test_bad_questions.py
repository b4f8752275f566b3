"""Questions that are hard to keep, and answers that cannot be read back, with a real daemon: each ends rightly or with an error
that names the field, and costs nobody else anything."""

from __future__ import annotations

import base64
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from processes import DaemonProcess, daemon

import aiorch
from aiorchsim.process import start_simulator

MIB = 1024 * 1024


@contextmanager
def a_host(folder: Path, more: str = "") -> Iterator[tuple[DaemonProcess, Any]]:
    with start_simulator("[[models]]\nlatency_s = 0.0\n") as simulator:
        text = f"""
            [providers.main]
            dialect = "openai"
            base_url = "{simulator.base_url}"
            [[models]]
            name = "small"
            provider = "main"
            {more}
        """
        with daemon(folder, text) as running:
            yield running, simulator
            assert running.stop() == 0, running.said()


def answered(simulator: Any) -> int:
    return int(simulator.stats()["calls"]["answered"])


def test_ten_megabytes_are_asked_once(tmp_path: Path) -> None:
    with a_host(tmp_path) as (running, simulator), aiorch.Client(running.socket) as client:
        long = "Say yes. " + "word " * (2 * MIB)
        assert len(long) > 10 * MIB
        assert [client.complete(long, timeout_s=60).cache for _ in range(2)] == ["miss", "exact"]
        assert answered(simulator) == 1


async def test_text_that_is_no_text_is_repaired_and_has_one_key(tmp_path: Path) -> None:
    """Other clients than ours send a lone surrogate as its three bytes."""
    with a_host(tmp_path) as (running, simulator):

        async def ask(prompt: str) -> Any:
            stream = await trio.open_unix_socket(str(running.socket))
            async with stream:
                message = [0, 1, "complete", [{"prompt": prompt}]]
                await stream.send_all(msgpack.packb(message, unicode_errors="surrogatepass"))
                unpacker = msgpack.Unpacker()
                while True:
                    unpacker.feed(await stream.receive_some())
                    for _, _, error, result in unpacker:
                        assert error is None, error
                        return result

        assert [(await ask("one \ud800 two"))["cache"] for _ in range(2)] == ["miss", "exact"]
        assert (await ask("one two"))["cache"] == "miss"
        assert answered(simulator) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused_by_its_name(tmp_path: Path, value: float) -> None:
    with a_host(tmp_path) as (running, simulator), aiorch.Client(running.socket) as client:
        for name in ("temperature", "timeout_s", "cost_limit", "cache_ttl_s", "quality_threshold"):
            with pytest.raises(aiorch.InvalidRequest, match=f"{name}: must be a finite number"):
                client.complete("Hello", **{name: value})
        with pytest.raises(aiorch.InvalidRequest, match=r"extra\.top_p: must be a finite number"):
            client.complete("Hello", extra={"top_p": value})
        with pytest.raises(aiorch.InvalidRequest, match=r"output_schema\.maximum: must be a finite number"):
            client.complete("Hello", output_schema={"type": "number", "maximum": value})
        assert answered(simulator) == 0


def test_an_image_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    def showing(image: bytes) -> list[dict[str, Any]]:
        url = "data:image/png;base64," + base64.b64encode(image).decode()
        parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
        return [{"role": "user", "content": parts}]

    with a_host(tmp_path) as (running, simulator), aiorch.Client(running.socket) as client:
        one, other = b"a" * MIB, b"a" * (MIB - 1) + b"b"
        found = [client.complete(messages=showing(image)).cache for image in (one, one, other, other)]
        assert found == ["miss", "exact", "miss", "exact"]
        assert answered(simulator) == 2
        held = client.cache_stats()["memory"]["bytes"]
        assert held < MIB, "the image is in the key, not in the cache"


def test_an_answer_that_a_new_schema_would_not_take_is_not_given(tmp_path: Path) -> None:
    table = '[operations.count]\noutput_schema = { type = "object", required = ["n"], properties = { n = { type = "integer" } } }'
    with a_host(tmp_path, table) as (running, simulator), aiorch.Client(running.socket) as client:
        first = client.complete(operation="count", input="Give n")
        assert client.complete(operation="count", input="Give n").cache == "exact"
        running.config.write_text(running.config.read_text().replace('"integer"', '"string"'))
        assert client.config_reload()["result"] in ("accepted", "unchanged")
        second = client.complete(operation="count", input="Give n")
        assert second.cache == "miss"
        assert (type(first.data["n"]), type(second.data["n"])) == (int, str)
        assert answered(simulator) == 2


def test_a_poisoned_answer_is_dropped_counted_and_asked_anew(tmp_path: Path) -> None:
    with a_host(tmp_path) as (running, simulator):
        with aiorch.Client(running.socket) as client:
            right = client.complete("What is 6 * 7?").text
            client.complete("What is 1 + 1?")
        assert running.stop() == 0
        with closing(sqlite3.connect(running.state / "cache.db")) as connection, connection:
            # Another answer's body: readable, and wrong.
            (body,) = connection.execute("SELECT body FROM answers ORDER BY number DESC LIMIT 1").fetchone()
            connection.execute("UPDATE answers SET body = ? WHERE number = (SELECT min(number) FROM answers)", (body,))
        running.start()
        with aiorch.Client(running.socket) as client:
            found = client.complete("What is 6 * 7?")
            assert (found.cache, found.text) == ("miss", right)
            assert client.cache_stats()["disk"]["poisoned"] == 1
            assert client.complete("What is 1 + 1?").cache == "exact"
            assert client.complete("What is 6 * 7?").cache == "exact"
        assert answered(simulator) == 3


def test_a_cache_of_an_older_release_is_taken_over(tmp_path: Path) -> None:
    """One from before the semantic cache: what is missing is made, what is there is of use."""
    with a_host(tmp_path) as (running, simulator):
        with aiorch.Client(running.socket) as client:
            client.complete("What is 6 * 7?")
        assert running.stop() == 0
        with closing(sqlite3.connect(running.state / "cache.db")) as connection, connection:
            for table in ("semantic_entries", "semantic_state"):
                connection.execute(f"DROP TABLE {table}")
            connection.execute("PRAGMA user_version = 1")
        running.start()
        with aiorch.Client(running.socket) as client:
            assert client.complete("What is 6 * 7?").cache == "exact"
            assert client.status()["store"]["files"]["cache"]["put_aside"] == []
        assert answered(simulator) == 1
