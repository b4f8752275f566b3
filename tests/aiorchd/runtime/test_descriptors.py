"""How many files may be open, and raising the limit as far as it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from aiorchd.runtime.descriptors import descriptor_statistics

RAISE = """
import json, resource
from aiorchd.runtime.descriptors import descriptor_statistics, raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
before = descriptor_statistics().soft
raise_limit()
raise_limit()
print(json.dumps([before, descriptor_statistics().soft, descriptor_statistics().hard]))
"""


def test_it_is_raised_to_the_hard_limit() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", RAISE], env=environment, capture_output=True, check=True)
    assert json.loads(ran.stdout) == [100, 200, 200]


def test_open_ones_are_counted() -> None:
    before = descriptor_statistics().open
    assert before is not None
    with open(os.devnull), open(os.devnull):
        assert descriptor_statistics().open == before + 2
    assert descriptor_statistics().open == before
