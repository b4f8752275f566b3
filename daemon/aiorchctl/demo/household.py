"""Everything the demonstration starts and writes, with one owner that ends and removes it in whatever way it is left.

Each process leads a session of its own, so that it and its children can be ended as a group, and so that Ctrl-C reaches
this process alone, which then ends the others in order. Should this process be killed outright, the kernel ends them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

from aiorchctl.demo.pages import page_environment
from aiorchsim.process import Simulator, SimulatorFailed, start_simulator

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDING_S: Final = 5.0
_LONGEST_SOCKET_PATH: Final = 107
_TAIL_BYTES: Final = 2000


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says why, with what the process at fault said."""


class Household:
    """A temporary folder and the processes that live in it. Use it as a context manager, in the main thread."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aiorch-demo-"))
        self.environment = page_environment(self.folder, os.environ)
        self.socket = self.folder / "aiorch.sock"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._simulator: Simulator | None = None
        self._handlers: list[tuple[signal.Signals, Any]] = []

    def __enter__(self) -> Self:
        for number in _SIGNALS[1:]:
            self._handlers.append((number, signal.signal(number, _interrupt)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        impatient = [(number, signal.signal(number, signal.SIG_IGN)) for number in _SIGNALS]
        try:
            self._end_all()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            for number, handler in (*impatient, *self._handlers):
                signal.signal(number, handler)

    def start_simulator(self, profile: str) -> Simulator:
        """Start the simulated provider."""
        path = self.folder / "simulator.toml"
        path.write_text(profile, encoding="utf-8")
        self._simulator = start_simulator(config=path, environment=self.environment)
        return self._simulator

    def start(self, arguments: list[str], *, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start this Python with arguments; its standard output is a pipe, its errors go to a file in the folder."""
        with self._log(len(self._processes)).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def start_daemon(self, config: str, *, timeout_s: float) -> subprocess.Popen[bytes]:
        """Start `aiorchd` on this folder's socket and state, and wait until it answers."""
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET_PATH:
            raise DemoFailed(f"the path {self.socket} is too long for a socket: set TMPDIR to a shorter one")
        path = self.folder / "aiorch.toml"
        path.write_text(config, encoding="utf-8")
        tether = ["-m", "aiorchctl.demo.tether", str(os.getpid()), str(int(signal.SIGTERM)), sys.executable]
        places = ["--config", str(path), "--socket", str(self.socket), "--state-dir", str(self.folder / "state")]
        process = self.start([*tether, "-m", "aiorchd", *places])
        self._wait_for_daemon(process, timeout_s)
        return process

    def stop(self, process: subprocess.Popen[bytes], *, timeout_s: float) -> None:
        """Ask a process to end in order, and wait for it."""
        process.terminate()
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"a process did not end within {timeout_s:g} s of being told to") from None
        if code != 0:
            raise DemoFailed(f"a process ended with code {code}: {self.said(process)}")

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """Give the end of what a process wrote to its standard error."""
        path = self._log(self._processes.index(process))
        text = path.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
        return text or "it said nothing"

    def _log(self, number: int) -> Path:
        return self.folder / f"process-{number}.log"

    def _wait_for_daemon(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        import aiorch

        deadline = time.monotonic() + timeout_s
        while True:
            if process.poll() is not None:
                raise DemoFailed(f"aiorchd ended with code {process.returncode}: {self.said(process)}")
            try:
                with aiorch.Client(str(self.socket)) as client:
                    client.ping()
                return
            except (aiorch.Unreachable, aiorch.ConnectionLost) as error:
                if time.monotonic() > deadline:
                    raise DemoFailed(
                        f"aiorchd did not answer within {timeout_s:g} s ({error}): {self.said(process)}"
                    ) from error
            time.sleep(0.02)

    def _end_all(self) -> None:
        """Ask all that still run to end, then insist; the simulator last, so that nobody sees it go."""
        # A process that was not waited for keeps its number, so that no other group can be meant.
        running = [process for process in self._processes if process.poll() is None]
        for process in running:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + _ENDING_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
        if self._simulator is not None:
            try:
                self._simulator.stop()
            except SimulatorFailed:
                pass  # Ctrl-C on a terminal reached it too; that it had gone in the middle would have been noticed


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # what was still to be written has no reader any more
        pass


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as the signal module calls it
    raise KeyboardInterrupt
