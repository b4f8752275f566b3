"""The installed service, proved in a booted systemd: `make test-systemd`.

Boots the systemd of this machine in a box (box.sh), installs aiorch there from a wheel, as a newcomer would, and carries
out the trials (trials.py) with the units as they are shipped. Prints the figures; with --save they are written to
docs/systemd-figures.md, too. Needs root. Ends with 0 when every figure is within its bar.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FIGURES = ROOT / "docs" / "systemd-figures.md"
TOOLS = {
    "/lib/systemd/systemd": "systemd",
    "systemd-analyze": "systemd",
    "systemd-run": "systemd",
    "systemd-sysusers": "systemd",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "runuser": "util-linux",
    "useradd": "passwd",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="write docs/systemd-figures.md")
    parser.add_argument("--only", default="", help="names of trials, comma-separated; nothing is saved then")
    parser.add_argument(
        "--wheels", type=Path, default=ROOT / ".box" / "wheels", help="where wheels are kept between runs"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make test-systemd boots a systemd in namespaces of its own, for which it must be root: run it with sudo.\n"
              "Everything that does not need that is in `make test`.", file=sys.stderr)  # fmt: skip
        return os.EX_NOPERM
    if not fetch_tools():
        return os.EX_UNAVAILABLE
    python = find_python()
    if python is None:
        return os.EX_UNAVAILABLE
    make_wheels(options.wheels, python)
    with tempfile.TemporaryDirectory(prefix="aiorch-box-") as scratch:
        box = Box(Path(scratch) / "box", options.wheels, python)
        began = time.monotonic()
        box.up()
        try:
            print(f"a {box.version()} is up after {time.monotonic() - began:.1f} s", flush=True)
            began = time.monotonic()
            box.install()
            print(
                f"aiorch is installed after {time.monotonic() - began:.1f} s; the trials take two minutes", flush=True
            )
            figures, code = box.trials([name for name in options.only.split(",") if name])
            version = box.version()
        finally:
            box.down()
    if options.save and figures and not options.only:
        FIGURES.write_text(page(figures, version), encoding="utf-8")
    return code


def fetch_tools() -> bool:
    """Install what is missing from the distribution, if that is Debian's kind."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing and shutil.which("apt-get") is not None:
        print(f"installing {' '.join(missing)}", flush=True)
        subprocess.run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL, check=False)
        subprocess.run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        print(f"make test-systemd needs {' '.join(missing)}; install that first", file=sys.stderr)
    return not missing


def find_python() -> str | None:
    """Find a Python that a confined service may use: this one, unless it is in a home; else the distribution's."""
    for python in (f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}", "/usr/bin/python3"):
        usable = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
        if (
            Path(python).resolve().is_relative_to("/usr")
            and subprocess.run([python, "-c", usable], capture_output=True, check=False).returncode == 0
        ):
            return python
    print(
        "make test-systemd needs a Python of 3.11 or newer, with venv, below /usr: a service sees no home",
        file=sys.stderr,
    )
    return None


def make_wheels(folder: Path, python: str) -> None:
    """Build aiorch as it is released, and fetch what it needs, unless that is here already."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    wanted = hashlib.sha256(b"".join([*parts, python.encode()])).hexdigest()
    mark = folder / "wanted"
    tools = folder.with_name(f"{folder.name}-tools")
    pip = [tools / "bin" / "pip", "--disable-pip-version-check", "-q"]
    if not mark.exists() or mark.read_text() != wanted:
        for old in (folder, tools):
            shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(parents=True)
        subprocess.run([python, "-m", "venv", tools], check=True)
        subprocess.run([*pip, "wheel", "-w", folder, "-c", ROOT / "constraints.txt", f"{ROOT}[daemon]"], check=True)
        mark.write_text(wanted)
    for old in folder.glob("aiorch-*.whl"):
        old.unlink()
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], check=True)


class Box:
    """The machine in the box."""

    def __init__(self, folder: Path, wheels: Path, python: str) -> None:
        self._python = python
        binds = {str(HERE.parent): "/trial", str(wheels.resolve()): "/wheels"}
        self._environment = {
            **os.environ,
            "BOX": str(folder),
            "BOX_BINDS": " ".join(f"{a}:{b}" for a, b in binds.items()),
        }

    def up(self) -> None:
        self._do("up")

    def down(self) -> None:
        self._do("down")

    def version(self) -> str:
        return self._do("run", "systemctl", "--version", capture_output=True, text=True).stdout.splitlines()[0]

    def install(self) -> None:
        """As docs/systemd.md says, but without a network."""
        self._do("run", self._python, "-m", "venv", "/opt/aiorch")
        self._do("run", "env", "PIP_CONFIG_FILE=/dev/null", "/opt/aiorch/bin/pip", "--isolated", "install", "--disable-pip-version-check", "-q", "--root-user-action=ignore",
                 "--no-index", "--find-links=/wheels", "aiorch[daemon]")  # fmt: skip

    def trials(self, only: list[str]) -> tuple[list[dict[str, Any]], int]:
        """Carry them out; prints each figure when it is there."""
        figures = []
        with subprocess.Popen(
            [HERE / "box.sh", "run", "env", "PYTHONPATH=/trial/kit", "PATH=/opt/aiorch/bin:/usr/sbin:/usr/bin:/sbin:/bin",
             "/opt/aiorch/bin/python", "/trial/systemd/trials.py", *only],
            env=self._environment, stdout=subprocess.PIPE, text=True,
        ) as running:  # fmt: skip
            assert running.stdout is not None
            for line in running.stdout:
                figure = json.loads(line)
                figures.append(figure)
                print(
                    f"{'ok  ' if figure['good'] else 'FAIL'} {figure['what']}: {figure['got']}  (bar: {figure['bar']})",
                    flush=True,
                )
        return figures, running.returncode

    def _do(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        return subprocess.run([HERE / "box.sh", *arguments], env=self._environment, check=True, **options)


def page(figures: list[dict[str, Any]], version: str) -> str:
    """The page of docs/."""
    rows = "\n".join(
        f"| {figure['what']} | {figure['got']} | {figure['bar']} |".replace("\n", " ") for figure in figures
    )
    return f"""# The service under systemd: figures

Written by `make test-systemd` on {time.strftime("%Y-%m-%d")}: {version}, Python {platform.python_version()}, Linux \
{platform.release().partition("-")[0]}, {os.cpu_count()} processors (load {os.getloadavg()[1]:.1f}). A real systemd, booted \
in a box that comes before whatever else the machine does; aiorch installed there from its wheel, with the units as they \
are shipped, at their hardening; a simulated provider of 50 ms, and of 3 s where calls are in flight.

| what | measured | bar |
| --- | --- | --- |
{rows}
"""


if __name__ == "__main__":
    sys.exit(main())
