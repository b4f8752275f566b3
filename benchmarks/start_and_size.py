"""How large the daemon is at rest, how soon it answers, what a connection weighs, what `import aiorch` costs.

    python benchmarks/start_and_size.py [--save] [--quick]

Start: from the moment the process is created until the first `complete` is answered, over a socket that is tried every
millisecond from the other CPU; with a provider and a cached answer on disk, and with no configuration at all. Bytecode is
compiled beforehand. Rest: two seconds after that, and after 3 000 calls. Connections: each has made one call and is silent.
"""

import compileall
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgpack
from rig import ROOT
from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, come_first, cpu_s, median, pinned, rss_bytes, undisturbed
from rig.questions import kept, sum_of
from rig.scene import DaemonProcess, scene

CONNECTIONS = 1000


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    rounds, worked = (3, 300) if chosen.quick else (15, 3000)
    come_first()
    for sources in ("client", "daemon"):  # as an installer does it, also where PYTHONDONTWRITEBYTECODE is set
        compileall.compile_dir(ROOT / sources, quiet=1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    disturbed: list[float] = []
    imports = _imports(rounds, disturbed)
    question = kept(1)
    with scene(questions=question) as at, tempfile.TemporaryDirectory(prefix="aiorch-bench-") as other:
        assert _ask(str(at.daemon.socket), question[0].prompt)["text"] == question[0].answer
        at.daemon.stop()
        starts = _starts(at.daemon, question[0].prompt, "exact", rounds, disturbed)
        bare = DaemonProcess(Path(other), None, (), {})
        starts_bare = _starts(bare, "What is 6 * 7?", "miss", rounds, disturbed)
        with pinned(UNDER_TEST):
            at.daemon.start()
        time.sleep(2)  # whatever it does by itself after its start
        idle_mb = rss_bytes(at.daemon.pid) / 1e6
        cpu = cpu_s(at.daemon.pid)
        time.sleep(3)
        idle_cpu = (cpu_s(at.daemon.pid) - cpu) / 3
        connection_kb, wired_kb = _connections(at.daemon, question[0].prompt)
    with scene() as at:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(at.socket)
            for number in range(worked):
                asked = sum_of(number)
                assert _ask_on(connection, asked.prompt)["text"] == asked.answer
        worked_mb = rss_bytes(at.daemon.pid) / 1e6
    figures = [
        Figure("idle RSS", idle_mb, "MB", 65.0,
               beside=f"{worked_mb:.0f} MB after {worked:,} calls to the provider; {idle_cpu:.1%} of a CPU when idle"),
        Figure("start to first answer (kept on disk from before)", median(starts), "s", 0.5,
               beside=f"{min(starts):.2f} to {max(starts):.2f} s", details={"s": starts}),
        Figure("start to first answer (nothing configured)", median(starts_bare), "s", 0.5,
               beside=f"{min(starts_bare):.2f} to {max(starts_bare):.2f} s", details={"s": starts_bare}),
        *imports,
        Figure(f"idle connection, {CONNECTIONS} of them", connection_kb, "kB", 60.0,
               beside=f"of memory in the daemon; {wired_kb:.1f} kB before their first call"),
    ]  # fmt: skip
    publish("start_and_size", figures, disturbed=disturbed, save=chosen.save)


def _starts(daemon: DaemonProcess, prompt: str, cache: str, rounds: int, disturbed: list[float]) -> list[float]:
    def start() -> dict[str, float]:
        with pinned(UNDER_TEST):
            began = time.perf_counter()
            daemon.start(wait=False)
        with pinned(LOAD):
            while True:
                assert daemon.process is not None
                assert daemon.process.poll() is None, daemon.said()
                try:
                    reply = _ask(str(daemon.socket), prompt)
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    time.sleep(0.001)
        elapsed = time.perf_counter() - began
        assert reply["cache"] == cache, reply
        daemon.stop()
        return {"s": elapsed}

    start()  # this one compiles
    rows = [undisturbed(start, [], most=0.2, patience_s=4) for _ in range(rounds)]
    disturbed += [row["disturbed"] for row in rows]
    return [row["s"] for row in rows]


def _imports(rounds: int, disturbed: list[float]) -> list[Figure]:
    """Whole processes, so that nothing is warm but the file cache."""
    programs = {
        "bare": "pass",
        "import aiorch": "import aiorch",
        "Client": "import aiorch; aiorch.Client",
        "AsyncClient": "import aiorch; aiorch.AsyncClient",
    }
    environment = {"PYTHONPATH": str(ROOT / "client")}

    def run() -> dict[str, float]:
        took = {}
        for name, program in programs.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, env=environment)
            took[name] = time.perf_counter() - began
        return took

    with pinned(UNDER_TEST):
        run()  # this one compiles
        rows = [undisturbed(run, [], patience_s=2) for _ in range(2 * rounds)]
    disturbed += [row["disturbed"] for row in rows]
    took = {name: [row[name] for row in rows] for name in programs}
    floor = took["bare"]
    middle = {name: median(a - b for a, b in zip(got, floor, strict=True)) * 1e3 for name, got in took.items()}
    return [
        Figure("`import aiorch` and its `Client`", middle["Client"], "ms", 50.0,
               beside=f"{middle['AsyncClient']:.0f} ms with `AsyncClient`, {middle['import aiorch']:.1f} ms while neither is "
               f"used; an empty Python, {median(floor) * 1e3:.0f} ms, is not counted", details={"ms": middle}),
    ]  # fmt: skip


def _connections(daemon: DaemonProcess, prompt: str) -> tuple[float, float]:
    """Kilobytes a connection: after a call, and before."""
    _ask(str(daemon.socket), prompt)
    before = rss_bytes(daemon.pid)
    connections = []
    try:
        for _ in range(CONNECTIONS):
            connection = socket.socket(socket.AF_UNIX)
            connections.append(connection)
            connection.connect(str(daemon.socket))
        # Taken in order: when the last one is answered, all have been let in.
        assert _ask_on(connections[-1], prompt)
        wired = rss_bytes(daemon.pid)
        for connection in connections:
            assert _ask_on(connection, prompt)["cache"] == "exact"
        after = rss_bytes(daemon.pid)
    finally:
        for connection in connections:
            connection.close()
    return (after - before) / CONNECTIONS / 1e3, (wired - before) / CONNECTIONS / 1e3


def _ask(path: str, prompt: str) -> dict:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return _ask_on(connection, prompt)


def _ask_on(connection: socket.socket, prompt: str) -> dict:
    connection.sendall(msgpack.packb([0, 1, "complete", [{"prompt": prompt}]]))
    unpacker = msgpack.Unpacker()
    while data := connection.recv(65536):
        unpacker.feed(data)
        for kind, msgid, error, result in unpacker:
            assert (kind, msgid, error) == (1, 1, None), error
            return result
    raise ConnectionRefusedError("closed before it answered")


if __name__ == "__main__":
    main()
