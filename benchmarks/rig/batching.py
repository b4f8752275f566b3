"""Support tickets for one operation, asked in bursts over several connections, with batching on or off.

The operation is one as hosts have: rules of some 400 tokens in its system prompt, a schema, and tickets of some 25 tokens,
each with an order number of its own. The answer names that number and a category that follows from the ticket's words, so that
an answer that belongs to another ticket shows.
"""

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import aiorch
from aiorchsim.process import Simulator
from aiorchsim.textwork import answer, text_tokens
from rig.meters import LOAD, UNDER_TEST, Disturbance, pinned
from rig.scene import configuration, daemon, start_simulator

CATEGORIES = ("delivery", "billing", "account", "returns", "warranty", "products", "privacy", "complaints")
RULES = """You sort the tickets of a shop's support before people read them. Read the whole ticket and decide what the customer
wants in the end, not which words stand in it first. Use these categories and no others.

delivery: a parcel is late, lost, damaged on its way, at the wrong address, or its tracking does not move.
billing: a charge, an invoice, a voucher, a payment that failed or came twice, a question about prices that were paid.
account: signing in, passwords, addresses and names in the profile, newsletters, closing the account.
returns: sending something back, labels for that, refunds that follow from it, exchanges for another size or colour.
warranty: something broke after it had worked, repairs, spare parts under warranty, dates of warranty.
products: questions before buying: sizes, materials, compatibility, stock, when something comes back.
privacy: which data are kept, copies of them, deleting them, consent and cookies.
complaints: about people, shops or advertising, when nothing else is asked for.

A ticket is urgent when money is missing now, when something is needed on a day that is named and near, or when health is at
risk. It is not urgent because it is written in capitals or says so itself. Take the order number as it stands in the ticket,
digits only; if there are several, take the one that the request is about. Do not correct it, and do not make one up. When two
categories fit, take the one whose team has to act first: delivery before returns, billing before account. Tickets are written by
customers in a hurry: bad grammar, other languages and mixed topics are usual, and no reason to choose complaints. Never answer
the customer, never explain your choice, and give nothing but what the form asks for."""
SCHEMA = {
    "type": "object",
    "properties": {
        "category": {"enum": list(CATEGORIES)},
        "urgent": {"type": "boolean"},
        "order_number": {"type": "integer"},
    },
    "required": ["category", "urgent", "order_number"],
    "additionalProperties": False,
}
_STORIES = (
    "my {thing} from order {n} has a delivery date of last week and the delivery still has not come, where is it",
    "the billing for order {n} shows my {thing} twice, please look into the billing",
    "i cannot get into my account any more since order {n}, i wanted to see when the {thing} comes",
    "how do returns work for the {thing} of order {n}, it does not fit and the returns page is empty",
    "the {thing} of order {n} broke after a month, is there warranty, and where do i send it for warranty",
    "do you have other products like the {thing} of order {n}, the products page says sold out",
    "a question of privacy: delete what you keep of order {n} with the {thing}, i do not agree with your privacy terms",
    "two complaints about the person who brought order {n} with my {thing}, i never write complaints",
)
_THINGS = (
    "lamp jacket kettle backpack keyboard bicycle mirror blender tent sofa printer watch carpet helmet speaker".split()
)


def tickets(count: int, seed: int) -> list[str]:
    """Distinct tickets."""
    rng = random.Random(seed)
    numbers = rng.sample(range(100_000, 999_999), count)
    return [rng.choice(_STORIES).format(thing=rng.choice(_THINGS), n=number) for number in numbers]


def bursts(asked: list[str], sizes: tuple[int, ...], seed: int) -> Iterator[list[str]]:
    """The tickets in bursts whose sizes are drawn."""
    rng = random.Random(seed)
    start = 0
    while start < len(asked):
        size = rng.choice(sizes)
        yield asked[start : start + size]
        start += size


def operation(name: str, *, batch_size: int | None) -> str:
    """Its table."""
    batch = "" if batch_size is None else f"batch_size = {batch_size}\n"
    return f"""
[operations.{name}]
template = "Sort this ticket:\\n{{{{ input }}}}"
system = {json.dumps(RULES)}
output_schema = {{ {_inline(SCHEMA)} }}
{batch}"""


def _inline(table: dict[str, Any]) -> str:
    def written(value: Any) -> str:
        return f"{{ {_inline(value)} }}" if isinstance(value, dict) else json.dumps(value)

    return ", ".join(f"{name} = {written(value)}" for name, value in table.items())


@dataclass
class Told:
    """What came of a run: by ticket the answer and the seconds it took; and what the simulator and the daemon counted."""

    answers: dict[str, Any] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    simulator: dict[str, Any] = field(default_factory=dict)
    batching: dict[str, Any] = field(default_factory=dict)
    disturbed: float = 0.0

    @property
    def tokens(self) -> int:
        """Of prompts and answers, by the simulator's count."""
        return self.simulator["tokens"]["prompt"] + self.simulator["tokens"]["completion"]

    @property
    def calls(self) -> int:
        """That the simulator received."""
        return self.simulator["calls"]["received"]


@contextmanager
def house(profile: str, tables: str) -> Iterator[tuple[str, Simulator, list[int]]]:
    """A daemon with these operations, and the provider it asks: socket, simulator, process ids."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiorch-bench-")))
        with pinned(LOAD):
            simulator = stack.enter_context(start_simulator(profile))
        with pinned(UNDER_TEST):
            running = stack.enter_context(daemon(folder, configuration(simulator.base_url, more=tables)))
        yield str(running.socket), simulator, [running.pid, simulator.pid]


async def ask(
    socket: str,
    name: str,
    groups: Iterator[list[str]],
    *,
    connections: int,
    pause_s: float,
    spread_s: float,
    seed: int,
    after: Callable[[Told, dict[str, Any]], None] = lambda _told, _now: None,
) -> Told:
    """Ask burst by burst, each of them within ``spread_s`` over so many connections; ``after`` sees what the daemon tells of
    batching after each."""
    told, rng = Told(), random.Random(seed)
    async with AsyncExitStack() as open_clients:
        clients = [
            await open_clients.enter_async_context(aiorch.AsyncClient(socket, timeout_s=120))
            for _ in range(connections)
        ]

        async def one(ticket: str, after_s: float, client: aiorch.AsyncClient) -> None:
            await trio.sleep(after_s)
            began = time.perf_counter()
            reply = await client.complete(operation=name, input=ticket)
            told.took_s.append(time.perf_counter() - began)
            told.answers[ticket] = reply.data

        for group in groups:
            async with trio.open_nursery() as nursery:
                for place, ticket in enumerate(group):
                    nursery.start_soon(one, ticket, rng.random() * spread_s, clients[place % connections])
            told.batching = batching_of(await clients[0].stats(), name)
            after(told, told.batching)
            await trio.sleep(pause_s * rng.uniform(0.5, 1.5))
    return told


def batching_of(stats: dict[str, Any], name: str) -> dict[str, Any]:
    """What the daemon tells of an operation's batches; empty while it knows none."""
    return next((one for one in stats.get("batching", ()) if one["operation"] == name), {})


def run(
    profile: str,
    *,
    batch_size: int | None,
    asked: list[str],
    sizes: tuple[int, ...],
    connections: int = 4,
    pause_s: float = 0.5,
    spread_s: float = 0.02,
    seed: int = 1,
    after: Callable[[Told, dict[str, Any]], None] = lambda _told, _now: None,
) -> Told:
    """Ask tickets of a daemon of their own, and give what came of it."""
    with house(profile, operation("sort", batch_size=batch_size)) as (socket, simulator, pids):
        watch = Disturbance(pids)
        with pinned(LOAD):

            async def all_of_them() -> Told:
                return await ask(
                    socket,
                    "sort",
                    bursts(asked, sizes, seed),
                    connections=connections,
                    pause_s=pause_s,
                    spread_s=spread_s,
                    seed=seed,
                    after=after,
                )

            told = trio.run(all_of_them)
        told.simulator = simulator.stats()
        told.disturbed = watch.share()
    return told


def alone(ticket: str) -> Any:
    """What the simulated model answers to a ticket that is asked by itself, right as it always is then."""
    messages = [{"role": "system", "content": RULES}, {"role": "user", "content": f"Sort this ticket:\n{ticket}"}]
    wish = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    return json.loads(answer(messages, response_format=wish).text)


def shape(asked: list[str], told: Told) -> str:
    """The sizes of what was asked, in tokens."""
    user = sum(text_tokens(ticket) for ticket in asked) / len(asked)
    answer = sum(text_tokens(json.dumps(data)) for data in told.answers.values()) / len(told.answers)
    return f"rules {text_tokens(RULES)} tokens, ticket {user:.0f}, answer {answer:.0f}"
