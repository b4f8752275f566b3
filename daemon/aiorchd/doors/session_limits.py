"""What one connection may take."""

from __future__ import annotations

from dataclasses import dataclass

from aiorch.protocol import Limits


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one connection may take: see ``[daemon]``."""

    wire: Limits
    max_in_flight: int = 256
    max_host_calls: int = 256
    max_host_models: int = 100
    max_pending_write_bytes: int = 1024 * 1024
    write_stall_s: float = 30.0
    frame_timeout_s: float = 10.0
