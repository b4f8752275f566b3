"""The life of the daemon as nested blocks: what is opened first is closed last.

store - transport - generations - socket - serving ... drain - generations - transport - store
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import MutableMapping
from dataclasses import dataclass

import trio

from aiorch.protocol import Limits
from aiorch.version import __version__
from aiorchd.app.house import House, Household
from aiorchd.app.listening import Listening
from aiorchd.app.places import Places
from aiorchd.app.supply import Supply, open_supply
from aiorchd.config.compare import Changes
from aiorchd.config.load import Loaded
from aiorchd.config.schema import Config
from aiorchd.doors.identity import Access, group_numbers, user_numbers
from aiorchd.doors.methods import method_table
from aiorchd.doors.questions import Questions
from aiorchd.doors.session_limits import SessionLimits
from aiorchd.doors.unix import DoorPolicy, UnixDoor
from aiorchd.likeness.arrays import open_arrays
from aiorchd.pipeline.generation import Pipeline
from aiorchd.pipeline.lasting import Lasting, lasting_state
from aiorchd.pipeline.order import open_pipeline
from aiorchd.pipeline.plan import Plan
from aiorchd.runtime.descriptors import most_connections
from aiorchd.runtime.generations import Generations
from aiorchd.runtime.host_models import HostModels
from aiorchd.runtime.logs import Log, Logging
from aiorchd.runtime.notify import Notifier, feed_watchdog
from aiorchd.runtime.reloading import Reloading, Verdict
from aiorchd.runtime.signals import watch_signals
from aiorchd.runtime.starting import Patience
from aiorchd.runtime.watch import FileWatch
from aiorchd.store.answers import AnswerBounds
from aiorchd.store.host_names import HostNames
from aiorchd.store.opening import Store, open_store
from aiorchd.store.records import RecordBounds


@dataclass(frozen=True, slots=True)
class Launch:
    """What the process was started with."""

    places: Places
    listening: Listening
    loaded: Loaded
    watch: FileWatch | None
    environ: MutableMapping[str, str]
    notifier: Notifier
    watchdog_s: float | None
    logging: Logging


async def live(launch: Launch) -> int:
    """Be the daemon until told to stop; returns the exit code. Raises what `app.start` turns into sentences."""
    log = Log("")
    config = launch.loaded.config
    launch.logging.set_levels(config.daemon.log_level, config.daemon.log_levels)
    stop = _Stop()
    host_models = HostModels()
    # The socket is there first, so that clients who come while the rest is opened wait instead of being refused.
    listening = launch.listening.open()
    async with (
        open_store(
            launch.places.state.path,
            release=__version__,
            wall_clock=time.time,
            answers=_answer_bounds(config),
            records=_record_bounds(config),
            semantic_entries=config.cache.semantic.max_entries,
        ) as store,
        open_supply(launch.environ, config.pool, time.time, host_models) as supply,
        trio.open_nursery() as background,
    ):
        lasting = lasting_state(
            config,
            answers=store.answers,
            records=store.records,
            wall_clock=time.time,
            rng=random.SystemRandom(),
            spending=store.spending.spending,
            spending_store=store.spending,
            semantic_store=store.semantic,
            batch_store=store.batches,
            open_arrays=open_arrays,
            host_models=host_models,
        )
        await lasting.batching.remember()
        generations: Generations[Plan, Pipeline] = Generations(
            lambda plan: open_pipeline(plan, lasting), background, on_retire=Pipeline.retire
        )
        household = await _household(launch, store, supply, lasting, generations)
        questions = Questions(generations, host_models)
        policy = _Policy(config)
        household.on_applied = policy.follow
        methods = method_table(questions, House(household), host_models, lambda: generations.current)
        door = household.door = UnixDoor(
            listening,
            methods,
            questions.recall,
            policy.current,
            Log("door"),
            recall_known=questions.recall_known,
            recall_stored=questions.recall_stored,
            refused_call=store.records.record_refusal,
        )
        host_names = HostNames(store.directory, host_models.places)
        host_models.on_changed = host_names.changed
        host_models.expect(await host_names.read(), trio.current_time())
        background.start_soon(host_names.run)
        background.start_soon(lasting.semantic.run)
        await background.start(_signals, stop, household.reloading, background)
        if household.watch is not None:
            background.start_soon(household.reloading.follow, household.watch)
            background.start_soon(household.reloading.follow_files)
        await lasting.semantic.open()
        if launch.watchdog_s is not None:
            background.start_soon(feed_watchdog, launch.notifier, launch.watchdog_s)
        async with trio.open_nursery() as sessions:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(door.serve, sessions)
                _say_ready(launch, log)
                await stop.asked.wait()
                household.stopping = True
                launch.notifier.stopping("finishing the calls in flight")
                door.stop_accepting()
            await host_names.keep()
            # New clients find a successor or nobody, and do not wait in a queue that nobody serves.
            launch.listening.close()
            await _drain(door, sessions, stop, launch, household.reloading.loaded.config.daemon.drain_timeout_s, log)
        generations.close()
        background.cancel_scope.cancel()
    log.info("stopped")
    return 0


class _Stop:
    """The wish to end: asked for once, insisted upon by a second signal."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.insisted = trio.Event()
        self.reason = ""

    def ask(self, reason: str) -> None:
        self.reason = reason
        self.asked.set()


async def _signals(
    stop: _Stop, reloading: Reloading, background: trio.Nursery, task_status: trio.TaskStatus[None]
) -> None:
    try:
        await watch_signals(
            stop=stop.ask,
            insist=stop.insisted.set,
            reload=lambda: background.start_soon(reloading.reload, "signal"),
            task_status=task_status,
        )
    finally:
        # All calls are over. What is left is to close the files properly, and one more request to end must not prevent it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


async def _household(
    launch: Launch, store: Store, supply: Supply, lasting: Lasting, generations: Generations[Plan, Pipeline]
) -> Household:
    """Put the first configuration in force, and keep those that follow."""
    started_at = lasting.wall_clock()

    async def put_in_force(loaded: Loaded) -> int:
        number = await generations.replace(await supply.plan(loaded))
        lasting.reconfigure(loaded.config)
        lasting.host_models.return_s = loaded.config.daemon.host_return_s
        store.answers.reconfigure(_answer_bounds(loaded.config))
        store.semantic.reconfigure(loaded.config.cache.semantic.max_entries)
        store.records.reconfigure(_record_bounds(loaded.config))
        supply.reconfigure(loaded.config.pool)
        launch.logging.set_levels(loaded.config.daemon.log_level, loaded.config.daemon.log_levels)
        launch.logging.hide(supply.secrets())
        return number

    async def apply(loaded: Loaded, _: Changes) -> int:
        launch.notifier.reloading()
        try:
            number = await put_in_force(loaded)
            if household.on_applied is not None:
                household.on_applied(loaded.config)
            return number
        finally:
            launch.notifier.ready()  # the verdict, which follows, says with what

    def tell(verdict: Verdict) -> None:
        launch.notifier.status(_state_of(reloading.loaded, verdict))

    generation = await put_in_force(launch.loaded)
    path = launch.places.config_path
    reloading = Reloading(
        launch.loaded,
        generation,
        path=path,
        environ=launch.environ,
        apply=apply,
        wall_clock=lasting.wall_clock,
        log=Log("reload"),
        on_verdict=tell,
        rotated=lambda: supply.rotated(reloading.loaded.config),
    )
    household = Household(
        places=launch.places,
        started_at=started_at,
        generations=generations,
        lasting=lasting,
        reloading=reloading,
        watch=launch.watch,
        store=store,
        supply=supply,
    )
    return household


def _answer_bounds(config: Config) -> AnswerBounds:
    return AnswerBounds(
        max_entries=config.cache.disk_max_entries,
        max_bytes=config.cache.disk_max_bytes,
        # As long as anybody may still be given them.
        stale_s=max(
            config.cache.stale_s, *(operation.cache_stale_s or 0.0 for operation in config.operations.values()), 0.0
        ),
    )


def _record_bounds(config: Config) -> RecordBounds:
    return RecordBounds(keep_calls=config.metrics.keep_calls, keep_days=config.metrics.keep_days)


class _Policy:
    """What new connections meet; follows the configuration."""

    def __init__(self, config: Config) -> None:
        self._policy = _door_policy(config)

    def current(self) -> DoorPolicy:
        return self._policy

    def follow(self, config: Config) -> None:
        self._policy = _door_policy(config)


def _door_policy(config: Config) -> DoorPolicy:
    daemon = config.daemon
    found = [user_numbers(daemon.allow_users), group_numbers(daemon.allow_groups)]
    admins = [user_numbers(daemon.admin_users), group_numbers(daemon.admin_groups)]
    for _, unknown in (*found, *admins):
        for name in unknown:
            Log("door").warning("a name in [daemon] is unknown on this host", name=name)
    possible = most_connections(daemon.max_connections, [config.pool.max_connections] * len(config.providers))
    if possible < daemon.max_connections:
        Log("door").warning(
            "descriptors for fewer connections than [daemon] max_connections",
            possible=possible,
            wanted=daemon.max_connections,
            remedy="raise LimitNOFILE=, or lower max_connections",
        )
    return DoorPolicy(
        access=Access(
            restricted=bool(daemon.allow_users or daemon.allow_groups),
            users=found[0][0],
            groups=found[1][0],
            admin_users=admins[0][0],
            admin_groups=admins[1][0],
            own_uid=os.getuid(),
        ),
        session=SessionLimits(
            wire=Limits(daemon.max_frame_bytes, daemon.max_elements),
            max_in_flight=daemon.max_in_flight_per_connection,
            max_host_calls=daemon.max_host_calls_per_connection,
            max_host_models=daemon.max_host_models_per_connection,
            max_pending_write_bytes=daemon.max_pending_write_bytes,
            write_stall_s=daemon.write_stall_s,
            frame_timeout_s=daemon.frame_timeout_s,
        ),
        max_connections=possible,
        limited_by="[daemon] max_connections" if possible == daemon.max_connections else "LimitNOFILE= of the service",
        max_incoming_bytes=daemon.max_incoming_bytes,
        patience=Patience(
            most_s=config.queue.max_start_wait_s,
            share=config.queue.max_start_wait_share,
            usual_s=config.timeouts.total_s,
            longest_s=config.timeouts.max_total_s,
        ),
    )


def _say_ready(launch: Launch, log: Log) -> None:
    loaded, places = launch.loaded, launch.places
    launch.notifier.ready(_what_serves(loaded))
    log.info(
        "ready",
        socket=str(places.socket),
        config=str(places.config or "built in"),
        state=str(places.state.path),
        pid=os.getpid(),
    )
    for problem in loaded.warnings:
        log.warning("configuration", problem=str(problem))
    if loaded.simulated:
        log.warning(
            "no provider is configured: an embedded simulated model answers; write a configuration to reach a real one"
        )
    if sys.stderr.isatty():
        log.info("stop with Ctrl-C")


def _what_serves(loaded: Loaded) -> str:
    if loaded.simulated:
        return "simulated model only: nothing is configured"
    models = sum(model.enabled for model in loaded.config.models)
    return f"{models} model{'' if models == 1 else 's'}"


def _state_of(loaded: Loaded, verdict: Verdict) -> str:
    """Say in one line, for ``systemctl status``, what is in force and what became of the last look at the file."""
    if verdict.result == "refused":
        return f"configuration refused, generation {verdict.generation} stays in force: {verdict.problems[0]}"
    line = f"{_what_serves(loaded)}, generation {verdict.generation}"
    waiting = len(verdict.pending)
    return f"{line}; {waiting} setting{' waits' if waiting == 1 else 's wait'} for a restart" if waiting else line


async def _drain(
    door: UnixDoor, sessions: trio.Nursery, stop: _Stop, launch: Launch, drain_timeout_s: float, log: Log
) -> None:
    """Let calls in flight finish, for as long as the configuration allows or until somebody insists."""
    waiting = door.statistics()
    log.info(
        "stopping",
        signal=stop.reason,
        connections=waiting.connections,
        in_flight=waiting.in_flight,
        at_most_s=drain_timeout_s,
    )
    launch.notifier.extend_timeout(drain_timeout_s + 10.0)
    async with trio.open_nursery() as nursery:

        async def insist() -> None:
            await stop.insisted.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(insist)
        with trio.move_on_after(drain_timeout_s) as patience:
            await door.drain(drain_timeout_s)
        nursery.cancel_scope.cancel()
    cut = door.statistics().in_flight
    if cut:
        why = "insisted" if stop.insisted.is_set() else "drain_timeout_s" if patience.cancelled_caught else "left"
        log.warning("calls cut", in_flight=cut, because=why)
    door.cut()
    sessions.cancel_scope.cancel()
