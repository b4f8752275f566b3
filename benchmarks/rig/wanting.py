"""A host process that wants more than it may have: sends calls at random (Poisson), whatever became of earlier ones.

    python rig/wanting.py WAY WHERE RATE SECONDS FIRST [--uid N] [--tokens] [--inside N]

WAY: aiorch (our AsyncClient at the socket WHERE), httpx2 (straight to the base URL WHERE, again after a refusal with jittered
exponential backoff, at most six times), openai (its AsyncOpenAI with the retries it comes with). At most ``--inside`` calls are
under way; those due beyond are dropped, as a host would that has so many workers. ``--tokens`` asks with prompts of 50 to
8 000 tokens, as long as those of a public trace of conversations are, and as bursty as its arrivals. Prints what it saw as JSON
when standard input closes or the time is over: [second, latency] of each answer, and errors by code.
"""

import argparse
import asyncio
import collections
import json
import math
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig import ROOT  # noqa: F401  (puts the project's folders on the path)
from rig.questions import MODEL, sum_of

KEY = "sk-benchmark-0123456789"
# The Azure LLM inference trace of conversations (2023): 19 366 prompts, log-normal; arrivals a second have a variance of 1.4
# times their mean, over ten seconds 3.9 times: a rate that itself varies by a gamma law of shape 19.
PROMPT_LOG_MEAN, PROMPT_LOG_DEVIATION = 6.65, 0.94
SHORTEST_TOKENS, LONGEST_TOKENS = 50, 8000
RATE_SHAPE, RATE_HOLDS_S = 19.0, 10.0
WORDS = "the clerk of the house reads each sheet again and enters what it says in the book of that year ".split()


def prompt_of(number: int, chance: random.Random, *, tokens: bool) -> str:
    """A new prompt."""
    if not tokens:
        return sum_of(number).prompt
    wanted = math.exp(chance.gauss(PROMPT_LOG_MEAN, PROMPT_LOG_DEVIATION))
    wanted = min(max(wanted, SHORTEST_TOKENS), LONGEST_TOKENS)
    count = int(wanted * 4 / 4.9)
    return f"Sheet {number}: " + " ".join(chance.choices(WORDS, k=count))


async def through_aiorch(where: str) -> Callable[[str], Awaitable[None]]:
    """One client for the process."""
    import aiorch

    client = await aiorch.AsyncClient(where).__aenter__()

    async def ask(prompt: str) -> None:
        await client.complete(prompt)

    return ask


async def through_httpx2(where: str) -> Callable[[str], Awaitable[None]]:
    """What people write by hand."""
    import httpx2

    client = httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False)
    chance = random.Random(os.getpid())

    async def ask(prompt: str) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
        for attempt in range(7):
            answer = await client.post(f"{where}/chat/completions", json=body)
            if answer.status_code == 200:
                return
            if attempt == 6:
                raise RuntimeError(str(answer.status_code))
            await asyncio.sleep(min(20.0, 0.5 * 2**attempt) * chance.uniform(0.5, 1.0))

    return ask


async def through_openai(where: str) -> Callable[[str], Awaitable[None]]:
    """The SDK as it comes."""
    import openai

    client = openai.AsyncOpenAI(api_key=KEY, base_url=where)

    async def ask(prompt: str) -> None:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])

    return ask


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["aiorch", "httpx2", "openai"])
    parser.add_argument("where")
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("first", type=int)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--tokens", action="store_true")
    parser.add_argument("--inside", type=int, default=60)
    chosen = parser.parse_args()
    if chosen.uid is not None:
        import aiorch

        async with aiorch.AsyncClient(chosen.where) as client:
            await client.ping()  # another user may not be able to read the modules that this loads
        os.setgroups([])
        os.setgid(chosen.uid)
        os.setuid(chosen.uid)
    ways = {"aiorch": through_aiorch, "httpx2": through_httpx2, "openai": through_openai}
    ask = await ways[chosen.way](chosen.where)
    chance = random.Random(chosen.first)
    errors: collections.Counter[str] = collections.Counter()
    answers: list[tuple[float, float]] = []
    tasks: set[asyncio.Task[None]] = set()
    dropped = 0
    began = time.monotonic()

    async def one(number: int) -> None:
        asked_at = time.monotonic()
        try:
            await ask(prompt_of(number, chance, tokens=chosen.tokens))
        except Exception as error:
            errors[getattr(error, "code", None) or type(error).__name__] += 1
        else:
            answers.append((round(asked_at - began, 2), round(time.monotonic() - asked_at, 4)))

    print("ready", flush=True)
    due, rate, rate_until = began, chosen.rate, began
    number = chosen.first
    while due < began + chosen.seconds:
        if chosen.tokens and due >= rate_until:
            rate = chosen.rate * chance.gammavariate(RATE_SHAPE, 1 / RATE_SHAPE)
            rate_until = due + RATE_HOLDS_S
        due += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if len(tasks) >= chosen.inside:
            dropped += 1
            continue
        number += 1
        task = asyncio.create_task(one(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps({"answers": answers, "errors": errors, "dropped": dropped}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
