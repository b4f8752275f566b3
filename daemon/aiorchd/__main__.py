"""``aiorchd``: the daemon in the foreground, logging to stderr."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Final

_NEEDED: Final = ("trio", "msgspec", "msgpack")


def main() -> int:
    """Run the daemon; returns its exit code (sysexits)."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f"aiorchd needs {', '.join(missing)}: pip install 'aiorch[daemon]'\n")
        return os.EX_USAGE
    from aiorchd.app.start import start

    return start(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
