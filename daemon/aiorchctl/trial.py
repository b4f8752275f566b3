"""One call through a daemon that lives for it alone, to see whether a configuration reaches its provider.

The daemon is the real one, with the file that was written, this shell's environment, and a socket and state of its own
in a temporary folder; it ends with this process in whatever way that ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiorch
from aiorchctl.failures import Failed

QUESTION: Final = "Answer with the one word: ready"
_START_S: Final = 20.0
_END_S: Final = 10.0
_CALL_S: Final = 60.0
_TAIL_BYTES: Final = 2000
_NOT_INHERITED: Final = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")


def ask(client: aiorch.Client, model: str) -> aiorch.Reply:
    """Ask the one question, past every cache. Raises what the client raises."""
    return client.complete(QUESTION, model=model, cache="bypass", timeout_s=_CALL_S)


@contextmanager
def temporary_daemon(
    config: Path, environ: Mapping[str, str], *, credential: tuple[str, Path] | None = None
) -> Iterator[aiorch.Client]:
    """Run a daemon for the length of the block. ``credential`` is a name and the file that holds that key, for a
    configuration that expects it from systemd.
    """
    folder = Path(tempfile.mkdtemp(prefix="aiorch-trial-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        environment = {
            name: value
            for name, value in environ.items()
            if name not in _NOT_INHERITED and not name.startswith("AIORCH__")
        }
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        if credential is not None:
            keys = folder / "credentials"
            keys.mkdir(mode=0o700)
            (keys / credential[0]).symlink_to(credential[1].absolute())
            environment["CREDENTIALS_DIRECTORY"] = str(keys)
        socket = folder / "s"
        places = ["--config", str(config), "--socket", str(socket), "--state-dir", str(folder / "state")]
        tether = ["-m", "aiorchctl.demo.tether", str(os.getpid()), str(int(signal.SIGTERM)), sys.executable]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *tether, "-m", "aiorchd", *places],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
            )
        with aiorch.Client(str(socket), connect_timeout_s=0.0) as client:
            _wait(process, client, folder / "log")
            yield client
    finally:
        if process is not None:
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], client: aiorch.Client, log: Path) -> None:
    until = time.monotonic() + _START_S
    while True:
        if process.poll() is not None:
            raise Failed("trial", f"a daemon with this file ended at once: {_said(log)}", os.EX_SOFTWARE)
        try:
            client.ping()
            return
        except (aiorch.Unreachable, aiorch.ConnectionLost):
            if time.monotonic() > until:
                sentence = f"a daemon with this file did not answer within {_START_S:g} s: {_said(log)}"
                raise Failed("trial", sentence, os.EX_SOFTWARE) from None
        time.sleep(0.02)


def _said(log: Path) -> str:
    return log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip() or "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
