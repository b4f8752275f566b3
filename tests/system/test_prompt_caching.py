"""Prompts that a provider has cached, through a daemon: told as such, and costing what the provider takes for them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from processes import daemon

from aiorch import AsyncClient
from aiorchsim.process import Simulator, start_simulator

PRICES = (
    "input_usd_per_1m = 10.0\noutput_usd_per_1m = 30.0\ncache_read_usd_per_1m = 1.0\ncache_write_usd_per_1m = 12.5\n"
    "cache_write_1h_usd_per_1m = 20.0\n"
)
STABLE = "Answer in one word. Every call of this operation begins with the same words. " * 80
LEAST = 1024


def configuration(simulator: Simulator) -> str:
    text = ""
    for dialect, version in (("openai", "v1"), ("anthropic", "v1"), ("gemini", "v1beta")):
        text += f'[providers.{dialect}]\ndialect = "{dialect}"\nbase_url = "{simulator.url}/{version}"\napi_key_env = "SIM_KEY"\n'
        text += f'[[models]]\nname = "{dialect}"\nid = "{dialect}-1"\nprovider = "{dialect}"\n{PRICES}'
    return text


def asked(dialect: str, question: str, ttl: str | None) -> list[dict[str, Any]]:
    part: dict[str, Any] = {"type": "text", "text": STABLE}
    if dialect == "anthropic":
        part["cache_control"] = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
    return [{"role": "system", "content": [part]}, {"role": "user", "content": question}]


@pytest.mark.parametrize(("streamed", "ttl"), [(False, None), (True, None), (False, "1h"), (True, "1h")])
async def test_cached_tokens_are_told_and_cost_what_the_provider_takes(
    tmp_path: Path, streamed: bool, ttl: str | None
) -> None:
    usage: dict[str, list[Any]] = {"openai": [], "anthropic": [], "gemini": []}
    with start_simulator(f"[[models]]\nlatency_s = 0.0\n{PRICES}") as simulator:
        with daemon(tmp_path, configuration(simulator), environment={"SIM_KEY": "sk-sim"}) as running:
            async with AsyncClient(running.socket) as client:
                for dialect in usage:
                    for question in ("What is 1+1?", "What is 2+2?", "What is 3+3?"):
                        options: dict[str, Any] = {
                            "model": dialect,
                            "messages": asked(dialect, question, ttl),
                            "task": dialect,
                        }
                        if streamed:
                            stream = client.stream(**options)
                            assert "".join([piece async for piece in stream]) == str(2 * int(question[8]))
                            reply = stream.reply
                        else:
                            reply = await client.complete(**options)
                        usage[dialect].append(reply.usage)
            await trio.to_thread.run_sync(running.stop)
            with closing(sqlite3.connect(running.state / "metrics.db")) as recorded:
                ours = dict(recorded.execute("SELECT task, sum(cost_usd) FROM calls GROUP BY task"))
        theirs = simulator.stats()
    for dialect, (first, second, third) in usage.items():
        assert first.cache_read == 0
        assert second.cache_read >= LEAST
        assert third.cache_read == second.cache_read
        assert first.cache_write == (second.cache_read if dialect == "anthropic" else 0)
        assert second.cache_write == third.cache_write == 0
        total = {one.input + one.cache_read + one.cache_write for one in (first, second, third)}
        assert len(total) == 1
        told = theirs["by_model"][f"{dialect}-1"]
        assert told["prompt_tokens"] == 3 * total.pop()
        assert told["cache_read_tokens"] == 2 * second.cache_read
        assert ours[dialect] == pytest.approx(told["cost_usd"])


DIALECTS = ("openai", "anthropic", "gemini")
SYSTEM = STABLE[: 6 * LEAST]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"find_{number}",
            "description": f"Finds things of kind {number} in the catalogue, and tells what they cost. " * 4,
            "parameters": {
                "type": "object",
                "properties": {name: {"type": "string", "description": name} for name in ("kind", "colour", "size")},
                "required": ["kind"],
            },
        },
    }
    for number in range(12)
]


def turned(value: Any) -> Any:
    """The same with the names of all maps the other way round."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(value)}
    return [turned(one) for one in value] if isinstance(value, list) else value


async def test_operations_and_catalogues_are_known_again_by_every_provider(tmp_path: Path) -> None:
    """Anthropic is asked to keep a beginning at its second call; the others do by themselves at the first."""
    tables = ""
    for dialect in DIALECTS:
        tables += f'[operations.sum_{dialect}]\nsystem = "{SYSTEM}"\ntemplate = "What is {{{{ input }}}}?"\nmodels = ["{dialect}"]\n'
    usage: dict[str, list[Any]] = {}
    apart = "".join(f'[[models]]\nname = "{dialect}-1"\nlatency_s = 0.0\n{PRICES}' for dialect in DIALECTS)
    with start_simulator(apart) as simulator:
        configured = configuration(simulator) + tables
        with daemon(tmp_path, configured, environment={"SIM_KEY": "sk-sim"}) as running:
            async with AsyncClient(running.socket) as client:
                for dialect in DIALECTS:
                    for number in range(4):
                        reply = await client.complete(operation=f"sum_{dialect}", input=f"{number}+{number}")
                        assert reply.text == str(2 * number)
                        usage.setdefault(f"sum {dialect}", []).append(reply.usage)
                    for number in range(4):
                        reply = await client.complete(
                            f"What is {number}+{number}?", model=dialect, tools=turned(TOOLS) if number % 2 else TOOLS
                        )
                        usage.setdefault(f"tools {dialect}", []).append(reply.usage)
                stats = await client.stats()
        theirs = simulator.stats()
    for what, (first, second, third, fourth) in usage.items():
        assert first.cache_read == first.cache_write == 0
        kept = second.cache_write if "anthropic" in what else second.cache_read
        assert kept >= LEAST, what
        assert third.cache_read == fourth.cache_read == kept, what
        assert third.cache_write == fourth.cache_write == 0
    assert stats["tokens"]["cache_read"] == theirs["tokens"]["cache_read"] > 0
    assert stats["tokens"]["cache_write"] == theirs["tokens"]["cache_write"] > 0
    assert stats["spent_usd"] == pytest.approx(theirs["cost_usd"])


async def test_questions_that_are_asked_together_begin_alike(tmp_path: Path) -> None:
    """The operation's instructions stand first in every batch, and each question is told its share of what was read."""
    tables = apart = ""
    for dialect in DIALECTS:
        tables += f'[operations.sum_{dialect}]\nsystem = "{SYSTEM}"\ntemplate = "What is {{{{ input }}}}?"\n'
        tables += f'models = ["{dialect}"]\nbatch_size = 10\n'
        apart += f'[[models]]\nname = "{dialect}-1"\nlatency_s = 0.0\n{PRICES}'
    read: dict[str, list[int]] = {dialect: [] for dialect in DIALECTS}
    with start_simulator(apart) as simulator:
        with daemon(tmp_path, configuration(simulator) + tables, environment={"SIM_KEY": "sk-sim"}) as running:
            async with AsyncClient(running.socket) as client:

                async def ask(dialect: str, number: int, replies: list[Any]) -> None:
                    reply = await client.complete(operation=f"sum_{dialect}", input=f"{number}+{number}")
                    assert reply.text == str(2 * number)
                    replies.append(reply)

                for dialect in DIALECTS:
                    for turn in range(4):
                        replies: list[Any] = []
                        async with trio.open_nursery() as nursery:
                            for number in range(8 * turn, 8 * turn + 8):
                                nursery.start_soon(ask, dialect, number, replies)
                        read[dialect].append(sum(reply.usage.cache_read for reply in replies))
        theirs = simulator.stats()
    assert theirs["batches"]["items"] > theirs["batches"]["calls"] > 0
    assert sum(map(sum, read.values())) == theirs["tokens"]["cache_read"]
    for dialect in DIALECTS:
        assert read[dialect][-1] >= LEAST, (dialect, read)
