"""A fake daemon for the tests of hosts: a real Unix socket, scripted answers, no daemon.

::

    from aiorch.testing import Answer, FakeDaemon

    def test_tags_are_stored(monkeypatch):
        with FakeDaemon({"Tag: cats": "animals, pets"}) as daemon:
            monkeypatch.setenv("AIORCH_SOCKET", daemon.socket)
            my_code_that_uses_aiorch()
            assert daemon.prompts == ["Tag: cats"]

A prompt is answered by what is scripted for it: a text, an `Answer` (with delays, pieces, a cut connection), an error
such as ``aiorch.RateLimited("slow down", retry_after_s=2)``, a `Failure`, or a function of the request that gives any of
these. Everything else is answered by ``default``, which echoes. Models that the code under test answers for itself
(``register_model``, ``model_call_func``) are asked back, as the daemon does. It speaks the protocol of ``docs/protocol.md``
and passes the same conformance suite as the daemon.
"""

from aiorch.testing.answers import Answer, Answerable, Asked, Failure, echo
from aiorch.testing.fake import FakeDaemon

__all__ = ["Answer", "Answerable", "Asked", "Failure", "FakeDaemon", "echo"]
