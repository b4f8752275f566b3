"""How large batches may be was learned by one daemon, and is known to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio
from processes import daemon

import aiorch
from aiorchsim.process import start_simulator


async def test_a_model_that_answers_worse_in_batches_is_not_found_anew_after_a_restart(tmp_path: Path) -> None:
    with start_simulator("[[models]]\nbatch_loss = 0.2\n") as simulator:
        text = f"""
            [providers.main]
            dialect = "openai"
            base_url = "{simulator.base_url}"
            [[models]]
            name = "small"
            provider = "main"
            [batch]
            check_share = 1.0
            [operations.sort]
            template = "Sort this: {{{{ input }}}}"
            batch_size = 10
        """

        async def allowed(client: aiorch.AsyncClient) -> Any:
            return next(one["allowed"] for one in (await client.stats())["batching"] if one["operation"] == "sort")

        with daemon(tmp_path, text) as running:
            async with aiorch.AsyncClient(running.socket) as client:
                for burst in range(40):
                    async with trio.open_nursery() as nursery:
                        for number in range(8):
                            nursery.start_soon(
                                lambda what=f"{burst} {number}": client.complete(operation="sort", input=what)
                            )
                    if await allowed(client) == 1:
                        break
                assert await allowed(client) == 1
            running.stop()
            running.start()
            async with aiorch.AsyncClient(running.socket) as client:
                reply = await client.complete(operation="sort", input="afterwards")
                assert "answers from batches are not as good" in str((await client.explain(reply.id))["story"])
                assert await allowed(client) == 1
