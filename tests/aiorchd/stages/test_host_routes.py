"""HostRoutes: calls for models of host processes leave everybody's way, and only those."""

from __future__ import annotations

from functools import partial

import trio
from harness import InnerService, a_call, a_reply, ask, cancel_at_every_checkpoint

from aiorch.errors import HostError
from aiorchd.calls.call import Call
from aiorchd.stages.host_routes import HostRoutes


def build() -> tuple[HostRoutes, InnerService[Call], InnerService[Call]]:
    everybodys: InnerService[Call] = InnerService()
    own: InnerService[Call] = InnerService()
    return HostRoutes(everybodys, lambda call: own if call.model == "mine" else None), everybodys, own


async def test_each_call_goes_its_way() -> None:
    stage, everybodys, own = build()
    everybodys.answer = lambda _: a_reply("theirs")
    own.answer = lambda _: a_reply("mine")
    assert (await stage(a_call(model="mine"))).text == "mine"
    assert (await stage(a_call(model="small"))).text == "theirs"
    assert (await stage(a_call())).text == "theirs"
    assert (everybodys.asked, own.asked) == (2, 1)
    assert (stage.statistics().inside, stage.statistics().sent, stage.statistics().answered) == (0, 1, 1)


async def test_a_failure_passes_and_is_no_answer() -> None:
    stage, _, own = build()
    async with trio.open_nursery() as nursery:
        asked = ask(nursery, stage, a_call(model="mine"))
        received = await own.next()
        assert stage.statistics().inside == 1
        received.fail(HostError("broken"))
        assert (await asked.error()).code == "host_error"
    assert (stage.statistics().inside, stage.statistics().sent, stage.statistics().answered) == (0, 1, 0)


async def test_cancelled_anywhere_it_holds_nothing() -> None:
    def scenario(_: trio.Nursery) -> tuple[HostRoutes, partial[object]]:
        stage, _, own = build()

        async def slowly(_: Call) -> object:
            await trio.sleep(1)
            return a_reply()

        own.answer = slowly
        return stage, partial(stage, a_call(model="mine"))

    def idle(stage: HostRoutes) -> None:
        assert stage.statistics().inside == 0

    await cancel_at_every_checkpoint(scenario, idle)  # type: ignore[arg-type]
