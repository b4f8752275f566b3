"""A million answers on disk: how soon the daemon is there, what a look costs, and whether the loop stands still meanwhile.

    python benchmarks/million_entries.py [--save] [--quick]

The daemon is asked some questions and stopped; its cache.db is filled up to a million with answers of the same size and keys of
the same form; then it is started on that. It shares no CPU with load and provider. "From disk" are the questions of
before, asked for the first time since the start; "in memory" the same ones asked again; "new" are questions that nobody has
asked. A caller who asks for one answer from memory over and over, from the first moment on, sees when the loop stands still:
while the keys on disk are being read into their filter, and when the disk is looked at.
"""

import contextlib
import os
import sqlite3
import tempfile
import time
from pathlib import Path

from rig.figures import Figure, options, publish
from rig.meters import LOAD, UNDER_TEST, Disturbance, median, move, pinned, quantile, rss_bytes
from rig.questions import kept, write_replay
from rig.scene import configuration, daemon, start_simulator
from rig.stalls import stalls

import aiorch
from aiorchd.calls.ports import StoredAnswer
from aiorchd.store.answer_rows import read_answer, write_answers

ASKED = 1500
ROUNDS = 3


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    entries = 50_000 if chosen.quick else 1_000_000
    questions = kept(ASKED)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        write_replay(folder / "replay.jsonl", [*questions, *kept(4 * ASKED)[ASKED:]])
        with pinned(LOAD):
            simulator = stack.enter_context(
                start_simulator(f'[sim]\nreplay = "{folder}/replay.jsonl"\n[[models]]\nlatency_s = 0.0\n')
            )
        # Room for what is asked anew, or the questions of the first minute, being the oldest, make way for it.
        room = f"max_entries = 2000\nttl_s = 1000000\ndisk_max_entries = {entries + 10 * ASKED}\n"
        text = configuration(simulator.base_url, more=f"[cache]\n{room}")
        running = stack.enter_context(daemon(folder, text))
        with aiorch.Client(running.socket) as client:
            for asked in questions:
                assert client.complete(asked.prompt).text == asked.answer
            small_mb = rss_bytes(running.pid) / 1e6
        assert running.stop() == 0, running.said()
        began = time.perf_counter()
        fill(running.state / "cache.db", entries)
        os.sync()  # or the disk is busy with what was just written
        print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
        starts, disks, memories, news, gaps, spared, filter_s = [], [], [], [], [], [], []
        watch = Disturbance([simulator.pid])
        for round_ in range(ROUNDS):
            began = time.perf_counter()
            with pinned(UNDER_TEST):
                running.start()
            with aiorch.Client(running.socket) as client:
                first = client.complete(questions[0].prompt)
                assert first.cache == "exact", (client.cache_stats(), client.explain(first.id))
                starts.append(time.perf_counter() - began)
                with stalls(running.socket, questions[0].prompt) as seen:
                    until_known = until_filtered(client)
                with stalls(running.socket, questions[0].prompt) as quiet:
                    time.sleep(1.0)
                gaps.append((quantile(sorted(seen), 0.999), max(seen), quantile(sorted(quiet), 0.999), max(quiet)))
                filter_s.append(until_known)
                disks += timed(client, [asked.prompt for asked in questions[1:]], "exact")
                memories += timed(client, [asked.prompt for asked in questions[1:]], "exact")
                before = client.cache_stats()["disk"]["spared"]
                news += timed(client, [asked.prompt for asked in kept(4 * ASKED)[(round_ + 1) * ASKED :][:500]], "miss")
                spared.append(client.cache_stats()["disk"]["spared"] - before)
                held = client.cache_stats()["disk"]
                mb = rss_bytes(running.pid) / 1e6
            move(running.pid, LOAD)
            assert running.stop() == 0, running.said()
        size = sum(os.path.getsize(path) for path in running.state.glob("cache.db*"))
        disturbed = watch.share()
    disk_ms, memory_ms = (quantile(sorted(rows), 0.5) * 1e3 for rows in (disks, memories))
    middle = [median(column) * 1e3 for column in zip(*gaps, strict=True)]
    figures = [
        Figure(f"{entries:,} answers on disk: start to first answer, from disk", median(starts), "s", 1.0,
               beside=f"{min(starts):.2f} to {max(starts):.2f} s; all keys known after {median(filter_s):.1f} s more"),
        Figure("the same: exact look on disk beyond a hit in memory, p50", disk_ms - memory_ms, "ms", 0.3,
               beside=f"memory {memory_ms * 1e3:.0f} µs, disk p99 {quantile(sorted(disks), 0.99) * 1e3:.2f} ms"),
        Figure("the same: a new question's look on disk spared", 100 * sum(spared) / (500 * ROUNDS), "%", None,
               beside=f"p50 of a miss {quantile(sorted(news), 0.5) * 1e3:.2f} ms, provider's time included"),
        Figure("the same: wait for an answer from memory while the keys are read, p99.9", middle[0], "ms", 5.0,
               beside=f"longest {middle[1]:.1f} ms; in the second after that {middle[2]:.1f} and {middle[3]:.1f} ms; "
               f"{seen.told()}"),
        Figure("the same: size of cache.db with its log", size / 2**20, "MiB", held["max_bytes"] / 2**20,
               beside=f"{held['entries']:,} answers, pages in use {held['bytes'] / 2**20:,.0f} MiB"),
        Figure("the same: memory of the daemon", mb, "MB", None, beside=f"{small_mb:.0f} MB with {ASKED:,} answers on disk"),
    ]  # fmt: skip
    publish("million_entries", figures, disturbed=[disturbed], save=chosen.save)


def fill(path: Path, entries: int) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA cache_size = -400000")
        (key,) = connection.execute("SELECT key FROM answers LIMIT 1").fetchone()
        row = read_answer(connection, key)
        assert row is not None
        assert row.answer is not None
        model, now = row.answer, time.time()
        (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
        while count < entries:
            batch = min(5000, entries - count)
            connection.execute("BEGIN")
            answers = [
                StoredAnswer(
                    key=key[:1] + os.urandom(len(key) - 1),
                    body=model.body,
                    stored_at=now,
                    expires_at=now + 1e6,
                    source_id=f"{os.urandom(6).hex()}-{number:x}",
                    uid=model.uid,
                    partition="",
                    model=model.model,
                    tags=(),
                    cost_usd=model.cost_usd,
                )
                for number in range(batch)
            ]
            assert write_answers(connection, answers, now) == 0
            connection.execute("COMMIT")
            count += batch
        connection.execute("PRAGMA journal_mode = WAL")


def timed(client: aiorch.Client, prompts: list[str], cache: str) -> list[float]:
    took = []
    for prompt in prompts:
        began = time.perf_counter()
        reply = client.complete(prompt)
        took.append(time.perf_counter() - began)
        assert reply.cache == cache, (reply.cache, prompt[-20:])
    return took


def until_filtered(client: aiorch.Client) -> float:
    """Ask, now and then, for what nobody has kept, until the disk is not looked at for it."""
    began = time.perf_counter()
    for number in range(10_000):
        before = client.cache_stats()["disk"]["spared"]
        with contextlib.suppress(aiorch.NotFound):
            client.complete(f"Nobody asked this before {number}.", cache="only")
        if client.cache_stats()["disk"]["spared"] > before:
            return time.perf_counter() - began
        time.sleep(0.05)
    raise AssertionError("the keys were never known")


if __name__ == "__main__":
    main()
