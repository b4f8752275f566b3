"""The prompt cache: its own rules by hand, and what each dialect tells and bills over real HTTP."""

import pytest

from aiorchsim.prompt_cache import KEPT_S, LONG_KEPT_S, NOTHING_CACHED, Cached, Mark, PromptCache, automatic_marks

LONG = "A stable beginning that every call shares, word for word. " * 100  # 5,800 characters, 1,450 tokens
PRICED = (
    "[[models]]\nlatency_s = 0\ninput_usd_per_1m = 10.0\noutput_usd_per_1m = 0.0\ncache_read_usd_per_1m = 1.0\n"
    "cache_write_usd_per_1m = 20.0\ncache_write_1h_usd_per_1m = 40.0\n"
)


def test_short_prompts_are_not_cached():
    assert automatic_marks("x" * 4092, 1023) == ()
    assert [mark.tokens for mark in automatic_marks("x" * 4096, 1024)] == [1024]
    assert [mark.tokens for mark in automatic_marks("x" * 5120, 1290)] == [1024, 1152, 1280]
    assert [mark.tokens for mark in automatic_marks("x" * 9000, 1100)] == [1024]


def test_a_beginning_is_found_for_its_lifetime_after_the_last_use():
    cache = PromptCache()
    first, second = automatic_marks("x" * 6000 + "a" * 600, 1650), automatic_marks("x" * 6000 + "b" * 600, 1650)
    assert cache.use("m", first, 0.0, 1.0) == NOTHING_CACHED
    assert cache.use("m", second, 0.5, 1.5).read == 0  # the first is not answered yet
    assert cache.use("m", second, 2.0, 2.0).read == 1536
    assert cache.use("n", second, 2.0, 2.0).read == 0
    assert cache.use("m", first, 2.0 + KEPT_S - 0.5, 400.0).read == 1408  # what they share was used at 2.0
    assert cache.use("m", second, 2.0 + 2 * KEPT_S - 2, 700.0).read == 1408
    assert cache.use("m", first, 3 * KEPT_S + 100, 1100.0).read == 0


def test_what_is_written_counts_where_it_has_a_price():
    cache = PromptCache()
    marks = [
        Mark(b"a", 1100, LONG_KEPT_S, billed=True),
        Mark(b"b", 1200, 0.0, billed=True),
        Mark(b"c", 1500, KEPT_S, billed=True),
    ]
    assert cache.use("m", marks, 0.0, 0.0) == Cached(0, 400, 1100)
    assert cache.use("m", marks, 1.0, 1.0) == Cached(1500, 0, 0)
    assert cache.use("m", marks, KEPT_S + 2, KEPT_S + 2) == Cached(1100, 400, 0)  # the longer one is still there
    assert cache.use("m", marks[:2], 10_000.0, 10_000.0) == Cached(0, 0, 1100)


def test_openai_caches_by_itself_and_tells_it_as_part_of_the_prompt(start, ask):
    simulator = start(PRICED)
    asker = ask(simulator)

    def usage(question):
        messages = [{"role": "system", "content": LONG}, {"role": "user", "content": question}]
        return asker.chat(messages=messages).json["usage"]

    first, second, third = usage("What is 1+1?"), usage("What is 2+2?"), usage("What is 2+2?")
    assert first["prompt_tokens"] == second["prompt_tokens"] == 1464
    told = [one["prompt_tokens_details"]["cached_tokens"] for one in (first, second, third)]
    assert told == [0, 1408, 1408]
    stats = simulator.stats()
    assert stats["tokens"]["cache_read"] == 2816
    assert stats["cost_usd"] == pytest.approx(((3 * 1464 - 2816) * 10 + 2816 * 1) / 1e6)
    simulator.reset()
    assert usage("What is 1+1?")["prompt_tokens_details"]["cached_tokens"] == 0


def test_gemini_likewise(start, ask):
    asker = ask(start(PRICED))

    def usage(question):
        body = {
            "systemInstruction": {"parts": [{"text": LONG}]},
            "contents": [{"role": "user", "parts": [{"text": question}]}],
        }
        return asker.request("POST", "/v1beta/models/m:generateContent", body).json["usageMetadata"]

    assert "cachedContentTokenCount" not in usage("What is 1+1?")
    second = usage("What is 2+2?")
    assert second["promptTokenCount"] == 1464
    assert second["cachedContentTokenCount"] == 1408


@pytest.mark.parametrize(("ttl", "price"), [(None, 20), ("1h", 40)])
def test_anthropic_caches_what_it_is_told_to_and_tells_it_apart(start, ask, ttl, price):
    simulator = start(PRICED)
    asker = ask(simulator)
    control = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})

    def usage(question, **more):
        body = {
            "model": "m",
            "max_tokens": 50,
            "system": [{"type": "text", "text": LONG, **more}],
            "messages": [{"role": "user", "content": question}],
        }
        told = asker.request("POST", "/v1/messages", body, {"anthropic-version": "2023-06-01"}).json["usage"]
        long, short = (told["cache_creation"][f"ephemeral_{one}_input_tokens"] for one in ("1h", "5m"))
        assert told["cache_creation_input_tokens"] == long + short
        assert not (long if ttl is None else short)
        return told["input_tokens"], told["cache_creation_input_tokens"], told["cache_read_input_tokens"]

    assert usage("What is 1+1?") == (1464, 0, 0)
    assert usage("What is 1+1?", cache_control=control) == (14, 1450, 0)
    assert usage("What is 2+2?", cache_control=control) == (14, 0, 1450)
    assert usage("What is 2+2?") == (1464, 0, 0)
    stats = simulator.stats()
    assert stats["tokens"]["prompt"] == 4 * 1464
    assert stats["cost_usd"] == pytest.approx(((2 * 1464 + 2 * 14) * 10 + 1450 * price + 1450 * 1) / 1e6)


def test_a_growing_conversation_reads_what_it_wrote_before(start, ask):
    asker = ask(start(PRICED))
    header = {"anthropic-version": "2023-06-01"}
    turns = [{"role": "user", "content": [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]}]

    def usage():
        body = {"model": "m", "max_tokens": 50, "messages": turns}
        told = asker.request("POST", "/v1/messages", body, header).json["usage"]
        return told["cache_creation_input_tokens"], told["cache_read_input_tokens"]

    assert usage() == (1450, 0)
    turns[0]["content"][0].pop("cache_control")
    turns.append({"role": "assistant", "content": "word " * 40})
    turns.append(
        {"role": "user", "content": [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]}
    )
    assert usage() == (150, 1450)
    assert usage() == (0, 1600)
