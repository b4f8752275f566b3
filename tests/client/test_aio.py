"""The asynchronous client on both loops: the same tests, each run by asyncio and by trio."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from conformance import FOREVER_S, PATIENCE_S, SOON_S, within

import aiorch
from aiorch.testing import Answer, Failure, FakeDaemon

SLOW = Answer(text="late", delay_s=FOREVER_S)


class Asyncio:
    """What the tests need of asyncio."""

    sleep = staticmethod(asyncio.sleep)
    cancelled: Any = asyncio.CancelledError

    @staticmethod
    def run(main: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        async def call() -> Any:
            return await main(*arguments)

        return asyncio.run(call())

    @staticmethod
    async def all(*acts: Callable[[], Awaitable[Any]]) -> list[Any]:
        return list(await asyncio.gather(*(act() for act in acts)))

    @staticmethod
    async def cancel_when(condition: Callable[[], None], act: Callable[[], Awaitable[Any]]) -> None:
        task = asyncio.ensure_future(act())
        await asyncio.get_running_loop().run_in_executor(None, condition)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    @staticmethod
    async def in_thread(act: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, act)


class Trio:
    """What the tests need of trio."""

    sleep = staticmethod(trio.sleep)
    cancelled: Any = trio.Cancelled

    @staticmethod
    def run(main: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        return trio.run(main, *arguments)

    @staticmethod
    async def all(*acts: Callable[[], Awaitable[Any]]) -> list[Any]:
        results: list[Any] = [None] * len(acts)

        async def run(place: int) -> None:
            results[place] = await acts[place]()

        async with trio.open_nursery() as nursery:
            for place in range(len(acts)):
                nursery.start_soon(run, place)
        return results

    @staticmethod
    async def cancel_when(condition: Callable[[], None], act: Callable[[], Awaitable[Any]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            await trio.to_thread.run_sync(condition)
            nursery.cancel_scope.cancel()

    @staticmethod
    async def in_thread(act: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(act)


@pytest.fixture(params=[Asyncio, Trio], ids=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> Any:
    return request.param


@contextmanager
def no_descriptor_leaks() -> Iterator[None]:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_every_method_has_its_place(loop: Any, daemon: FakeDaemon) -> None:
    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            assert client.server is None
            reply = await client.complete("hi", model="small")
            assert (reply.text, reply.model) == ("hi", "small")
            assert client.server is not None
            assert await client.hello() == client.server
            assert await client.ping() == "pong"
            assert (await client.explain(reply.id))["id"] == reply.id
            assert (await client.status())["state"] == "ready"
            assert await client.stats(by="model") == {"calls": 1}
            assert (await client.models_list())[0]["name"] == "fake"
            assert await client.cache_stats() == {"entries": 0}
            assert await client.cache_clear() == await client.cache_forget(tag="t") == 0
            assert await client.config_get("a.b") == {}
            assert await client.config_reload() == {"changed": False}
            assert await client.call("ping") == "pong"
            assert [len(vector) for vector in (await client.embed(["a", "b"])).vectors] == [8, 8]

    loop.run(main)
    assert daemon.connections_made == 1


def test_the_surface_is_that_of_the_blocking_client() -> None:
    def surface(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert surface(aiorch.AsyncClient) == surface(aiorch.Client) - {"close"}
    assert surface(aiorch.AsyncStream) == (surface(aiorch.Stream) - {"close"}) | {"aclose"}


def test_streams(loop: Any, daemon: FakeDaemon) -> None:
    daemon.answer("st", Answer(text="a b c", pause_s=0.01))
    daemon.answer("long", Answer(text="a b", pieces=["a", " b"], pause_s=FOREVER_S))
    daemon.answer("known", Answer(text="all at once", pieces=[]))
    daemon.answer("later", Failure(error=aiorch.IncompleteStream("broke off"), pieces=["half"]))

    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            stream = client.stream("st")
            with pytest.raises(RuntimeError, match="has not come to its end"):
                _ = stream.reply
            assert [piece async for piece in stream] == ["a", " b", " c"]
            assert stream.reply.text == "a b c"
            events = client.stream("st").events()
            assert [delta async for delta in events] == [
                aiorch.Delta(0, "a"),
                aiorch.Delta(1, " b"),
                aiorch.Delta(2, " c"),
            ]
            assert [piece async for piece in client.stream("known")] == ["all at once"]
            async with client.stream("long") as stream:
                assert await anext(stream) == "a"
                assert daemon.in_flight == 1
            await loop.in_thread(lambda: daemon.wait_until(lambda daemon: daemon.in_flight == 0))
            stream = client.stream("later")
            assert await anext(stream) == "half"
            with pytest.raises(aiorch.IncompleteStream):
                await anext(stream)
            assert await anext(stream, None) is None

    loop.run(main)


def test_a_stream_that_is_dropped_is_cancelled(loop: Any, daemon: FakeDaemon) -> None:
    daemon.answer("long", Answer(text="a b", pieces=["a", " b"], pause_s=FOREVER_S))

    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            async for piece in client.stream("long"):
                assert piece == "a"
                break
            await loop.in_thread(lambda: daemon.wait_until(lambda daemon: daemon.in_flight == 0))
            assert await client.ping() == "pong"

    loop.run(main)
    assert daemon.connections_made == 1


def test_a_cancelled_task_is_cancelled_in_the_daemon(loop: Any, daemon: FakeDaemon) -> None:
    daemon.answer("slow", SLOW)

    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:

            def asked() -> None:
                daemon.wait_until(lambda daemon: daemon.in_flight == 1)

            await loop.cancel_when(asked, lambda: client.complete("slow"))
            await loop.in_thread(lambda: daemon.wait_until(lambda daemon: daemon.in_flight == 0))
            await loop.cancel_when(asked, lambda: anext(client.stream("slow")))
            await loop.in_thread(lambda: daemon.wait_until(lambda daemon: daemon.in_flight == 0))
            assert (await client.complete("next")).text == "next"

    loop.run(main)
    assert daemon.connections_made == 1
    assert [asked.cancelled for asked in daemon.requests] == [True, True, False]


def test_a_thousand_calls_at_once(loop: Any, daemon: FakeDaemon) -> None:
    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:

            async def ask(number: int) -> bool:
                prompt = f"{number} " + "x" * (number * 37 % 5000)
                if number % 5:
                    return (await client.complete(prompt, timeout_s=PATIENCE_S)).text == prompt
                return "".join([piece async for piece in client.stream(prompt)]) == prompt

            assert all(await loop.all(*(lambda number=number: ask(number) for number in range(1000))))

    with no_descriptor_leaks():
        loop.run(main)
        daemon.wait_until(lambda daemon: daemon.connections == 0)
    assert daemon.connections_made == 1


def test_restarts_and_replacements_under_load(loop: Any, daemon: FakeDaemon) -> None:
    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            ended = False

            async def ask(task: int) -> int:
                answered = 0
                while not ended:
                    key = f"{task}:{answered}"
                    assert (await client.complete(key, key=key)).text == key
                    answered += 1
                return answered

            async def disturb() -> int:
                nonlocal ended
                for disturbance in range(9):
                    sofar = len(daemon.requests)
                    await loop.in_thread(
                        lambda sofar=sofar: daemon.wait_until(lambda daemon: len(daemon.requests) >= sofar + 50)
                    )
                    await loop.in_thread((daemon.restart, daemon.cut, daemon.go_away)[disturbance % 3])
                ended = True
                return 1

            assert all(await loop.all(disturb, *(lambda task=task: ask(task) for task in range(10))))

    with no_descriptor_leaks():
        loop.run(main)
        daemon.wait_until(lambda daemon: daemon.connections == 0)
    assert daemon.connections_made <= 10


def test_timeouts(loop: Any, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answer("slow", SLOW)
    daemon.answer("dripping", Answer(text="a b c", pause_s=0.2))

    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket, timeout_s=0.1) as client:
            with pytest.raises(aiorch.DeadlineExceeded) as caught, within(SOON_S):
                await client.complete("slow")
            assert caught.value.stage is None  # the daemon's own verdict
            with pytest.raises(aiorch.DeadlineExceeded):
                async for _ in client.stream("dripping"):
                    pass
        with socket.socket(socket.AF_UNIX) as hung:
            hung.bind(str(tmp_path / "hung"))
            hung.listen(8)
            async with aiorch.AsyncClient(tmp_path / "hung", timeout_s=0.1, grace_s=0.0) as client:
                with pytest.raises(aiorch.DeadlineExceeded, match="no answer came within") as caught, within(SOON_S):
                    await client.complete("slow")
                assert caught.value.stage == "client"
                with pytest.raises(aiorch.DeadlineExceeded):
                    await anext(client.stream("slow"))
                with pytest.raises(aiorch.DeadlineExceeded):
                    await client.complete("x" * 3_000_000)

    loop.run(main)


def test_a_full_queue_is_waited_for_and_then_told(loop: Any, tmp_path: Path) -> None:
    """The trap in `open_unix_connection` and `open_unix_socket`: a socket that is not connected."""
    path = str(tmp_path / "s")

    def serve(listening: socket.socket, fillers: list[socket.socket]) -> None:
        listening.settimeout(PATIENCE_S)
        for filler in fillers:
            filler.close()
            listening.accept()[0].close()
        connection, _ = listening.accept()
        with connection:
            assert b"ping" in connection.recv(65536)
            connection.sendall(b"\x94\x01\x02\xc0\xa4pong")
            connection.recv(1)

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as pool:
            listening.bind(path)
            listening.listen(0)
            fillers = []
            for _ in range(2):
                fillers.append(socket.socket(socket.AF_UNIX))
                fillers[-1].setblocking(False)
                try:
                    fillers[-1].connect(path)
                except BlockingIOError:
                    fillers.pop().close()
            async with aiorch.AsyncClient(path, connect_timeout_s=0.1) as client:
                with pytest.raises(aiorch.Unreachable, match="its queue of waiting connections is full"):
                    await client.ping()
            async with aiorch.AsyncClient(path, connect_timeout_s=PATIENCE_S) as client:
                served = None

                async def begin() -> None:
                    nonlocal served
                    await loop.sleep(0.05)
                    served = pool.submit(serve, listening, fillers)

                results = await loop.all(client.ping, begin)
                assert results[0] == "pong"
            assert served is not None
            served.result(PATIENCE_S)

    loop.run(main)


def test_tasks_that_find_no_daemon_wait_together(loop: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiorch.AsyncClient(tmp_path / "missing", connect_timeout_s=0.2) as client:

            async def ask() -> bool:
                with pytest.raises(aiorch.Unreachable):
                    await client.ping()
                return True

            with within(SOON_S):  # one after the other it would be six seconds
                assert all(await loop.all(*[ask] * 30))

    loop.run(main)


def test_an_exception_in_the_block_comes_out_as_it_is(loop: Any, daemon: FakeDaemon) -> None:
    """No group around it, though trio has a nursery there."""

    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            await client.ping()
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        loop.run(main)
    daemon.wait_until(lambda daemon: daemon.connections == 0)


def test_leaving_the_block_fails_what_other_tasks_wait_for(loop: Any, daemon: FakeDaemon) -> None:
    daemon.answer("slow", SLOW)

    async def main() -> None:
        client = aiorch.AsyncClient(daemon.socket)

        async def hold() -> str:
            async with client:
                await client.ping()
                await loop.in_thread(lambda: daemon.wait_until(lambda daemon: daemon.in_flight == 1))
            return "left"

        async def ask() -> str:
            while client._connections is None:
                await loop.sleep(0)
            with pytest.raises(aiorch.ConnectionLost, match="this client was closed"):
                await client.complete("slow")
            with pytest.raises(RuntimeError, match="this client was closed"):
                await client.complete("after")
            return "told"

        assert await loop.all(hold, ask) == ["left", "told"]

    loop.run(main)


def test_how_it_must_be_opened(loop: Any, daemon: FakeDaemon) -> None:
    async def main() -> None:
        client = aiorch.AsyncClient(daemon.socket)
        with pytest.raises(RuntimeError, match="async with aiorch.AsyncClient"):
            await client.ping()
        with pytest.raises(RuntimeError, match="async with aiorch.AsyncClient"):
            client.stream("x")
        async with client:
            await client.ping()
            with pytest.raises(RuntimeError, match="opened once"):
                await client.__aenter__()

    loop.run(main)


def test_it_needs_a_loop_it_knows() -> None:
    opening = aiorch.AsyncClient("/x").__aenter__()
    with pytest.raises(RuntimeError, match="in a task of asyncio or trio"):
        opening.send(None)


def test_it_does_not_survive_a_fork(loop: Any, daemon: FakeDaemon) -> None:
    async def main() -> int:
        async with aiorch.AsyncClient(daemon.socket) as client:
            await client.ping()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    client.complete("child").send(None)
                except RuntimeError as error:
                    code = 0 if "does not survive a fork" in str(error) else 2
                finally:
                    os._exit(code)
            assert (await client.complete("parent")).text == "parent"
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert loop.run(main) == 0


def test_under_trios_guest_mode_each_task_gets_its_own_kind(daemon: FakeDaemon) -> None:
    async def on_trio() -> str:
        async with aiorch.AsyncClient(daemon.socket) as client:
            assert type(client._runtime).__name__ == "TrioRuntime"
            return (await client.complete("from trio")).text

    async def on_asyncio() -> tuple[str, str]:
        finished: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            on_trio,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=finished.set_result,
        )
        async with aiorch.AsyncClient(daemon.socket) as client:
            assert type(client._runtime).__name__ == "AsyncioRuntime"
            mine = (await client.complete("from asyncio")).text
            return mine, (await finished).unwrap()

    assert asyncio.run(on_asyncio()) == ("from asyncio", "from trio")


async def test_deadlines_are_on_trios_clock(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    """A minute passes at once, as a host's own tests expect."""
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "hung"))
        hung.listen(8)
        async with aiorch.AsyncClient(tmp_path / "hung") as client:
            with pytest.raises(aiorch.DeadlineExceeded), within(SOON_S):
                await client.complete("x", timeout_s=60.0)
            assert trio.current_time() == pytest.approx(61.0)
        async with aiorch.AsyncClient(tmp_path / "missing", connect_timeout_s=600) as client:
            with pytest.raises(aiorch.Unreachable, match=r"for (599|600)\.\d s"), within(PATIENCE_S):
                await client.ping()


async def test_every_wait_on_trio_is_a_checkpoint(daemon: FakeDaemon) -> None:
    async with aiorch.AsyncClient(daemon.socket) as client:
        with trio.testing.assert_checkpoints():
            await client.ping()
        stream = client.stream("a b c")
        for _ in range(3):
            with trio.testing.assert_checkpoints():
                await anext(stream)


def test_destructors_in_other_threads_are_safe(loop: Any, daemon: FakeDaemon) -> None:
    daemon.answer("long", Answer(text="a b", pieces=["a", " b"], pause_s=FOREVER_S))

    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            streams = [client.stream("long") for _ in range(5)]
            for stream in streams:
                assert await anext(stream) == "a"
            del stream
            thread = threading.Thread(target=streams.clear)
            thread.start()
            thread.join()
            await loop.in_thread(lambda: daemon.wait_until(lambda daemon: daemon.in_flight == 0))

    loop.run(main)
    assert daemon.connections_made == 1


def test_streams_outlive_their_loop(loop: Any, daemon: FakeDaemon) -> None:
    daemon.answer("long", Answer(text="a b", pieces=["a", " b"], pause_s=FOREVER_S))
    kept: list[Any] = []

    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            kept.append(client.stream("long"))
            assert await anext(kept[0]) == "a"

    loop.run(main)
    daemon.wait_until(lambda daemon: daemon.connections == 0)
    kept.clear()
    gc.collect()


def test_trio_is_not_imported_for_hosts_that_do_not_use_it(daemon: FakeDaemon) -> None:
    import subprocess

    code = (
        "import asyncio, sys, aiorch\n"
        "async def main():\n"
        "    async with aiorch.AsyncClient() as client: print((await client.complete('hi')).text)\n"
        "asyncio.run(main())\n"
        "assert 'trio' not in sys.modules\n"
    )
    client = str(Path(aiorch.__file__).parents[1])
    environment = {**daemon.env(), "PYTHONPATH": client}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("hi\n", "")


def test_deadlines_that_make_no_sense_are_the_daemons_to_refuse(loop: Any, daemon: FakeDaemon) -> None:
    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            for timeout_s in (-1, math.nan, 0):
                with pytest.raises(aiorch.InvalidRequest, match="timeout_s"):
                    await client.complete("x", timeout_s=timeout_s)

    loop.run(main)


def test_questions_of_one_turn_leave_together(loop: Any, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone leaves at once; many at a time in one write."""

    async def main() -> None:
        async with aiorch.AsyncClient(daemon.socket) as client:
            await client.ping()
            link = client._connections._link  # type: ignore[union-attr]
            assert link is not None
            writes: list[int] = []
            flush = link.flush

            def counting() -> Any:
                writes.append(len(link.exchange.unsent()))
                return flush()

            monkeypatch.setattr(link, "flush", counting)
            await client.complete("alone")
            assert [count for count in writes if count] == [1]
            writes.clear()
            await loop.all(*(lambda number=number: client.complete(str(number)) for number in range(20)))
            assert [count for count in writes if count] == [1, 19]

    loop.run(main)
