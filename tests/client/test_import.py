"""What importing the library costs and brings along."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import aiorch
from aiorch import errors

CLIENT = str(Path(aiorch.__file__).parents[1])


def run(code: str) -> str:
    environment = {"PYTHONPATH": CLIENT, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def loaded(code: str) -> set[str]:
    return set(run(f"import sys; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)").split())


def test_importing_loads_nothing_but_names() -> None:
    assert loaded("import aiorch") <= {"aiorch", "aiorch.version", "__future__"}


def test_the_blocking_client_loads_no_event_loop() -> None:
    modules = loaded("import aiorch; aiorch.Client()")
    assert not {"asyncio", "trio", "ssl", "logging", "aiorch.aio", "aiorch.testing"} & modules
    packages = {name.split(".")[0] for name in modules if not name.startswith("_")}
    assert packages - set(sys.stdlib_module_names) - {"cython_runtime"} == {"aiorch", "msgpack"}


def test_importing_takes_under_50_ms() -> None:
    def took(code: str) -> float:
        best = 10.0
        for _ in range(5):
            started = time.perf_counter()
            run(code)
            best = min(best, time.perf_counter() - started)
        return best

    assert took("import aiorch") - took("pass") < 0.05


def test_every_name_is_there() -> None:
    for name in aiorch.__all__:
        assert getattr(aiorch, name) is not None
        assert name in dir(aiorch)
    with pytest.raises(AttributeError, match="has no attribute 'Clint'"):
        _ = aiorch.Clint
    assert run("import aiorch; print(aiorch.__version__)").strip() == aiorch.__version__


def test_every_error_is_public() -> None:
    public = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.AiorchError)
    }
    assert public <= set(aiorch.__all__)
