"""Where this process found what it works with, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiorchd.config.places import Place, SocketPlace


@dataclass(frozen=True, slots=True)
class Places:
    """The configuration file (None: built in), the socket, the state directory, and a descriptor from systemd if any."""

    config: Place | None
    socket: SocketPlace
    state: Place
    descriptor: int | None = None

    @property
    def config_path(self) -> Path | None:
        """The file, if there is one."""
        return None if self.config is None else self.config.path

    @property
    def config_rule(self) -> str:
        """What chose it."""
        return "built in: no file was named or found" if self.config is None else self.config.rule
