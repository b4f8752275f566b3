"""The serving half of the fake daemon: a selector, timers, and the connections; all in one thread."""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiorch.errors import (
    CallError,
    Cancelled,
    DeadlineExceeded,
    GoingAway,
    InternalError,
    InvalidRequest,
    LocalProtocolError,
    NotFound,
    RemoteProtocolError,
    UnknownMethod,
)
from aiorch.protocol import Connection, Notification, Request, Response
from aiorch.testing.answers import Answer, Answerable, Asked, Failure, check, embedding, reply
from aiorch.testing.hosts import RETURN_S, Hosts
from aiorch.version import PROTOCOL, __version__


class Timers:
    """What shall be done when, on the monotonic clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, act: Callable[[], None]) -> Callable[[], None]:
        """Do something later; gives what calls it off."""
        holder = [act]
        heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._order), holder))
        return holder.clear

    def run(self) -> float | None:
        """Do what is due; gives the seconds until something will be."""
        while self._heap and (not self._heap[0][2] or self._heap[0][0] <= time.monotonic()):
            _, _, holder = heapq.heappop(self._heap)
            for act in tuple(holder):
                holder.clear()
                act()
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None


class Job:
    """One request being answered."""

    def __init__(self, peer: Peer, msgid: int, asked: Asked) -> None:
        self.peer = peer
        self.msgid = msgid
        self.asked = asked
        self.over = False
        self.pieces = 0
        self.call_offs: list[Callable[[], None]] = []

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted piece by piece."""
        return bool(self.asked.arguments.get("stream"))


class Peer:
    """One connection."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.connection = connection
        self.number = number
        self.pid, self.uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self.wire = Connection()
        self.errors_as_map = False
        self.leaving = False
        self.deaf = False
        self.jobs: dict[int, Job] = {}
        self.unsent = bytearray()
        self.asked: dict[int, Job] = {}
        """What it was asked back, by the id of that request: the calls that wait for it."""


class Server:
    """Serves until closed. Methods marked so run in the serving thread: call them through `do`."""

    def __init__(
        self,
        answers: dict[str, Answerable],
        default: Answerable,
        methods: Mapping[str, Callable[[Asked], Any]],
    ) -> None:
        self.answers = answers
        self.asked: list[Asked] = []
        self.connections_made = 0
        self.changed = threading.Condition()
        """Notified whenever something happened."""
        self._default = default
        self._methods = methods
        self._path = ""
        self._listening: socket.socket | None = None
        self._peers: dict[int, Peer] = {}
        self._kept: dict[tuple[int, str], dict[str, Any]] = {}
        self._told: dict[str, Asked] = {}
        self._timers = Timers()
        self._failures: list[BaseException] = []
        self._posted: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._hosts = Hosts(self._write, self._resolve, self._complete)
        self._expect_no_more: Callable[[], None] = lambda: None

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._peers)

    @property
    def in_flight(self) -> int:
        """Requests not answered yet."""
        return sum(len(peer.jobs) for peer in tuple(self._peers.values()))

    def open(self, path: str) -> None:
        """Listen, and serve in a thread."""
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._pool = ThreadPoolExecutor(thread_name_prefix="aiorch-fake-script")
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._take_posted)
        self.listen()
        self._thread = threading.Thread(target=self._serve, name="aiorch-fake-daemon", daemon=True)
        self._thread.start()

    def close(self) -> list[BaseException]:
        """End everything; gives what scripted functions raised."""

        def stop() -> None:
            self._stopping = True

        if self._thread.is_alive():
            self.do(stop)
        self._thread.join()
        self._pool.shutdown()
        self._selector.close()
        self._wake_reader.close()
        self._wake_writer.close()
        return self._failures

    def do(self, act: Callable[[], None]) -> None:
        """Have something done in the serving thread, and wait for it."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                act()
            except OSError as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._post(run)
        while True:
            try:
                return done.result(timeout=0.1)
            except TimeoutError:
                if not self._thread.is_alive():
                    raise RuntimeError("the fake daemon's thread is gone; its traceback says why") from None

    # in the serving thread

    def listen(self) -> None:
        """Bind the socket anew."""
        if self._listening is not None:
            return
        Path(self._path).unlink(missing_ok=True)
        self._listening = listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.setblocking(False)
        listening.bind(self._path)
        listening.listen(1024)
        self._selector.register(listening, selectors.EVENT_READ, self._accept)

    def stop_listening(self) -> None:
        """Be gone."""
        if self._listening is not None:
            self._selector.unregister(self._listening)
            self._listening.close()
            self._listening = None
            Path(self._path).unlink(missing_ok=True)
            self._expect_hosts()
        self.hang_up()

    def hang_up(self) -> None:
        """Close all connections."""
        for peer in tuple(self._peers.values()):
            self._drop(peer)

    def say_going_away(self, deadline_s: float) -> None:
        """Tell everybody; who has nothing in flight is hung up on."""
        self._expect_hosts()
        for peer in tuple(self._peers.values()):
            peer.leaving = True
            self._write(peer, Connection.pack_notification("going_away", {"deadline_s": deadline_s}))
            self._drop_if_done(peer)

    def _expect_hosts(self) -> None:
        self._hosts.replaced()
        self._expect_no_more()
        self._expect_no_more = self._timers.after(RETURN_S, self._hosts.give_up)

    def tell(self, method: str, arguments: Mapping[str, Any]) -> None:
        """Send a notification to everybody."""
        for peer in tuple(self._peers.values()):
            self._write(peer, Connection.pack_notification(method, arguments))

    def _serve(self) -> None:
        try:
            while not self._stopping:
                ready = self._selector.select(self._timers.run())
                for key, events in ready:
                    key.data(events)
                self._timers.run()
                with self.changed:
                    self.changed.notify_all()
        finally:
            self.stop_listening()  # a script that makes no sense must not leave its test waiting

    def _post(self, act: Callable[[], None]) -> None:
        self._posted.append(act)
        try:
            self._wake_writer.send(b"!")
        except BlockingIOError:
            pass  # it has wake-ups enough

    def _take_posted(self, _: int) -> None:
        self._wake_reader.recv(4096)
        while self._posted:
            self._posted.popleft()()

    def _accept(self, _: int) -> None:
        assert self._listening is not None
        connection, _address = self._listening.accept()
        connection.setblocking(False)
        self.connections_made += 1
        peer = Peer(connection, self.connections_made)
        self._peers[peer.number] = peer
        self._selector.register(connection, selectors.EVENT_READ, lambda events: self._move(peer, events))

    def _move(self, peer: Peer, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._write(peer, b"")
        if not events & selectors.EVENT_READ or peer.number not in self._peers:
            return
        try:
            data = peer.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return
        try:
            received = peer.wire.receive_data(data)
        except RemoteProtocolError as error:
            refusal = InvalidRequest(str(error))
            self._write(peer, Connection.pack_notification("error", refusal.to_wire()))
            self._drop(peer)
            return
        for event in received:
            if type(event) is Request:
                self._start(peer, event)
            elif type(event) is Response:
                self._hosts.take(peer, event)
            elif type(event) is Notification and event.method == "cancel":
                self._cancel(peer, event)

    def _write(self, peer: Peer, data: bytes) -> None:
        if peer.number not in self._peers:
            return
        peer.unsent += data
        try:
            sent = peer.connection.send(peer.unsent, socket.MSG_NOSIGNAL) if peer.unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(peer)
            return
        del peer.unsent[:sent]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.unsent else 0)
        key = self._selector.get_key(peer.connection)
        if key.events != wanted:
            self._selector.modify(peer.connection, wanted, key.data)
        self._drop_if_done(peer)

    def _drop_if_done(self, peer: Peer) -> None:
        if peer.leaving and not peer.jobs and not peer.asked and not peer.unsent and not peer.deaf:
            # From here on the peer cannot write, so that it knows what was not taken; what it has written is still
            # read, and refused, until the end of it. Closing at once would lose a question that crosses the goodbye.
            peer.deaf = True
            peer.connection.shutdown(socket.SHUT_RD)

    def _drop(self, peer: Peer) -> None:
        if self._peers.pop(peer.number, None) is None:
            return
        for job in peer.jobs.values():
            job.asked.cancelled = True
            self._end(job)
        self._selector.unregister(peer.connection)
        peer.connection.close()
        self._hosts.gone(peer)

    # requests

    def _start(self, peer: Peer, request: Request) -> None:
        named = request.params[0] if request.params else {}
        arguments = named if isinstance(named, dict) else {}
        asked = Asked(request.method, arguments, peer.uid, peer.pid, peer.number)
        job = Job(peer, request.msgid, asked)
        if request.msgid in peer.jobs:
            self._answer(job, error=InvalidRequest(f"msgid: {request.msgid} is still in flight; use another"))
            return
        peer.jobs[request.msgid] = job
        if request.method == "hello":
            self._greet(job)
            return
        self.asked.append(asked)
        if peer.leaving:
            self._answer(job, error=GoingAway("the fake daemon is stopping; connect again to reach its successor"))
            return
        try:
            if len(request.params) > 1 or not isinstance(named, (dict, list)) or (type(named) is list and named):
                raise InvalidRequest("params: must be an array holding one map of named arguments")
            check(asked)
            self._carry_out(job)
        except CallError as error:
            self._answer(job, error=error)

    def _greet(self, job: Job) -> None:
        job.peer.errors_as_map = job.asked.arguments.get("errors") == "map"
        who = {"uid": job.peer.uid, "gid": os.getgid(), "pid": job.peer.pid, "unit": "user", "admin": True}
        self._answer(job, {"server": "aiorch.testing", "version": __version__, "protocol": PROTOCOL, **who})

    def _carry_out(self, job: Job) -> None:
        asked = job.asked
        timeout_s = asked.arguments.get("timeout_s")
        if timeout_s is not None:
            late = DeadlineExceeded(f"the call did not end within its {timeout_s:g} s")
            job.call_offs.append(self._timers.after(timeout_s, lambda: self._answer(job, error=late)))
        if asked.method in self._methods:
            self._run(job, self._methods[asked.method], lambda result: self._answer(job, result))
        elif asked.method == "complete":
            self._complete(job)
        elif asked.method == "models.register":
            self._answer(job, self._hosts.register(job.peer, asked.arguments))
        elif asked.method == "models.remove":
            self._answer(job, self._hosts.remove(job.peer, asked.arguments))
        elif asked.method == "embed":
            self._answer(job, embedding(asked, self._request_id(asked)))
        else:
            self._answer(job, self._plain(asked))

    def _complete(self, job: Job) -> None:
        asked = job.asked
        if job.over:
            return  # while it waited for its model
        kept = self._kept.get((asked.uid, str(asked.arguments.get("key"))))
        taker = self._hosts.taker(job)
        if kept is not None:
            self._answer(job, kept)
        elif taker is not None:
            self._hosts.ask(job, taker)
        elif not self._hosts.awaits(job):
            self._resolve(job, self.answers.get(asked.prompt, self._default))

    def _plain(self, asked: Asked) -> Any:
        """Answer the methods that tell about the daemon, with the little there is to tell."""
        if asked.method == "ping":
            return "pong"
        if asked.method == "explain":
            told = self._told.get(str(asked.arguments.get("request_id")))
            if told is None:
                raise NotFound("request_id: no such call is known")
            return {"id": asked.arguments["request_id"], "method": told.method, "uid": told.uid}
        plain: dict[str, Any] = {
            "status": {"state": "ready", "version": __version__, "in_flight": self.in_flight},
            "stats": {"calls": sum(asked.method == "complete" for asked in self.asked)},
            "models.list": [
                {"name": "fake", "provider": "fake", "enabled": True},
                *({"name": name, "provider": "host", "enabled": True} for name in self._hosts.names(asked.uid)),
            ],
            "cache.stats": {"entries": 0},
            "cache.clear": {"removed": 0},
            "cache.forget": {"removed": 0},
            "config.get": {},
            "config.reload": {"changed": False},
            "config.override": {"result": "accepted", "overrides": {}},
            "config.reset": {"result": "accepted", "overrides": {}},
        }
        if asked.method not in plain:
            raise UnknownMethod(f"there is no method {asked.method[:60]!r}")
        return plain[asked.method]

    def _request_id(self, asked: Asked) -> str:
        request_id = f"fake-{len(self._told) + 1}"
        self._told[request_id] = asked
        return request_id

    def _run(self, job: Job, script: Callable[[Asked], Any], use: Callable[[Any], None]) -> None:
        """Call a function of the test in a thread of its own."""

        def finished(future: Future[Any]) -> None:
            error = future.exception()
            if isinstance(error, CallError):
                self._post(lambda: self._answer(job, error=error))
            elif error is not None:
                self._failures.append(error)
                defect = InternalError(f"a scripted function failed: {type(error).__name__}: {error}")
                self._post(lambda: self._answer(job, error=defect))
            else:
                self._post(lambda: None if job.over else use(future.result()))

        self._pool.submit(script, job.asked).add_done_callback(finished)

    def _resolve(self, job: Job, answerable: Answerable) -> None:
        if isinstance(answerable, str):
            self._play(job, self._steps(job, Answer(text=answerable)))
        elif isinstance(answerable, CallError):
            self._play(job, self._failing_steps(job, Failure(error=answerable)))
        elif isinstance(answerable, Answer):
            self._play(job, self._steps(job, answerable))
        elif isinstance(answerable, Failure):
            self._play(job, self._failing_steps(job, answerable))
        else:
            self._run(job, answerable, lambda result: self._resolve(job, result))

    def _play(self, job: Job, steps: Iterator[float]) -> None:
        """Take steps until one has to wait."""
        while not job.over:
            pause_s = next(steps, None)
            if pause_s is None:
                return
            if pause_s > 0:
                job.call_offs.append(self._timers.after(pause_s, lambda: self._play(job, steps)))
                return

    def _steps(self, job: Job, answer: Answer) -> Iterator[float]:
        yield answer.delay_s
        if job.streams:
            for number, piece in enumerate(answer.cut()):
                if answer.cut_after is not None and number >= answer.cut_after:
                    break
                if number:
                    yield answer.pause_s
                self._send_piece(job, piece)
        if answer.cut_after is not None:
            self._drop(job.peer)
            return
        result = reply(job.asked, answer, self._request_id(job.asked))
        key = job.asked.arguments.get("key")
        if key is not None:
            self._kept[job.asked.uid, key] = result
        self._answer(job, result)

    def _failing_steps(self, job: Job, failure: Failure) -> Iterator[float]:
        yield failure.delay_s
        if job.streams:
            for number, piece in enumerate(failure.pieces):
                if number:
                    yield failure.pause_s
                self._send_piece(job, piece)
        self._answer(job, error=failure.error)

    def _send_piece(self, job: Job, piece: str) -> None:
        delta = {"call_id": job.asked.arguments.get("call_id"), "index": job.pieces, "text": piece}
        job.pieces += 1
        notify = job.asked.arguments.get("notify")
        method, *leading = notify or ("delta",)
        self._write(job.peer, Connection.pack_notification(method, [*leading, delta]))

    def _cancel(self, peer: Peer, notification: Notification) -> None:
        named = notification.params[0] if notification.params else None
        if not isinstance(named, dict):
            return
        for job in tuple(peer.jobs.values()):
            call_id = job.asked.arguments.get("call_id")
            if job.msgid == named.get("msgid") or (call_id is not None and call_id == named.get("call_id")):
                job.asked.cancelled = True
                self._answer(job, error=Cancelled("cancelled by the caller"))

    def _answer(self, job: Job, result: Any = None, *, error: CallError | None = None) -> None:
        if job.over:
            return
        try:
            packed = None if error is not None else Connection.pack_result(job.msgid, result)
        except LocalProtocolError as unsendable:
            self._failures.append(unsendable)
            error = InternalError(f"the scripted answer cannot be sent: {unsendable}")
            packed = None
        if packed is None and error is not None:
            form = error.to_wire() if job.peer.errors_as_map else [0, str(error)]
            packed = Connection.pack_error(job.msgid, form)
        self._end(job)
        job.peer.jobs.pop(job.msgid, None)
        self._write(job.peer, packed or b"")

    def _end(self, job: Job) -> None:
        job.over = True
        for call_off in job.call_offs:
            call_off()
