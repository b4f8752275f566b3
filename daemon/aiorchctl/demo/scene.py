"""The setting of the demonstration: its sizes, the simulated provider, and the daemon's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiorchctl.demo.asking import MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Sizes. The defaults take about half a minute; the provider's limit is what makes the direct round slow."""

    pages: int = 150
    hosts: int = 4
    threads: int = 8
    calls_per_host: int = 200
    seed: int = 20
    requests_per_minute: int = 1500

    def introduction(self) -> str:
        """Say what is about to be shown."""
        return (
            f"{self.hosts} host processes tag pages of Python's documentation, {self.calls_per_host} calls each: directly at "
            f"a simulated provider\nthat allows {self.requests_per_minute:,} requests a minute, then through aiorchd."
        )


_PRICES: Final = "input_usd_per_1m = 0.15\noutput_usd_per_1m = 0.60\n"


def provider_profile(scene: Scene) -> str:
    """Write the simulator's profile: a fast small model at usual prices, with a limit that is enforced and told as
    OpenAI does (by default ten seconds' worth may come at once).
    """
    return f"""\
[sim]
seed = {scene.seed}
rate_limit_headers = "full"
[[models]]
name = "{MODEL}"
latency_s = 0.09
latency_jitter_s = 0.03
requests_per_minute = {scene.requests_per_minute}
{_PRICES}"""


def daemon_config(scene: Scene, base_url: str) -> str:
    """Write the daemon's TOML: where the provider is, what it costs and allows; everything else at its default."""
    return f"""\
[providers.simulator]
dialect = "openai"
base_url = "{base_url}"
[[models]]
name = "{MODEL}"
provider = "simulator"
requests_per_minute = {scene.requests_per_minute}
{_PRICES}"""
