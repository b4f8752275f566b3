"""The program ``aiorchctl``. What it needs beyond the client library is loaded below `main`, so that its absence is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        from aiorchctl.program import run

        return run(sys.argv[1:] if arguments is None else list(arguments))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in sys.stdlib_module_names or missing.startswith("aiorch"):
            raise  # a defect, or Python itself is not whole
        sys.stderr.write(f"aiorchctl: {missing} is not installed: pip install 'aiorch[daemon]'\n")
        return os.EX_USAGE


if __name__ == "__main__":
    sys.exit(main())
