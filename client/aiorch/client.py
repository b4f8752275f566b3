"""The blocking client: thread-safe, with many calls in flight on one connection."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, cast

from aiorch import questions
from aiorch.address import candidates
from aiorch.connections import Connections
from aiorch.errors import ConnectionLost, HostError
from aiorch.exchange import Answering, Pending, Resending, whole_answer
from aiorch.link import Link
from aiorch.questions import CompleteOptions, EmbedOptions, Question, too_late
from aiorch.reply import Delta, Embedding, Reply, Server

if TYPE_CHECKING:
    from aiorch.host_threads import HostThreads
    from aiorch.hosting import ModelOptions

T = TypeVar("T")
_NEVER: Final = math.inf


class Client:
    """A blocking client of the daemon. Threads share it; calls in flight do not wait for each other.

    ``socket`` names the daemon's socket; without it ``$AIORCH_SOCKET``, then the user's own daemon, then the system's is
    used, and once one has answered, that one. ``timeout_s`` is for every call that names none (None: the daemon's own
    limits hold). Connecting waits up to ``connect_timeout_s`` for a socket that is missing, refuses or is full; when a daemon
    had answered, as when it is restarted, up to five times as long from when it was missed. When the daemon does not keep a
    deadline it was told, the call fails ``grace_s`` later.

    It connects when first used, again when the daemon was restarted, and by itself in a forked child. Every method may
    raise `Unreachable`, `ConnectionLost`, `LocalProtocolError` and `CallError`. A call that is interrupted, by its
    timeout or by an exception such as KeyboardInterrupt, is cancelled in the daemon.

    Use it as a context manager or ``close`` it; one that is forgotten closes itself.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        timeout_s: float | None = None,
        connect_timeout_s: float = 2.0,
        grace_s: float = 1.0,
    ) -> None:
        self._timeout_s = timeout_s
        self._connections = Connections(
            candidates(socket, os.environ), connect_timeout_s=connect_timeout_s, grace_s=grace_s
        )
        self._host_threads: HostThreads | None = None
        """Made when a model is registered."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Calls that other threads wait for fail with `ConnectionLost`; later ones with RuntimeError."""
        self._connections.close()
        if self._host_threads is not None:
            self._host_threads.close()

    # asking

    def complete(self, prompt: str | None = None, **options: Unpack[CompleteOptions]) -> Reply:
        """Ask for one answer; see `CompleteOptions` for the options. Give a prompt, or ``messages=``, or ``operation=``."""
        question = questions.complete("complete", prompt, options, self._timeout_s)
        if options and (function := options.get("model_call_func")) is not None:
            return self._ask_answering(question, function)
        return self._ask(question)

    def stream(self, prompt: str | None = None, **options: Unpack[CompleteOptions]) -> Stream:
        """Ask for one answer piece by piece: iterate over the result. Options as in `complete`.

        The question is sent when the first piece is asked for.
        """
        question = questions.complete("stream", prompt, options, self._timeout_s, streams=True)
        return Stream(self._connections, question, options.get("model_call_func"))

    def embed(self, input: Sequence[str] | str, **options: Unpack[EmbedOptions]) -> Embedding:  # noqa: A002 - its name
        """Ask for the vectors of some texts, or of one."""
        return self._ask(questions.embed(input, options, self._timeout_s))

    def register_model(
        self, name: str | Sequence[str], *, call: Callable[[str, Any], Any], **options: Unpack[ModelOptions]
    ) -> None:
        """Let a function of this process answer for a model, or for several: ``call(model, request)``.

        They are models for calls of this user, from whichever process, until `unregister_model`, `close` or the end of this
        process; after a restart of the daemon they are registered anew. Functions run in threads of their own, side by side.
        See `ModelOptions` for what a model costs and takes, and docs/host-models.md for what the function is given and gives.
        Raises `InvalidRequest` for a name that is configured.
        """
        from aiorch.hosting import names_of

        self._hosting().register(names_of(name), call, cast("dict[str, Any]", options))

    def unregister_model(self, name: str | Sequence[str]) -> None:
        """Answer for a model no more. Raises `NotFound` when it is not registered by this client."""
        from aiorch.hosting import names_of

        self._hosting().remove(names_of(name))

    def ping(self) -> str:
        """Ask whether the daemon is there; gives ``"pong"``."""
        return self._ask(questions.ping(self._timeout_s))

    def hello(self) -> Server:
        """Ask who answers, and who it takes this process for."""
        return self._ask(questions.hello(self._timeout_s))

    def status(self) -> dict[str, Any]:
        """Ask for health, generation, configuration and every stage's statistics."""
        return self._ask(questions.status(self._timeout_s))

    def stats(self, *, since_s: float | None = None, by: str | None = None, own: bool | None = None) -> dict[str, Any]:
        """Ask what was called, saved and spent in the last ``since_s`` seconds, split ``by`` operation, model,
        provider, caller or unit.

        Everybody sees their own; administrators see everybody's unless they say ``own=True``.
        """
        return self._ask(questions.stats(since_s, by, own, self._timeout_s))

    def explain(self, request_id: str) -> dict[str, Any]:
        """Ask for the whole story of one call, by the ``id`` of its reply. Raises `NotFound`, `Forbidden`."""
        return self._ask(questions.explain(request_id, self._timeout_s))

    def models_list(self) -> list[dict[str, Any]]:
        """Ask for the models with their live state."""
        return self._ask(questions.models_list(self._timeout_s))

    def cache_stats(self) -> dict[str, Any]:
        """Ask what the cache holds."""
        return self._ask(questions.cache_stats(self._timeout_s))

    def cache_clear(self, *, operation: str | None = None) -> int:
        """Forget all answers, or all of one operation; gives how many. For administrators: raises `Forbidden`."""
        return self._ask(questions.cache_clear(operation, self._timeout_s))

    def feedback(self, request_id: str, *, correct: bool) -> bool:
        """Say whether an answer was right; tells whether that counts for anything.

        It does for ``semantic`` answers of the last thousands of calls: of a wrong one the entry is deleted, and counts
        against the error rate that is to be kept.
        """
        return self._ask(questions.feedback(request_id, correct, self._timeout_s))

    def cache_forget(
        self, *, request_id: str | None = None, tag: str | None = None, operation: str | None = None
    ) -> int:
        """Forget your own answers (administrators: everybody's) by what is named; gives how many."""
        return self._ask(questions.cache_forget(request_id, tag, operation, self._timeout_s))

    def cache_explain(self, operation: str, a: Any, b: Any) -> dict[str, Any]:
        """Ask whether two inputs of an operation are one question to the cache, at which depth, and why."""
        return self._ask(questions.cache_explain(operation, a, b, self._timeout_s))

    def config_get(self, key: str | None = None) -> Any:
        """Ask for the configuration in force, or the part below a dotted key. For administrators."""
        return self._ask(questions.config_get(key, self._timeout_s))

    def config_reload(self) -> dict[str, Any]:
        """Have the configuration file read now; gives the verdict. For administrators."""
        return self._ask(questions.config_reload(self._timeout_s))

    def config_layers(self) -> dict[str, Any]:
        """Ask for every layer of the configuration with the keys it sets, and what is in force. For administrators."""
        return self._ask(questions.config_layers(self._timeout_s))

    def config_override(self, key: str, value: Any) -> dict[str, Any]:
        """Set a dotted key over the file, live, until it is reset or the daemon ends; gives the verdict. Of a section, a map
        of its keys sets several at once. For administrators.
        """
        return self._ask(questions.config_override(key, value, self._timeout_s))

    def config_reset(self, key: str | None = None) -> dict[str, Any]:
        """Take an override away, those below a section, or all; gives the verdict. For administrators."""
        return self._ask(questions.config_reset(key, self._timeout_s))

    def call(self, method: str, /, **arguments: Any) -> Any:
        """Call any method with its named arguments as the wire has them; those that are None are not sent."""
        return self._ask(questions.plain(method, arguments, self._timeout_s))

    def cancel(self, call_id: str | int) -> None:
        """Cancel a call that another thread waits for, by the ``call_id`` it was given; there it raises `Cancelled`.

        Does nothing when no such call is in flight.
        """
        self._connections.cancel(call_id)

    @property
    def server(self) -> Server | None:
        """Who answered last, as far as it has said so yet; `hello` asks."""
        return self._connections.server

    def _hosting(self) -> HostThreads:
        """Find or make what serves registered models; a forked child has none of its parent's."""
        import weakref

        from aiorch.host_threads import HostThreads

        found = self._host_threads
        if found is None or found.pid != os.getpid():
            found = self._host_threads = HostThreads(self._connections.like_these(), self._timeout_s)
            self._connections.moving = found
            weakref.finalize(self, found.close)
        return found

    def _ask_answering(self, question: Question[T], function: Callable[[str, Any], Any]) -> T:
        """Ask, and answer for the model in this thread when the daemon asks back."""
        from aiorch.hosting import Local

        connections, local = self._connections, Local(function)
        deadline = connections.deadline(question)
        resending: Resending | None = None
        while True:
            try:
                pending = connections.ask_answering(question, deadline, local.answer)
            except TimeoutError:
                raise too_late(question) from None
            if pending.failure is None:
                return question.parse(pending.result)
            if local.raised is not None and isinstance(pending.failure, HostError):
                raise pending.failure from local.raised
            if resending is None:
                resending = Resending(question)
            question = connections.again(question, pending, resending, deadline)

    def _ask(self, question: Question[T]) -> T:
        connections = self._connections
        deadline = _NEVER if question.timeout_s is None else connections.deadline(question)
        try:
            answered = connections.ask_alone(question, deadline)
            if isinstance(answered, tuple):
                return question.parse(answered[0])
            return self._ask_on(question, deadline, answered)
        except TimeoutError:
            raise too_late(question) from None

    def _ask_on(self, question: Question[T], deadline: float, pending: Pending | None) -> T:
        """Go on where the shortest way does not lead: ask beside others or on a new connection, and again what failed. Raises
        TimeoutError."""
        connections = self._connections
        resending: Resending | None = None
        while True:
            if pending is None:
                pending = connections.ask(question, deadline)
            if pending.failure is None:
                return question.parse(pending.result)
            if resending is None:
                resending = Resending(question)
            question = connections.again(question, pending, resending, deadline)
            pending = None


class Stream:
    """One streamed answer; iterating gives its text piece by piece.

    Asking for a piece may raise what `Client.complete` raises, and `IncompleteStream` when the answer broke off after
    some of it came. Leaving the loop early and dropping the object, ``close`` or leaving the ``with`` block cancels the
    rest. For one thread at a time; it does not survive a fork.
    """

    def __init__(
        self,
        connections: Connections,
        question: Question[Reply],
        function: Callable[[str, Any], Any] | None = None,
    ) -> None:
        self._function = function
        self._connections = connections
        self._question = question
        self._deadline = math.inf
        self._link: Link | None = None
        self._pending: Pending | None = None
        self._resending = Resending(question)
        self._over = False
        self._reply: Reply | None = None

    @property
    def reply(self) -> Reply:
        """The whole answer, once the last piece has been taken. Raises RuntimeError before."""
        if self._reply is None:
            raise RuntimeError("the stream has not come to its end")
        return self._reply

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            delta = self._next()
            if delta is None:
                raise StopIteration
            if delta.text:
                return delta.text

    def events(self) -> Iterator[Delta]:
        """Iterate over all pieces, parts of tool calls included."""
        while (delta := self._next()) is not None:
            yield delta

    def close(self) -> None:
        """Cancel what has not come yet."""
        self._over = True
        link, pending = self._link, self._pending
        if link is not None and pending is not None and not pending.answered and link.pid == os.getpid():
            link.forget(pending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        link, pending = getattr(self, "_link", None), getattr(self, "_pending", None)
        if link is not None and pending is not None and not pending.answered and link.pid == os.getpid():
            link.abandon(pending)

    def _next(self) -> Delta | None:
        while not self._over:
            link, pending = self._link, self._pending
            if link is None or pending is None:
                self._deadline = self._connections.deadline(self._question)
                self._send()
            elif link.pid != os.getpid():
                self._over = True
                raise ConnectionLost("this stream belongs to the process that began it, not to its forked child")
            elif pending.deltas:
                return pending.deltas.popleft()
            elif not pending.answered:
                if self._function is not None and type(pending) is Answering and pending.callbacks:
                    self._answer(self._function, link, pending)
                else:
                    self._wait(link, pending)
            elif pending.failure is None:
                self._over = True
                self._reply = reply = self._question.parse(pending.result)
                return whole_answer(pending, reply)
            else:
                self._send_again(pending)
        return None

    def _send(self) -> None:
        self._link, self._pending = self._connections.send(self._question, self._deadline)

    def _answer(self, function: Callable[[str, Any], Any], link: Link, pending: Answering) -> None:
        from aiorch.hosting import Local

        done = False
        try:
            Local(function).answer(link, pending)
            done = True
        finally:
            if not done:
                self.close()

    def _wait(self, link: Link, pending: Pending) -> None:
        try:
            link.wait(pending, self._deadline)
        except TimeoutError:
            raise too_late(self._question) from None
        finally:
            if not pending.moved:
                self.close()

    def _send_again(self, failed: Pending) -> None:
        self._over = True  # unless
        self._question = self._connections.again(self._question, failed, self._resending, self._deadline)
        self._over = False
        self._send()
