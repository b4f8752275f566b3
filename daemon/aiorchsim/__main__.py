"""The program `aiorchsim`: profile, listening, the end."""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiorchsim.door import Door
from aiorchsim.options import parser
from aiorchsim.profile import Profile, ProfileError, explained, load
from aiorchsim.replay import Replay, ReplayError
from aiorchsim.routes import respond
from aiorchsim.server import Connection, Site
from aiorchsim.simulation import Simulation

BACKLOG: Final = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator until a signal ends it; the exit code."""
    options = parser().parse_args(arguments)
    if options.print_profile:
        sys.stdout.write(explained())
        return os.EX_OK
    try:
        profile = load(options.config) if options.config is not None else Profile()
        replay = Replay.open(Path(profile.replay)) if profile.replay is not None else None
    except ProfileError as error:
        return _failed(os.EX_CONFIG, *error.problems)
    except ReplayError as error:
        return _failed(os.EX_CONFIG, f"sim.replay: {error}")
    except OSError as error:
        return _failed(os.EX_CONFIG, f"{error.filename}: cannot be read: {error.strerror}")
    seed = profile.seed if options.seed is None else options.seed
    host, port = options.listen
    try:
        asyncio.run(_serve(profile, seed, replay, host, port, until_stdin_closes=options.until_stdin_closes))
    except PermissionError as error:
        return _failed(os.EX_NOPERM, f"may not listen on {host}:{port}: {error.strerror}; choose a port above 1023")
    except OSError as error:
        return _failed(
            os.EX_UNAVAILABLE,
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --listen, or port 0 for any",
        )
    return os.EX_OK


async def _serve(
    profile: Profile, seed: int, replay: Replay | None, host: str, port: int, *, until_stdin_closes: bool
) -> None:
    loop = asyncio.get_running_loop()
    simulation = Simulation(profile, seed=seed, replay=replay, now=loop.time())
    site = Site(
        lambda request, now, created: respond(simulation, request, now, created),
        simulation.statistics,
        most_body_bytes=profile.max_body_bytes,
        keep_alive_s=profile.keep_alive_s,
        loop=loop,
    )
    _raise_descriptor_limit()
    server = await loop.create_server(lambda: Connection(site), host, port, backlog=BACKLOG)
    bound_host, bound_port = server.sockets[0].getsockname()[:2]
    door = Door(site, server, bound_host, bound_port, BACKLOG)
    simulation.go_down = door.shut
    simulation.elsewhere = f"{'localhost' if bound_host == '127.0.0.1' else 'redirected.invalid'}:{bound_port}"
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if until_stdin_closes:
        loop.add_reader(0, _watch_stdin, loop, ended)
    gc.collect()
    gc.freeze()  # what lives now lives on; requests make no cycles
    gc.set_threshold(50_000, 50, 50)
    shown = f"[{bound_host}]" if ":" in bound_host else bound_host
    sys.stdout.write(f"aiorchsim listening on http://{shown}:{bound_port}\n")
    sys.stdout.flush()
    await ended.wait()
    door.close()
    site.abort_all()
    if replay is not None:
        replay.close()


def _watch_stdin(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    if not os.read(0, 4096):
        loop.remove_reader(0)
        ended.set()


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _failed(code: int, *lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"aiorchsim: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
