"""Writing them into the checkout: ``python -m aiorchctl.manual``."""

from __future__ import annotations

import sys
from pathlib import Path

from aiorchctl.manual.everything import documents


def main() -> int:
    """Write all of them below the working directory, which must be a checkout."""
    for name, text in documents().items():
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
