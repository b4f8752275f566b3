"""Real processes for the tests in tests/system: a daemon with its own socket, state and configuration."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class DaemonProcess:
    """One aiorchd in the foreground, with its standard error in ``log``."""

    def __init__(
        self, folder: Path, config: str | None, extra: tuple[str, ...], environment: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.socket = folder / "a.sock"
        self.state = folder / "state"
        self.log = folder / "daemon.log"
        self.config = folder / "aiorch.toml"
        if config is not None:
            self.config.write_text(config, encoding="utf-8")
        self._arguments = ["--socket", str(self.socket), "--state-dir", str(self.state)]
        if config is not None:
            self._arguments += ["--config", str(self.config)]
        self._arguments += extra
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIORCH", "XDG_"))},
            "PYTHONPATH": f"{ROOT / 'client'}:{ROOT / 'daemon'}",
            "HOME": str(folder),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.through: tuple[str, ...] = ()
        """A command that prepares something and becomes the daemon."""

    @property
    def pid(self) -> int:
        """The process now running."""
        assert self.process is not None
        return self.process.pid

    def start(self, *, wait: bool = True) -> None:
        """Start it; with ``wait`` until it answers at its socket."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.through, sys.executable, "-m", "aiorchd", *self._arguments],
                env=self._environment,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout_s: float = 20.0) -> None:
        """Wait until it answers."""
        assert self.process is not None
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(f"aiorchd ended with {self.process.returncode}:\n{self.said()}")
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                try:
                    probe.connect(str(self.socket))
                    probe.sendall(b"\x94\x00\x01\xa4ping\x90")
                    if b"pong" in probe.recv(100):
                        return
                except OSError:
                    pass
            # Nothing tells that a socket file has appeared and answers; look again in a moment.
            select.select([], [], [], 0.01)
        raise AssertionError(f"aiorchd did not answer within {timeout_s} s:\n{self.said()}")

    def stop(self, how: int = signal.SIGTERM, timeout_s: float = 40.0) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"aiorchd did not end within {timeout_s} s:\n{self.said()}") from None

    def said(self) -> str:
        """Everything it logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


@contextmanager
def daemon(
    folder: Path,
    config: str | None = None,
    *extra: str,
    start: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Iterator[DaemonProcess]:
    """Run a daemon for the length of the block."""
    process = DaemonProcess(folder, config, extra, environment or {})
    if start:
        process.start()
    try:
        yield process
    finally:
        if process.process is not None and process.process.poll() is None:
            process.process.kill()
            process.process.wait()
