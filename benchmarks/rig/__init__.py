"""What the benchmarks share: the scene (a daemon, a simulated provider), meters, callers, and the table of figures."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

for folder in ("client", "daemon", "tests/kit"):
    if (path := str(ROOT / folder)) not in sys.path:
        sys.path.insert(0, path)
