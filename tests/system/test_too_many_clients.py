"""More clients than there are descriptors, and clients who send half a message: the others are served all the same."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgpack
import pytest
import trio
from live_editing import configuration
from processes import DaemonProcess, daemon
from sums import sum_of

from aiorch import AsyncClient, Overloaded
from aiorchsim.process import start_simulator

CLIENTS = 400
LIMIT = 256


@pytest.fixture
def few_descriptors(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon that may open 256 files and sockets in all, with a provider that has to be asked."""
    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit (util-linux)")
    with (
        start_simulator("[[models]]\nlatency_s = 0.0\n") as simulator,
        daemon(tmp_path, configuration(simulator.base_url), start=False) as running,
    ):
        running.through = ("prlimit", f"--nofile={LIMIT}:{LIMIT}")
        running.start()
        yield running


async def test_files_and_provider_work_however_many_clients_come(few_descriptors: DaemonProcess) -> None:
    running = few_descriptors
    async with AsyncClient(running.socket, timeout_s=20.0) as early:
        await early.ping()
        with ExitStack() as crowd:
            served, turned_away = [], 0
            for _ in range(CLIENTS):
                peer = crowd.enter_context(socket.socket(socket.AF_UNIX))
                peer.settimeout(10)
                peer.connect(str(running.socket))
                try:
                    peer.sendall(msgpack.packb([0, 1, "ping", []]))
                    said = await trio.to_thread.run_sync(peer.recv, 500)
                except OSError:
                    said = b""  # it was turned away while its ping was on the way
                if b"pong" in said:
                    served.append(peer)
                else:
                    turned_away += 1
                    assert not said or b"LimitNOFILE" in said, said
            assert len(served) + turned_away == CLIENTS
            assert len(served) > 100
            assert len(os.listdir(f"/proc/{running.pid}/fd")) < LIMIT - 32
            async with trio.open_nursery() as nursery:  # each needs a connection to the provider

                async def ask(number: int) -> None:
                    assert (await early.complete(sum_of(number).prompt)).text == sum_of(number).answer

                for number in range(40):
                    nursery.start_soon(ask, number)
            while (status := await early.status())["store"]["answers"]["queued"]:
                await trio.sleep(0.01)
            assert status["health"] == "ok", status["concerns"]
            assert status["store"]["answers"]["written"] == 40
    async with AsyncClient(running.socket, timeout_s=20.0) as late:
        with trio.fail_after(10):
            while True:
                try:
                    if (await late.status())["door"]["connections"] <= 1:
                        break
                except Overloaded:
                    pass  # it has not seen yet that the crowd has left
                await trio.sleep(0.01)
    said_in_log = running.said()
    assert said_in_log.count("connections_refused") == 1
    assert "descriptors for fewer connections" in said_in_log
    assert "Traceback" not in said_in_log


async def test_half_messages_are_given_up_and_idle_ones_are_not(tmp_path: Path) -> None:
    config = "[daemon]\nframe_timeout_s = 1.0\n" + configuration("http://127.0.0.1:1/v1")
    half = b"\x94\x00\x01\xa8complete\x91\x81\xa6prompt\xdb\x00\x01\x00\x00"
    with daemon(tmp_path, config) as running, ExitStack() as crowd:
        halves, idle = (
            [crowd.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(150)] for _ in ("half", "idle")
        )
        for peer in (*halves, *idle):
            peer.connect(str(running.socket))
        for peer in halves:
            peer.sendall(half)
        async with AsyncClient(running.socket, timeout_s=20.0) as client:
            with trio.fail_after(20):
                while (await client.status())["door"]["connections"] > len(idle) + 1:
                    await trio.sleep(0.05)
        for peer in halves:
            assert b"did not come whole within 1 s" in peer.recv(500)
        for peer in idle:
            peer.sendall(msgpack.packb([0, 1, "ping", []]))
            peer.settimeout(10)
            assert b"pong" in await trio.to_thread.run_sync(peer.recv, 500)
