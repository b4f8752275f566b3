"""Runs the lean caller: unix_load.c when there is a compiler, else python_load.py."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgpack

from rig.meters import LOAD, pinned
from rig.questions import Asked

_HERE: Final = Path(__file__).parent
_MSGID: Final = 0x01000000


class Loader:
    """Asks ``questions`` over and over, from CPU 1."""

    def __init__(self, folder: Path, questions: list[Asked]) -> None:
        self._questions = folder / "questions"
        with self._questions.open("wb") as file:
            for asked in questions:
                request = msgpack.packb([0, _MSGID, "complete", [{"prompt": asked.prompt}]])
                text = asked.answer.encode()
                file.write(struct.pack("=III", len(request), request.index(struct.pack(">I", _MSGID)), len(text)))
                file.write(request + text)
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            self.name, self._command = "Python", [sys.executable, str(_HERE / "python_load.py")]
        else:
            program = folder / "unix_load"
            subprocess.run([compiler, "-O2", "-o", str(program), str(_HERE / "unix_load.c")], check=True)
            self.name, self._command = "C", [str(program)]

    def run(
        self, socket: str, pid: int, *, connections: int, depth: int, seconds: float, cache: str = "exact"
    ) -> dict[str, Any]:
        """Load the daemon; raises when an answer is wrong."""
        shape = [str(connections), str(depth), "0.5", str(seconds), str(pid), cache]
        with pinned(LOAD):
            done = subprocess.run(
                [*self._command, socket, str(self._questions), *shape], capture_output=True, text=True, check=False
            )
        assert done.returncode == 0, done.stderr
        row: dict[str, Any] = json.loads(done.stdout)
        return row
