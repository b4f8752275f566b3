"""A daemon and a simulated provider, each pinned, in a folder that goes away."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from processes import DaemonProcess, daemon

from aiorchsim.process import Simulator, start_simulator
from rig.meters import LOAD, UNDER_TEST, pinned
from rig.questions import MODEL, Asked, write_replay

__all__ = ["DaemonProcess", "Scene", "configuration", "daemon", "scene", "start_simulator"]


class Scene:
    """The daemon under test and the provider it asks."""

    def __init__(self, folder: Path, running: DaemonProcess, simulator: Simulator) -> None:
        self.folder = folder
        self.daemon = running
        self.simulator = simulator
        self.socket = str(running.socket)

    @property
    def pids(self) -> list[int]:
        """Of both."""
        return [self.daemon.pid, self.simulator.pid]


def configuration(base_url: str, *, permits: int = 512, more: str = "") -> str:
    """A configuration that lets as many calls out as the benchmark sends; all else as it comes."""
    return f"""
[providers.main]
dialect = "openai"
base_url = "{base_url}"

[[models]]
name = "{MODEL}"
provider = "main"
input_usd_per_1m = 0.15
output_usd_per_1m = 0.60

[concurrency]
initial = {permits}
max = {permits}

[pool]
max_connections = {permits}
max_keepalive = {permits}
{more}"""


@contextmanager
def scene(
    *, latency_s: float = 0.0, questions: list[Asked] | None = None, permits: int = 512, more: str = ""
) -> Iterator[Scene]:
    """Start both. With ``questions`` the provider replays their answers, else it works them out."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        profile = f"[[models]]\nlatency_s = {latency_s}\n"
        if questions is not None:
            write_replay(folder / "replay.jsonl", questions)
            profile = f'[sim]\nreplay = "{folder}/replay.jsonl"\n{profile}'
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator(profile))
        with pinned(UNDER_TEST):
            running = stack.enter_context(daemon(folder, configuration(simulator.base_url, permits=permits, more=more)))
        yield Scene(folder, running, simulator)
        code = running.stop()
        assert code == 0, f"aiorchd ended with {code}:\n{running.said()}"
