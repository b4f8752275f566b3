"""A caller who leaves: the provider's connection is closed at once, on every path, and nothing is held afterwards.

The bar is 100 ms (`benchmarks/failure.py` measures it). Here it is wider, since other tests run beside these.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
import trio
from leaving import Leaver, a_leaver
from processes import ROOT

import aiorch

WITHIN_S = 1.0
HOST = """
import sys, aiorch
client = aiorch.Client(sys.argv[1])
pieces = client.stream("What is 1 + 1? Then write a long story.", model="stalling")
next(iter(pieces))
print("came", flush=True)
next(iter(pieces))
"""


async def test_on_every_path(tmp_path: Path) -> None:
    async with a_leaver(tmp_path) as leaver:
        took = {}
        with trio.fail_after(90):
            for name, path in leaver.paths.items():
                took[name] = await path()
                await leaver.assert_idle()
        assert {name: took_s for name, took_s in took.items() if took_s > WITHIN_S} == {}


async def test_by_every_way(tmp_path: Path) -> None:
    async with a_leaver(tmp_path) as leaver:
        with trio.fail_after(60):
            await by_its_deadline(leaver)
            await by_closing_its_connection(leaver)
            await by_being_killed(leaver)


async def by_its_deadline(leaver: Leaver) -> None:
    with pytest.raises(aiorch.DeadlineExceeded):
        await leaver.client.complete("What is 1 + 1?", model="slow", timeout_s=0.3)
    await gone(leaver)


async def by_closing_its_connection(leaver: Leaver) -> None:
    async with await trio.open_unix_socket(str(leaver.running.socket)) as stream:
        question = {"prompt": "What is 2 + 2?", "model": "slow", "timeout_s": 50}
        await stream.send_all(msgpack.packb([0, 1, "complete", [question]]))
        await leaver.until(lambda calls: calls["in_flight"] == 1)
    await gone(leaver)


async def by_being_killed(leaver: Leaver) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(leaver.running.socket)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
    )
    assert host.stdout is not None
    assert await trio.to_thread.run_sync(host.stdout.readline) == b"came\n"
    host.send_signal(signal.SIGKILL)
    await gone(leaver)
    host.wait()
    host.stdout.close()


async def gone(leaver: Leaver) -> None:
    with trio.fail_after(WITHIN_S):
        await leaver.until(lambda calls: calls["in_flight"] == 0)
    await trio.sleep(0.05)
    await leaver.assert_idle()
