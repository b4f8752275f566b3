"""The demonstration from beginning to end."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Final

from aiorchctl.demo.figures import Figures, Footprint
from aiorchctl.demo.host import Task
from aiorchctl.demo.household import Household
from aiorchctl.demo.pages import gather_pages, write_pages
from aiorchctl.demo.progress import Progress
from aiorchctl.demo.rounds import Round, play
from aiorchctl.demo.scene import Scene, daemon_config, provider_profile
from aiorchsim.process import Simulator

_PAGES_S: Final = 20.0
_ROUND_S: Final = 120.0
_DAEMON_START_S: Final = 20.0
_DAEMON_STOP_S: Final = 20.0


def run(scene: Scene, progress: Progress) -> Figures:
    """Show it. Raises `DemoFailed`, `PagesFailed` or `SimulatorFailed` when it cannot; leaves nothing behind."""
    began = time.monotonic()
    with Household() as house:
        with progress.stage("reading pages", scene.pages) as stage:
            pages = gather_pages(
                scene.pages, seed=scene.seed, start=house.start, timeout_s=_PAGES_S, progress=stage.count
            )
        pages_file = house.folder / "pages.json"
        write_pages(pages, pages_file)
        simulator = house.start_simulator(provider_profile(scene))

        def round_of(name: str, what: str, socket: str | None) -> Round:
            tasks = _tasks(scene, simulator, pages_file, house.folder, name, socket)
            with progress.stage(what, scene.hosts * scene.calls_per_host) as stage:
                return play(house, simulator, tasks, timeout_s=_ROUND_S, progress=stage.standing)

        direct = round_of("direct", "directly", None)
        simulator.reset()  # full limits for the second way, as for the first
        config = daemon_config(scene, simulator.base_url)
        socket = str(house.socket)
        daemon = house.start_daemon(config, timeout_s=_DAEMON_START_S)
        first = round_of("first", "through aiorchd", socket)
        print_one = _footprint(daemon)
        house.stop(daemon, timeout_s=_DAEMON_STOP_S)
        daemon = house.start_daemon(config, timeout_s=_DAEMON_START_S)
        again = round_of("again", "after a restart", socket)
        print_two = _footprint(daemon)
        house.stop(daemon, timeout_s=_DAEMON_STOP_S)
    return Figures(
        pages=len(pages),
        hosts=scene.hosts,
        threads=scene.threads,
        direct=direct,
        first=first,
        again=again,
        footprint=Footprint(print_one.cpu_s + print_two.cpu_s, max(print_one.rss_bytes, print_two.rss_bytes)),
        total_s=time.monotonic() - began,
    )


def _tasks(scene: Scene, simulator: Simulator, pages: Path, folder: Path, name: str, socket: str | None) -> list[Task]:
    """Give each host its draws, the same in every round."""
    return [
        Task(
            parent_pid=os.getpid(),
            seed=scene.seed + number,
            calls=scene.calls_per_host,
            threads=scene.threads,
            pages=str(pages),
            answers=str(folder / f"answers-{name}-{number}.json"),
            host=simulator.host,
            port=simulator.port,
            socket=socket,
        )
        for number in range(scene.hosts)
    ]


def _footprint(process: subprocess.Popen[bytes]) -> Footprint:
    """Read what a process has used so far; zeros where /proc does not tell."""
    folder = Path("/proc", str(process.pid))
    try:
        ticks = folder.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
        resident = int(folder.joinpath("statm").read_text().split()[1])
    except OSError:
        return Footprint(0.0, 0)
    cpu_s = sum(int(tick) for tick in ticks) / os.sysconf("SC_CLK_TCK")
    return Footprint(cpu_s, resident * os.sysconf("SC_PAGE_SIZE"))
