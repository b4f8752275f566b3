"""Trials of the installed service in a booted systemd; runs inside the box, prints one line of JSON for each figure.

It is installed as docs/systemd.md says, from a wheel, by the units' own installer; nothing about the units is changed
except by a drop-in for a key, as an administrator would make one.
"""

from __future__ import annotations

import functools
import grp
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from crowd import Crowd, Told, in_flight

from aiorch import AsyncClient, Client
from aiorch.errors import AiorchError, NoModels, Unreachable
from aiorchsim.process import Simulator, start_simulator

PROGRAMS = Path("/opt/aiorch/bin")
SERVICE, SOCKET = "aiorchd.service", "aiorchd.socket"
PATH = Path("/run/aiorch/aiorch.sock")
CONFIG = Path("/etc/aiorch/aiorch.toml")
DRAIN_S = 20
GOOD = """
[daemon]
drain_timeout_s = 20

[pool]
max_connections = 200

[providers.main]
dialect = "openai"
base_url = "{}"
api_key_credential = "main"

[[models]]
name = "small"
provider = "main"
max_concurrency = 200
"""


@dataclass
class Report:
    """Says how a trial went, and remembers whether any went wrong."""

    failed: int = 0

    def figure(self, what: str, got: str, bar: str, good: bool) -> None:
        self.failed += not good
        print(json.dumps({"what": what, "got": got, "bar": bar, "good": good}), flush=True)


report = Report()


def ran(*command: str, good: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 or not good, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done


def shown(name: str, unit: str = SERVICE) -> str:
    return ran("systemctl", "show", "--property", name, "--value", unit).stdout.strip()


async def later(act: Callable[..., Any], *arguments: Any) -> Any:
    return await trio.to_thread.run_sync(functools.partial(act, *arguments))


def configure(simulator: Simulator, more: str = "") -> None:
    CONFIG.write_text(GOOD.format(simulator.base_url) + more)


# --- the trials -----------------------------------------------------------------------------------------------------


def install(simulator: Simulator) -> None:
    """From the wheel to a socket, by the steps that the installer itself names."""
    told = json.loads(ran(str(PROGRAMS / "aiorchctl"), "install-units", "--json").stdout)
    steps = [step["command"] for step in told["next"]]
    for step in steps:
        if step.startswith("systemctl enable"):
            configure(simulator)
            key = Path("/etc/aiorch/credentials/main")
            key.write_text("key-of-the-trial\n")
            dropin = Path(f"/etc/systemd/system/{SERVICE}.d/keys.conf")
            dropin.parent.mkdir()
            dropin.write_text(f"[Service]\nLoadCredential=main:{key}\n")
        if not step.startswith(("editor", "usermod", "aiorchctl")):
            ran("sh", "-c", step)
    verified = ran("systemd-analyze", "verify", SERVICE, SOCKET, good=False)
    report.figure(
        "`systemd-analyze verify` of the installed units",
        (verified.stdout + verified.stderr).strip() or "clean",
        "clean",
        verified.returncode == 0 and not verified.stderr.strip(),
    )
    exposure = ran("systemd-analyze", "security", "--no-pager", SERVICE).stdout.rpartition(f"{SERVICE}: ")[2].split()[0]
    report.figure("`systemd-analyze security`: exposure", exposure, "at most 1.5", float(exposure) <= 1.5)
    again = json.loads(ran(str(PROGRAMS / "aiorchctl"), "install-units", "--json").stdout)
    assert {file["state"] for file in again["files"]} == {"unchanged"}


async def first_call() -> None:
    assert shown("ActiveState") == "inactive"
    began = trio.current_time()
    async with AsyncClient(timeout_s=30) as client:
        reply = await client.complete("What is 20 + 22?")
        took = trio.current_time() - began
        status = await client.status()
    good = reply.text == "42" and shown("ActiveState") == "active" and status["health"] == "ok"
    assert good, status
    report.figure("first call starts the daemon: answered after", f"{took:.2f} s", "at most 2 s", took <= 2)
    assert shown("StatusText") == "1 model"


def who_may() -> None:
    """Credentials, identity, the peer's unit, modes: what the confinement must leave working."""
    owner = pwd.getpwnam("aiorch")
    state = Path("/var/lib/aiorch").stat()
    assert (state.st_mode & 0o777, state.st_uid) == (0o700, owner.pw_uid)
    socket = PATH.stat()
    assert (socket.st_mode & 0o777, socket.st_uid, socket.st_gid) == (0o660, 0, grp.getgrnam("aiorch").gr_gid)
    ran("useradd", "--system", "caller")
    as_caller = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--unit=caller", "--property=User=caller"]
    hello = "import json, aiorch; server = aiorch.Client().hello(); print(json.dumps([server.uid, server.unit, server.admin]))"
    python = str(PROGRAMS / "python")
    outside = ran(*as_caller, python, "-c", hello, good=False)
    inside = ran(*as_caller, "--property=SupplementaryGroups=aiorch", python, "-c", hello)
    got = json.loads(inside.stdout)
    wanted = [pwd.getpwnam("caller").pw_uid, "caller.service", False]
    report.figure(
        "a caller in the group is known by user and unit; one outside it is not let in",
        f"uid {got[0]}, {got[1]}; {'not let in' if 'permission denied' in outside.stderr else outside.stderr[-200:]}",
        "as said",
        got == wanted and outside.returncode != 0 and "permission denied" in outside.stderr,
    )
    with Client() as client:
        assert client.models_list()[0]["key_problem"] is None
    environment = Path(f"/proc/{shown('MainPID')}/environ").read_bytes()
    assert b"key-of-the-trial" not in environment


async def reloads(simulator: Simulator) -> None:
    pid = shown("MainPID")
    configure(simulator, "[retry]\nmax_attempts = 7\n")
    began = trio.current_time()
    done = await later(functools.partial(ran, "systemctl", "reload", SERVICE))
    took = trio.current_time() - began
    async with AsyncClient() as client:
        assert await client.config_get("retry.max_attempts") == 7
        configure(simulator, "[retry]\nmax_attempts = -7\n")
        done = await later(functools.partial(ran, "systemctl", "reload", SERVICE, good=False))
        status = shown("StatusText")
        good = (
            done.returncode != 0
            and "retry.max_attempts" in status
            and shown("ActiveState") == "active"
            and await client.config_get("retry.max_attempts") == 7
            and shown("MainPID") == pid
        )
        report.figure(
            "`systemctl reload`: of a good file; of a bad one",
            f"done in {took:.2f} s; fails, the old one stays, and the status says: {status[:160]}",
            "as said",
            good,
        )
        configure(simulator)
        await later(functools.partial(ran, "systemctl", "reload", SERVICE))
    assert shown("StatusText").startswith("1 model, generation ")


async def answered_by_another(pid: int, told: Told) -> float:
    """Wait until a process other than this one answers; gives the time of that. Who reaches the socket of the one that
    dies is cut, and asks again.
    """
    async with AsyncClient(timeout_s=120) as prober:
        while True:
            try:
                if (await prober.status())["pid"] != pid:
                    break
            except Unreachable as error:
                told.refused.append(str(error))
                break
            except AiorchError:
                continue
    return trio.current_time()


async def restarts() -> None:
    crowd = Crowd(PATH, 100, pause_s=0.3)
    times = []
    async with trio.open_nursery() as nursery:
        await nursery.start(crowd.run)
        for _ in range(5):
            await trio.sleep(1.0)
            began = trio.current_time()
            await later(functools.partial(ran, "systemctl", "restart", SERVICE))
            times.append(trio.current_time() - began)
        await trio.sleep(1.0)
        crowd.leave()
    told = crowd.told
    report.figure(
        "restart under 100 clients, five times: refused, cut, wrong",
        f"{len(told.refused)}, {len(told.cut)}, {len(told.wrong)} of {told.answered:,} calls "
        f"on {told.connections:,} connections",
        "0, 0, 0",
        not (told.refused or told.cut or told.wrong),
    )
    complain(told)
    report.figure(
        "the same: slowest call", f"{told.slowest_s:.2f} s (restarts took {min(times):.2f} to {max(times):.2f} s)",
        "at most 2 s", told.slowest_s <= 2.0,
    )  # fmt: skip


async def kills() -> None:
    crowd = Crowd(PATH, 50, pause_s=0.1)
    times: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(crowd.run)
        for _ in range(20):
            await trio.sleep(0.4)
            pid = int(shown("MainPID"))
            began = trio.current_time()
            os.kill(pid, signal.SIGKILL)
            times.append(await answered_by_another(pid, crowd.told) - began)
        crowd.leave()
    told = crowd.told
    report.figure(
        "kill -9 under 50 clients, twenty times: refused, wrong",
        f"{len(told.refused)}, {len(told.wrong)} of {told.answered:,} calls on {told.connections:,} connections; "
        f"{len(told.cut)} were in flight, and told so",
        "0, 0",
        not (told.refused or told.wrong) and len(told.cut) <= 20 * 50,
    )
    complain(told, cut_too=False)
    ordered = sorted(times)
    report.figure(
        "the same: answers again after", f"{ordered[-1]:.2f} s at most, {ordered[10]:.2f} s in the middle", "at most 1 s",
        ordered[-1] <= 1.0,
    )  # fmt: skip
    if ordered[-1] > 1.0:
        print(ran("journalctl", "--no-pager", "--output=short-monotonic", "--lines=60").stdout, times, file=sys.stderr)
    assert int(shown("NRestarts")) >= 20


async def watchdog() -> None:
    within_s = int(shown("WatchdogUSec").removesuffix("s"))
    pid = int(shown("MainPID"))
    told = Told()
    began = trio.current_time()
    # Stopped as a whole, which no stuck loop is: when the SIGABRT comes, systemd lets it go on with SIGCONT, and before one
    # of its threads takes the signal, another may accept who waits at the socket. Whoever that is, is cut.
    os.kill(pid, signal.SIGSTOP)
    took = await answered_by_another(pid, told) - began
    journal = ran("journalctl", "--unit", SERVICE, "--output", "cat", "--no-pager").stdout
    # What the thread that serves was about is told, whichever thread took the signal.
    where = journal.partition("Watchdog timeout")[2].partition("Fatal Python error: Aborted")[2]
    report.figure(
        f"a daemon that hangs (SIGSTOP) is replaced (WatchdogSec={within_s}s), and says where it hung",
        f"answered by another after {took:.1f} s",
        f"at most {within_s + 2} s",
        took <= within_s + 2
        and not told.refused
        and "/trio/_core/_run.py" in where
        and "/aiorchd/app/start.py" in where,
    )


async def bad_start(simulator: Simulator) -> None:
    CONFIG.write_text("= =")
    await later(functools.partial(ran, "systemctl", "restart", "--no-block", SERVICE))
    while not shown("StatusText").startswith("configuration refused"):  # until then the old one may answer, and finish
        await trio.sleep(0.05)
    async with AsyncClient(timeout_s=60) as client:
        try:
            await client.complete("What is 1 + 1?")
            reason = "it was answered"
        except NoModels as error:
            reason = str(error)
    await trio.sleep(12)  # two of its five seconds, and the start of a third
    starts = ran("journalctl", "--unit", SERVICE, "--output", "cat", "--no-pager", "--since", "-12s").stdout.count(
        "configuration refused"
    )
    began = trio.current_time()
    configure(simulator)
    async with AsyncClient(timeout_s=60) as client:
        while True:
            try:
                assert (await client.complete("What is 20 + 22?")).text == "42"
                break
            except NoModels:
                await trio.sleep(0.05)
    took = trio.current_time() - began
    report.figure(
        "started with a broken configuration: callers are told, and a repaired file is enough",
        f"told “{reason[:110]}”; {starts} starts in 12 s; answers {took:.2f} s after the repair",
        "told; at most 4 starts; at most 2 s",
        "cannot start" in reason and starts <= 4 and took <= 2,
    )


async def broken_installation() -> None:
    """What comes again at once must not keep the host busy, though a crash is answered at once."""
    program = PROGRAMS / "aiorchd"
    aside, module = program.with_name("aside"), "import nothing_of_that_name\n"
    starts: dict[str, int] = {}
    took: dict[str, float] = {}
    for what in ("is not there", "cannot be loaded", "crashes"):
        before = int(shown("NRestarts"))
        program.rename(aside)
        if what != "is not there":
            crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n"
            program.write_text(f"#!{PROGRAMS / 'python'}\n{module if what == 'cannot be loaded' else crash}")
            program.chmod(0o755)
        os.kill(int(shown("MainPID")), signal.SIGKILL)
        await trio.sleep(5)
        starts[what] = int(shown("NRestarts")) - before
        aside.replace(program)
        began = trio.current_time()
        async with AsyncClient(timeout_s=60) as client:
            await client.ping()
        took[what] = trio.current_time() - began
    report.figure(
        "a program that " + ", ".join(starts) + ": starts in 5 s; answers after it is whole again",
        f"{', '.join(map(str, starts.values()))}; after {max(took.values()):.2f} s at most",
        "at most 8 each; at most 2 s",
        0 < max(starts.values()) <= 8 and max(took.values()) <= 2,
    )


async def stop_in_flight() -> None:
    slow = "[[models]]\nlatency_s = 3.0\nfirst_token_s = 0.5\nlatency_per_output_token_s = 0.04\n"
    with start_simulator(slow) as simulator:
        # All are with the provider when the stop comes; otherwise a model that has just been met is tried with few at once,
        # and what is measured is how long those in line take to have their turn.
        configure(simulator, "[concurrency]\ninitial = 200\n")
        await later(functools.partial(ran, "systemctl", "restart", SERVICE))
        await stop_with_calls()


async def stop_with_calls() -> None:
    told = Told()
    newcomers: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(in_flight, PATH, 100, 20, told))
        began = trio.current_time()

        async def stop() -> None:
            await later(functools.partial(ran, "systemctl", "stop", SERVICE))
            nonlocal took
            took = trio.current_time() - began

        async def come() -> None:
            await trio.sleep(0.5)
            async with AsyncClient() as client:
                newcomers.append(await client.ping())

        took = 0.0
        nursery.start_soon(stop)
        nursery.start_soon(come)
    finished = told.answered + len(told.streamed)
    report.figure(
        "stop with 100 calls of 3 s and 20 streams in flight: finished",
        f"{finished} of 120 ({told.pieces} pieces streamed), {len(told.cut)} cut, {len(told.wrong)} wrong",
        "120, 0 cut",
        finished == 120 and not (told.cut or told.wrong or told.refused),
    )
    complain(told)
    report.figure(
        "the same: exit", f"{took:.2f} s after the stop; who came meanwhile was answered by the successor",
        f"at most {DRAIN_S} s", 0 < took <= DRAIN_S and newcomers == ["pong"],
    )  # fmt: skip
    assert shown("Result") == "success"


async def socket_survives() -> None:
    await later(functools.partial(ran, "systemctl", "stop", SERVICE))
    assert PATH.is_socket()
    assert shown("ActiveState", SOCKET) == "active"
    async with AsyncClient() as client:
        assert await client.ping() == "pong"
    await later(functools.partial(ran, "systemctl", "stop", SOCKET))
    report.figure(
        "the socket stays when the daemon stops, and goes when it is stopped itself",
        f"{shown('ActiveState')}, {'left' if PATH.exists() else 'gone'}", "inactive, gone",
        shown("ActiveState") == "inactive" and not PATH.exists(),
    )  # fmt: skip


def users_own() -> None:
    """A user's units in a user's systemd: no root, no key, a configuration of two lines."""
    ran("useradd", "--create-home", "--uid", "4321", "somebody")
    runtime = Path("/run/user/4321")
    runtime.mkdir(parents=True)
    runtime.chmod(0o700)
    os.chown(runtime, 4321, 4321)
    ran(
        "systemd-run", "--quiet", "--unit=manager-of-somebody", "--property=User=somebody", "--property=Delegate=yes",
        "--property=Type=notify", f"--setenv=XDG_RUNTIME_DIR={runtime}", "--setenv=HOME=/home/somebody",
        "/lib/systemd/systemd", "--user",
    )  # fmt: skip

    def somebody(*command: str, good: bool = True) -> subprocess.CompletedProcess[str]:
        return ran("runuser", "--user", "somebody", "--", "env", "HOME=/home/somebody", f"XDG_RUNTIME_DIR={runtime}",
                   *command, good=good)  # fmt: skip

    control = str(PROGRAMS / "aiorchctl")
    told = json.loads(somebody(control, "install-units", "--user", "--json").stdout)
    folder = Path("/home/somebody/.config/aiorch")
    somebody("mkdir", "-p", str(folder))
    somebody("sh", "-c", f"printf '[providers.own]\\ndialect = \"simulated\"\\n[[models]]\\nname = \"m\"\\nprovider = \"own\"\\n'"
             f" >{folder}/aiorch.toml")  # fmt: skip
    began = time.monotonic()
    for step in [step["command"] for step in told["next"]]:
        if step.startswith("systemctl"):
            somebody("sh", "-c", step)
    ping = somebody(control, "ping")
    took = time.monotonic() - began
    status = json.loads(somebody(control, "status", "--json").stdout)
    mode = (runtime / "aiorch/aiorch.sock").stat().st_mode & 0o777
    good = (
        ping.stdout.startswith("pong")
        and mode == 0o600
        and status["state"]["path"] == "/home/somebody/.local/state/aiorch"
        and status["socket"]["rule"] == "a socket from systemd"
    )
    assert good, status
    (folder / "aiorch.toml").write_text("= =")
    refused = somebody("systemctl", "--user", "reload", SERVICE, good=False)
    text = somebody("systemctl", "--user", "show", "--property=StatusText", "--value", SERVICE).stdout
    report.figure(
        "a user's own service, as installed: answers; a bad reload fails",
        f"{took:.2f} s after `daemon-reload`; {text.strip()[:80]}",
        "as said",
        refused.returncode != 0 and text.startswith("configuration refused"),
    )
    ran("systemctl", "stop", "manager-of-somebody.service")


def complain(told: Told, *, cut_too: bool = True) -> None:
    for line in (*told.refused[:3], *told.wrong[:3], *(told.cut[:3] if cut_too else ())):
        print(f"    {line}", file=sys.stderr)


async def main(only: Sequence[str]) -> int:
    with start_simulator("[[models]]\nlatency_s = 0.05\n") as simulator:
        install(simulator)
        trials: dict[str, Callable[[], Awaitable[None]]] = {
            "first_call": first_call,
            "who_may": functools.partial(later, who_may),
            "reloads": functools.partial(reloads, simulator),
            "restarts": restarts,
            "kills": kills,
            "watchdog": watchdog,
            "bad_start": functools.partial(bad_start, simulator),
            "broken_installation": broken_installation,
            "stop_in_flight": stop_in_flight,
            "socket_survives": socket_survives,
            "users_own": functools.partial(later, users_own),
        }
        for name in only or trials:
            if name != "first_call":
                await later(functools.partial(ran, "systemctl", "start", SERVICE))
            await trials[name]()
    return report.failed


if __name__ == "__main__":
    whole = False
    try:
        failed = trio.run(main, sys.argv[1:])
        whole = True
    finally:
        if not whole:
            print(ran("journalctl", "--no-pager", "--output=short-monotonic", "--lines=60").stdout, file=sys.stderr)
    sys.exit(1 if failed else 0)
