"""The pages that the demonstration tags: the pydoc text of modules of the standard library, found on this machine.

They are made in a process of its own (``python -m aiorchctl.demo.pages COUNT SEED``), because importing odd modules may
print, open windows or crash: its standard output is a private pipe, its environment nearly empty, and each module has
little time. It writes one line of JSON for each page.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

LONGEST_PAGE: Final = 12_000
"""Characters of a page that are kept; the documentation of tkinter alone would be 900 000."""

_SHORTEST_PAGE: Final = 200
_MODULE_S: Final = 2.0
_SIDE_EFFECTS: Final = frozenset(
    # print, open a browser, open windows, are tests or tools, or warn that they are going
    "antigravity this idlelib turtle turtledemo tkinter test lib2to3 msilib imp asynchat asyncore smtpd distutils".split()
)


class PagesFailed(Exception):
    """Too few pages could be made; the message says how many."""


@dataclass(frozen=True, slots=True)
class PageOfText:
    """The documentation of one module."""

    module: str
    text: str


def gather_pages(
    count: int,
    *,
    seed: int,
    start: Callable[[list[str]], subprocess.Popen[bytes]],
    timeout_s: float,
    progress: Callable[[int], None],
) -> list[PageOfText]:
    """Make so many pages in a process begun with ``start``; fewer when the machine has fewer modules or time runs out.

    Raises `PagesFailed` when not even half of them could be made.
    """
    process = start(["-m", "aiorchctl.demo.pages", str(count), str(seed)])
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_s
    pages: list[PageOfText] = []
    pending = b""
    while len(pages) < count and (left_s := deadline - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left_s)[0]:
            break
        chunk = os.read(process.stdout.fileno(), 1 << 16)
        if not chunk:
            break
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            page = json.loads(line)
            pages.append(PageOfText(page["module"], page["text"]))
        progress(len(pages))
    process.kill()
    process.wait()
    process.stdout.close()
    if len(pages) < count // 2:
        raise PagesFailed(f"only {len(pages)} of {count} modules of the standard library could be documented here")
    return sorted(pages[:count], key=lambda page: page.module)


def write_pages(pages: list[PageOfText], path: Path) -> None:
    """Write them where the host processes read them."""
    path.write_text(json.dumps([[page.module, page.text] for page in pages]), encoding="utf-8")


def read_pages(path: Path) -> list[PageOfText]:
    """Read what `write_pages` wrote."""
    return [PageOfText(module, text) for module, text in json.loads(path.read_text(encoding="utf-8"))]


def module_names(seed: int, available: frozenset[str] = sys.stdlib_module_names) -> list[str]:
    """Name the modules to try, in an order that only the seed decides."""
    names = sorted(name for name in available if not name.startswith("_") and name not in _SIDE_EFFECTS)
    random.Random(seed).shuffle(names)
    return names


def _render(count: int, seed: int) -> None:
    """Write pages to what was standard output; whatever modules print goes nowhere."""
    import pydoc
    import warnings

    warnings.simplefilter("ignore")
    pipe = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    signal.signal(signal.SIGALRM, _too_long)
    made = 0
    for name in module_names(seed):
        signal.setitimer(signal.ITIMER_REAL, _MODULE_S)
        try:
            text = pydoc.render_doc(name, renderer=pydoc.plaintext)  # type: ignore[attr-defined]  # typeshed has not it
        except (ImportError, pydoc.ErrorDuringImport, _TooLong, AttributeError, TypeError, ValueError, LookupError):
            continue
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        if len(text) < _SHORTEST_PAGE:
            continue
        text = text[:LONGEST_PAGE].encode("utf-8", "replace").decode("utf-8")
        line = memoryview(json.dumps({"module": name, "text": text}).encode("ascii") + b"\n")
        while line:
            line = line[os.write(pipe, line) :]
        made += 1
        if made == count:
            break
    os.close(pipe)
    os._exit(0)  # without the farewells of a hundred and fifty modules


class _TooLong(BaseException):
    """A module took more than its time; a BaseException so that the module does not catch it."""


def _too_long(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as the signal module calls it
    raise _TooLong


def page_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Give the environment for processes of the demonstration: what Python needs and nothing of the user's own, since
    the documentation of ``os`` shows the environment, and proxies and settings of the user must not decide what happens.
    """
    kept = {name: environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in environ}
    return {
        **kept,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


if __name__ == "__main__":
    _render(int(sys.argv[1]), int(sys.argv[2]))
