"""``aiorchd``: the daemon in the foreground, logging to stderr."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import time
from typing import Final

_NEEDED: Final = ("trio", "msgspec", "msgpack")
_AT_ONCE_S: Final = 5.0
_PAUSE_S: Final = 2.0
_GARBAGE_THRESHOLDS: Final = (3_000, 1, 1_350)
"""A look through so many objects takes a millisecond, and the next older ones are no more than that again. With a third of it
what twenty calls hold while they wait is looked through again and again, for a tenth of the CPU of a miss; with 20 000 a look
took 5 to 9 ms. All are looked through every eight million."""
_SWITCH_INTERVAL_S: Final = 0.0005
"""A thread that computes lets the loop go on after so long; Python's own 5 ms would be seen by everybody who waits."""


def main() -> int:
    """Run the daemon; returns its exit code (sysexits)."""
    managed = "NOTIFY_SOCKET" in os.environ
    began = time.monotonic()
    known = False
    try:
        code = _run()
        known = True
        return code
    finally:
        # A defect that shows at once shows again at once, and a service manager restarts without end. What is known to go
        # wrong has its own patience (`app.refusal`).
        if managed and not known and time.monotonic() - began < _AT_ONCE_S:
            time.sleep(_PAUSE_S)


def _run() -> int:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(_missing(missing))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # What is loaded stays for good: to look for garbage in it, now or ever again, costs time in which nobody is served.
    gc.disable()
    from aiorchd.app.start import start

    gc.freeze()
    # Hardly anything here lives in circles; looking for them every 700 objects costs a twentieth of a call.
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    gc.enable()
    return start(sys.argv[1:], os.environ)


def _missing(names: list[str]) -> int:
    sys.stderr.write(f"aiorchd needs {', '.join(names)}: pip install 'aiorch[daemon]'\n")
    return os.EX_USAGE


if __name__ == "__main__":
    sys.exit(main())
