"""Plays the service manager for one daemon, as systemd does: holds its listening socket, hears what it tells of itself,
and starts it again on the same socket.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from processes import ROOT

# What systemd does between fork and exec: the socket becomes descriptor 3, and $LISTEN_PID names who it is for.
_LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
    "os.execv(sys.executable, [sys.executable, '-m', 'aiorchd', *sys.argv[2:]])"
)

Told = dict[str, str]
"""One message of the daemon: its assignments."""


class Manager:
    """One service. Its socket is there from the beginning, whether a daemon runs or not."""

    def __init__(self, folder: Path, config: str, *, watchdog_s: float | None = None) -> None:
        self.folder = folder
        self.path = folder / "a.sock"
        self.config = folder / "aiorch.toml"
        self.config.write_text(config, encoding="utf-8")
        self.log = folder / "daemon.log"
        self.told: list[Told] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._watchdog_s = watchdog_s
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.path))
        self._listening.listen(4096)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(folder / "notify"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._listening.close()
        self._notices.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a unit's process finds: little of its parent's."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'client'}:{ROOT / 'daemon'}",
            "HOME": str(self.folder),
            "STATE_DIRECTORY": str(self.folder / "state"),
            "NOTIFY_SOCKET": str(self.folder / "notify"),
        }

    def start(self, *, ready: bool = True, more: Mapping[str, str] | None = None) -> None:
        """Start the daemon on the socket; with ``ready`` until it says that it is."""
        environment = {**self.environment, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "aiorchd.socket", **(more or {})}
        if self._watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        descriptor = self._listening.fileno()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, str(descriptor), "--config", str(self.config)],
                env=environment,
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        if ready:
            self.hear(lambda told: told.get("READY") == "1")

    def hear(self, wanted: Callable[[Told], Any], timeout_s: float = 20.0) -> Told:
        """Listen until a message comes that is wanted; gives it. All are kept in ``told``."""
        until = time.monotonic() + timeout_s
        while True:
            left = until - time.monotonic()
            assert left > 0, f"not told within {timeout_s:g} s; it told {self.told}\n{self.said()}"
            self._notices.settimeout(left)
            try:
                data = self._notices.recv(65536).decode()
            except TimeoutError:
                continue
            told = dict(line.split("=", 1) for line in data.splitlines())
            self.told.append(told)
            if wanted(told):
                return told

    def hear_all(self) -> list[Told]:
        """Take what has come and was not heard yet."""
        fresh = len(self.told)
        self._notices.setblocking(False)
        while True:
            try:
                data = self._notices.recv(65536).decode()
            except BlockingIOError:
                return self.told[fresh:]
            self.told.append(dict(line.split("=", 1) for line in data.splitlines()))

    def signal(self, number: int) -> None:
        """Send the daemon a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self, timeout_s: float = 40.0) -> int:
        """Wait for the end of the daemon; gives its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {timeout_s:g} s:\n{self.said()}") from None

    def stop(self) -> int:
        """Do as ``systemctl stop``; gives the exit code."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def restart(self) -> None:
        """Do as ``systemctl restart``."""
        assert self.stop() == 0, self.said()
        self.start()

    def said(self) -> str:
        """Everything it logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
