"""A cached answer to a blocking Python caller, beside a blocking Python echo of the same bytes, and a redis GET.

    python benchmarks/hit_latency.py [--save] [--quick]

All share one CPU, because a wake-up across CPUs of a virtual machine costs more than what is measured. They take turns,
a few hundred calls each, in changing order. Two floors:

- echo: a Python loop of recv and sendall that takes a request's bytes and gives a reply's, with a caller that sends and
  receives them and does nothing else. Nobody decodes anything.
- blocking server: the same loop, which decodes the MessagePack request, looks the answer up in a dict and packs the
  daemon's own reply, with a caller who packs, unpacks and looks at the text: the least that could be called a cache on a
  socket. It has no statistics, no limits, one connection. The sketch that the bar was derived from was held against this.
"""

import contextlib
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
from rig.figures import Figure, options, publish
from rig.meters import UNDER_TEST, come_first, cpu_s, median, move, pinned, quantile, rss_bytes, undisturbed
from rig.questions import Asked, kept
from rig.scene import scene

import aiorch


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    rounds, calls = (3, 200) if chosen.quick else (25, 600)
    come_first()
    questions = kept(100)
    with contextlib.ExitStack() as stack:
        at = stack.enter_context(scene(questions=questions))
        client = stack.enter_context(aiorch.Client(at.socket))
        for asked in questions:
            assert client.complete(asked.prompt).text == asked.answer
        request_size, reply_size = _sizes(at.socket, questions[0])
        pids = dict.fromkeys(("aiorch.Client", "plain socket and msgpack"), at.daemon.pid)
        rivals: dict[str, Callable[[], list[float]]] = {
            "aiorch.Client": lambda: _client(client, questions, calls),
            "plain socket and msgpack": stack.enter_context(_bare(at.socket, questions, calls)),
        }
        rivals["echo"], pids["echo"] = stack.enter_context(_echo(at.folder, request_size, reply_size, calls))
        rivals["blocking server"], pids["blocking server"] = stack.enter_context(
            _serving(at.folder, at.socket, questions, calls)
        )
        redis = _redis(stack, at.folder, reply_size, questions, calls)
        if redis is not None:
            rivals["redis-py GET"], pids["redis-py GET"] = redis
        # The provider is idle from here on; what wakes it must not land on the CPU in question.
        move(at.daemon.pid, UNDER_TEST)
        stack.enter_context(pinned(UNDER_TEST))
        for run in rivals.values():
            run()

        def turns() -> dict[str, Any]:
            row: dict[str, Any] = {}
            for name in random.sample(list(rivals), len(rivals)):
                before = cpu_s(pids[name])
                latencies = sorted(rivals[name]())
                row[name] = {
                    "p50_us": quantile(latencies, 0.5) * 1e6,
                    "p99_us": quantile(latencies, 0.99) * 1e6,
                    "server_cpu_us": (cpu_s(pids[name]) - before) / calls * 1e6,
                }
            return row

        done = [undisturbed(turns, [*at.pids, *pids.values()], patience_s=4) for _ in range(rounds)]
        rss = rss_bytes(at.daemon.pid)
    rows = {name: [row[name] for row in done] for name in rivals}
    middle = {name: {key: median(row[key] for row in got) for key in got[0]} for name, got in rows.items()}
    ratio = {
        floor: {
            name: median(ours["p50_us"] / least["p50_us"] for ours, least in zip(got, rows[floor], strict=True))
            for name, got in rows.items()
        }
        for floor in ("echo", "blocking server")
    }
    own, bare = middle["aiorch.Client"], middle["plain socket and msgpack"]
    beside = f"{own['p50_us']:.1f} us, p99 {own['p99_us']:.0f} us; echo {middle['echo']['p50_us']:.1f} us; "
    beside += (
        f"redis-py GET {middle['redis-py GET']['p50_us']:.1f} us"
        if redis is not None
        else "redis: redis-server or redis-py is absent"
    )
    beside += f"; daemon {own['server_cpu_us']:.1f} us CPU an answer, RSS {rss / 1e6:.0f} MB"
    details = {
        "request_bytes": request_size,
        "reply_bytes": reply_size,
        "median": middle,
        "ratio_to": ratio,
        "rounds": rounds,
        "calls_a_round": calls,
    }
    figures = [
        Figure(
            "cached answer, blocking Python client, one CPU: p50 over a bare echo's",
            ratio["echo"]["aiorch.Client"],
            "times",
            3.0,
            beside=beside,
            details=details,
        ),
        Figure(
            "the same: p50 over a blocking server's that decodes, looks up and packs",
            ratio["blocking server"]["aiorch.Client"],
            "times",
            3.0,
            beside=f"blocking server {middle['blocking server']['p50_us']:.1f} us",
        ),
        Figure(
            "the same over a plain socket with msgpack, without our client: p50 over a bare echo's",
            ratio["echo"]["plain socket and msgpack"],
            "times",
            beside=f"{bare['p50_us']:.1f} us, p99 {bare['p99_us']:.0f} us; over the blocking server's "
            f"{ratio['blocking server']['plain socket and msgpack']:.2f} times",
        ),
    ]
    publish("hit_latency", figures, disturbed=[row["disturbed"] for row in done], save=chosen.save)


def _client(client: aiorch.Client, questions: list[Asked], calls: int) -> list[float]:
    latencies = []
    for turn in range(calls):
        asked = questions[turn % len(questions)]
        began = time.perf_counter()
        text = client.complete(asked.prompt).text
        latencies.append(time.perf_counter() - began)
        assert text == asked.answer
    return latencies


@contextlib.contextmanager
def _bare(path: str, questions: list[Asked], calls: int) -> Iterator[Callable[[], list[float]]]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        yield _plain(connection, questions, calls)


def _plain(connection: socket.socket, questions: list[Asked], calls: int) -> Callable[[], list[float]]:
    """Ask with a socket and msgpack alone; the answers are small enough to come in one piece."""
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb

    def run() -> list[float]:
        latencies = []
        for turn in range(calls):
            asked = questions[turn % len(questions)]
            began = time.perf_counter()
            connection.sendall(pack([0, turn, "complete", [{"prompt": asked.prompt}]]))
            kind, msgid, error, result = unpack(connection.recv(65536))
            latencies.append(time.perf_counter() - began)
            assert (kind, msgid, error, result["text"]) == (1, turn, None, asked.answer)
        return latencies

    return run


@contextlib.contextmanager
def _floor(folder: Path, kind: str, *arguments: str) -> Iterator[tuple[socket.socket, int]]:
    """Start one of the floors in a process of its own; give a connection to it."""
    path = str(folder / f"{kind}.sock")
    with socket.socket(socket.AF_UNIX) as listening, pinned(UNDER_TEST):
        listening.bind(path)
        listening.listen()
        command = [sys.executable, __file__, f"--{kind}", str(listening.fileno()), *arguments]
        server = subprocess.Popen(command, pass_fds=[listening.fileno()])
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            yield connection, server.pid
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def _echo(
    folder: Path, request_size: int, reply_size: int, calls: int
) -> Iterator[tuple[Callable[[], list[float]], int]]:
    request = b"q" * request_size
    with _floor(folder, "echo", str(request_size), str(reply_size)) as (connection, pid):

        def run() -> list[float]:
            latencies = []
            for _ in range(calls):
                began = time.perf_counter()
                connection.sendall(request)
                left = reply_size
                while left:
                    left -= len(connection.recv(65536))
                latencies.append(time.perf_counter() - began)
            return latencies

        yield run, pid


def _serve_echo(descriptor: int, request_size: int, reply_size: int) -> None:
    come_first()
    reply = b"r" * reply_size
    connection, _ = socket.socket(fileno=descriptor).accept()
    left = request_size
    while data := connection.recv(65536):
        left -= len(data)
        if not left:
            connection.sendall(reply)
            left = request_size


@contextlib.contextmanager
def _serving(
    folder: Path, at_socket: str, questions: list[Asked], calls: int
) -> Iterator[tuple[Callable[[], list[float]], int]]:
    # The very replies of the daemon, so that both pack and unpack the same.
    answers = {}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(at_socket)
        for asked in questions:
            connection.sendall(msgpack.packb([0, 1, "complete", [{"prompt": asked.prompt}]]))
            answers[asked.prompt] = msgpack.unpackb(connection.recv(65536))[3]
    (folder / "answers").write_bytes(msgpack.packb(answers))
    with _floor(folder, "serving", str(folder / "answers")) as (connection, pid):
        yield _plain(connection, questions, calls), pid


def _serve_answers(descriptor: int, answers: dict[str, Any]) -> None:
    come_first()
    pack, unpack = msgpack.Packer().pack, msgpack.unpackb
    connection, _ = socket.socket(fileno=descriptor).accept()
    while data := connection.recv(65536):
        _, msgid, _, params = unpack(data)
        connection.sendall(pack([1, msgid, None, answers[params[0]["prompt"]]]))


def _redis(
    stack: contextlib.ExitStack, folder: Path, size: int, questions: list[Asked], calls: int
) -> tuple[Callable[[], list[float]], int] | None:
    try:
        import redis
    except ImportError:
        return None
    if (program := shutil.which("redis-server")) is None:
        return None
    path = str(folder / "redis.sock")
    with pinned(UNDER_TEST):
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", str(folder)],
            stdout=subprocess.DEVNULL,
        )
    stack.callback(server.wait)
    stack.callback(server.terminate)
    client = redis.Redis(unix_socket_path=path)
    until = time.monotonic() + 10
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.02)
    keys = [f"{number:032x}" for number in range(len(questions))]
    for key in keys:
        client.set(key, b"r" * size)

    def run() -> list[float]:
        latencies = []
        for turn in range(calls):
            began = time.perf_counter()
            value = client.get(keys[turn % len(keys)])
            latencies.append(time.perf_counter() - began)
            assert len(value) == size
        return latencies

    stack.callback(client.close)
    return run, server.pid


def _sizes(path: str, asked: Asked) -> tuple[int, int]:
    """How many bytes our client sends and receives for one cached answer, counted by standing between it and the daemon."""
    counted = [0, 0]
    between = f"{path}.between"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as daemon:
        listening.bind(between)
        listening.listen()
        daemon.connect(path)

        def pump(source: socket.socket, target: socket.socket, which: int) -> None:
            while data := source.recv(65536):
                counted[which] += len(data)
                target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        with aiorch.Client(between) as client:

            def accept() -> None:
                connection, _ = listening.accept()
                with connection:
                    back = threading.Thread(target=pump, args=(daemon, connection, 1))
                    back.start()
                    pump(connection, daemon, 0)
                    back.join()

            thread = threading.Thread(target=accept)
            thread.start()
            client.complete(asked.prompt)  # carries the greeting too
            before = tuple(counted)
            assert client.complete(asked.prompt).text == asked.answer
            after = tuple(counted)
        thread.join()
    return after[0] - before[0], after[1] - before[1]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--echo"]:
        _serve_echo(*(int(argument) for argument in sys.argv[2:]))
    elif sys.argv[1:2] == ["--serving"]:
        _serve_answers(int(sys.argv[2]), msgpack.unpackb(Path(sys.argv[3]).read_bytes()))
    else:
        main()
