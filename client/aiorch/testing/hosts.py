"""Models that the fake daemon's clients answer for: who registered what, and what was asked back. Runs in the serving thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aiorch.errors import CallError, HostError, InvalidRequest, NotFound, error_from_wire
from aiorch.protocol import Connection, Response
from aiorch.testing.answers import Answer

if TYPE_CHECKING:
    from aiorch.testing.server import Job, Peer

RETURN_S: Final = 5.0
"""So long after the daemon was replaced, calls wait for a model that somebody had registered before."""

_ANSWER_FIELDS: Final = frozenset(
    ("messages tools tool_choice temperature max_tokens seed stop output_schema extra").split()
)


class Hosts:
    """Asks clients back. ``write`` sends to one, ``answer`` ends a call with an answer or an error, ``begin`` begins one anew."""

    def __init__(
        self,
        write: Callable[[Peer, bytes], None],
        answer: Callable[[Job, Answer | CallError], None],
        begin: Callable[[Job], None],
    ) -> None:
        self._write = write
        self._answer = answer
        self._begin = begin
        self._registered: dict[tuple[int, str], list[Peer]] = {}
        self._expected: dict[tuple[int, str], list[Job]] = {}
        """Who waits for models that were registered before the daemon was replaced."""

    def replaced(self) -> None:
        """The daemon goes: who registered with it will do so with its successor."""
        for place in self._registered:
            self._expected.setdefault(place, [])

    def give_up(self) -> None:
        """Wait no longer for whoever has not come back."""
        waiting = [job for jobs in self._expected.values() for job in jobs]
        self._expected.clear()
        for job in waiting:
            self._begin(job)

    def awaits(self, job: Job) -> bool:
        """Let a call wait for its model, if that is expected back."""
        waiting = self._expected.get(_place(job))
        if waiting is None or job.asked.arguments.get("host"):
            return False
        waiting.append(job)
        return True

    def register(self, peer: Peer, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out ``models.register``."""
        names = _names(arguments)
        for name in names:
            peers = self._registered.setdefault((peer.uid, name), [])
            if peer not in peers:
                peers.append(peer)
        for name in names:
            for job in self._expected.pop((peer.uid, name), ()):
                self._begin(job)
        return {"registered": names}

    def remove(self, peer: Peer, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out ``models.remove``."""
        names = _names(arguments)
        for name in names:
            if peer not in self._registered.get((peer.uid, name), ()):
                raise NotFound(f"name: this connection has registered no model {name!r}")
        for name in names:
            self._forget(peer, (peer.uid, name))
        return {"removed": names}

    def names(self, uid: int) -> list[str]:
        """List what a user has registered."""
        return [
            name
            for (owner, name), peers in self._registered.items()
            if owner == uid and not all(peer.leaving for peer in peers)
        ]

    def taker(self, job: Job) -> Peer | None:
        """Find who answers a call itself, None when the script does."""
        arguments = job.asked.arguments
        if arguments.get("host"):
            return job.peer
        peers = self._registered.get(_place(job), [])
        found = next((peer for peer in peers if not peer.leaving), None)
        if found is not None:
            peers.remove(found)
            peers.append(found)
        return found

    def ask(self, job: Job, peer: Peer) -> None:
        """Ask back; the answer ends the call."""
        arguments = job.asked.arguments
        question = {name: value for name, value in arguments.items() if name in _ANSWER_FIELDS and value is not None}
        question.setdefault("messages", [{"role": "user", "content": job.asked.prompt}])
        model = arguments.get("model") or "fake"
        question |= {
            "model": model,
            "name": model,
            "request_id": "fake",
            "deadline_s": arguments.get("timeout_s") or 600.0,
        }
        if arguments.get("host"):
            question["msgid"] = job.msgid
        msgid, data = peer.wire.pack_request("host.complete", question)
        peer.asked[msgid] = job

        def withdraw() -> None:
            if peer.asked.pop(msgid, None) is not None:
                self._write(peer, Connection.pack_notification("cancel", {"msgid": msgid}))

        job.call_offs.append(withdraw)
        self._write(peer, data)

    def take(self, peer: Peer, response: Response) -> None:
        """Take what a client answered."""
        job = peer.asked.pop(response.msgid, None)
        if job is not None:
            self._answer(
                job, error_from_wire(response.error) if response.error is not None else _answer(response.result)
            )

    def gone(self, peer: Peer) -> None:
        """A client has hung up."""
        for place in tuple(self._registered):
            self._forget(peer, place)
        jobs = tuple(peer.asked.values())
        peer.asked.clear()
        for job in jobs:
            if job.peer is not peer:
                self._answer(
                    job, HostError("the connection of the process that answers for it was lost", retryable=True)
                )

    def _forget(self, peer: Peer, place: tuple[int, str]) -> None:
        peers = self._registered[place]
        if peer in peers:
            peers.remove(peer)
        if not peers:
            del self._registered[place]


def _place(job: Job) -> tuple[int, str]:
    return job.peer.uid, str(job.asked.arguments.get("model"))


def _names(arguments: Mapping[str, Any]) -> list[str]:
    names = [arguments["name"]] if arguments.get("name") is not None else arguments.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidRequest("name: give name, or names for several models")
    for place, name in enumerate(names):
        if name == "fake" or any(character.isspace() for character in name):
            raise InvalidRequest(f"names[{place}]: {name!r} is taken, or holds blanks")
    return names


def _answer(said: Any) -> Answer | CallError:
    if isinstance(said, str):
        said = {"text": said}
    if not isinstance(said, dict) or not (said.get("text") or said.get("data") is not None or said.get("tool_calls")):
        return HostError("the answer is empty: give text, data or tool_calls")
    fields: dict[str, Any] = {"provider": "host"}
    if said.get("usage"):
        counts = ("input", "cache_read", "cache_write", "output", "reasoning")
        fields["usage"] = {name: said["usage"].get(name) or 0 for name in counts}
    text = str(said.get("text") or "")
    return Answer(
        text=text,
        data=said.get("data"),
        tool_calls=said.get("tool_calls") or (),
        finish_reason=said.get("finish_reason") or "stop",
        pieces=[text] if text else [],
        fields=fields,
    )
