"""How large batches may be outlives the process: a weak model is not found out anew, and a good one is not asked all over again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from aiorchd.config.schema import Batch, Config, Operation
from aiorchd.runtime.batch_memory import BatchMemory


class Played:
    """A store that is a table."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}

    async def load(self) -> Sequence[tuple[str, str, bytes]]:
        return [(*place, state) for place, state in self.rows.items()]

    def keep(self, operation: str, model: str, state: bytes) -> None:
        self.rows[operation, model] = state


class Told:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, event: str, /, **fields: object) -> None:
        self.warnings.append(event)


async def begun(store: Played | None, log: Told | None = None) -> BatchMemory:
    memory = BatchMemory(Batch(), store=store, log=log)
    await memory.remember()
    return memory


async def test_a_model_that_loses_is_known_after_a_restart() -> None:
    store = Played()
    weak = (await begun(store)).of("tag", "weak")
    assert weak.allowed(10) == 8
    while weak.allowed(10) > 1:
        weak.checked("batch_odd", weak.allowed(10))
    again = (await begun(store)).of("tag", "weak")
    assert again.allowed(10) == 1
    told = again.statistics()
    assert (told.checks, told.lowered, told.agreement) == (0, 0, None), "counted since the start"
    assert (await begun(store)).of("tag", "other").allowed(10) == 8
    assert (await begun(None)).of("tag", "weak").allowed(10) == 8


async def test_one_that_was_brought_down_is_checked_as_before_and_one_that_is_good_a_little() -> None:
    store = Played()
    memory = await begun(store)
    down, good = memory.of("tag", "down"), memory.of("tag", "good")
    for _ in range(6):
        down.checked("batch_odd", 8)
        down.checked("agreed", 8)
    for _ in range(40):
        good.checked("agreed", 8 if good.allowed(10) == 8 else 10)
    assert 2 <= down.allowed(10) <= 4
    assert good.allowed(10) == 10
    memory = await begun(store)
    again, well = memory.of("tag", "down"), memory.of("tag", "good")
    assert again.allowed(10) == down.allowed(10)
    assert again.checks(4) >= 1
    assert well.allowed(10) == 10
    anew = sum(well.checks(10) for _ in range(30))
    assert 8 <= anew <= 14, "in doubt whether it is the same model still"
    # And it may become worse, and that is seen as soon as ever.
    for _ in range(8):
        well.checked("batch_odd", 10)
    assert well.allowed(10) < 8


async def test_answers_of_the_wrong_form_are_remembered_too() -> None:
    store = Played()
    learned = (await begun(store)).of("tag", "")
    assert learned.allowed(10) == 8
    learned.taken_apart(items=8, wrong={}, extra=0)
    assert store.rows == {}
    for _ in range(3):
        learned.broke("broken", items=8)
    assert (await begun(store)).of("tag", "").allowed(10) == 4


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"\xff\x00",
        msgspec.msgpack.encode([99, 1, 10, 5, {}, {}]),
        msgspec.msgpack.encode([1, 0, 10, 5, {}, {}]),
        msgspec.msgpack.encode([1, 1, 10, 5, {}, {8: [-1.0, 0.0, 0.0]}]),
        msgspec.msgpack.encode([1, 1, 10, 5, {}, {8: [1.0]}]),
        msgspec.msgpack.encode({"size": 1}),
    ],
)
async def test_what_cannot_be_read_is_learned_again(state: bytes) -> None:
    store, log = Played(), Told()
    store.rows["tag", ""] = state
    assert (await begun(store, log)).of("tag", "").allowed(10) == 8
    assert len(log.warnings) == 1


async def test_an_operation_that_was_taken_out_begins_anew() -> None:
    store = Played()
    memory = await begun(store)
    learned = memory.of("tag", "")
    for _ in range(8):
        learned.checked("batch_odd", 8)
    memory.reconfigure(Config(operations={"other": Operation()}))
    assert memory.of("tag", "").allowed(10) == 8
