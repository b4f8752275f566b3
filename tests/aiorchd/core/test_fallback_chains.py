"""Fallback chains: nobody is asked twice, nobody is asked who is not there, and the candidates are all who may answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.fallback_chains import FallbackChains, Fallbacks

NAMES = ("a", "b", "c", "d", "off")
CHAIN = st.lists(st.sampled_from(NAMES), max_size=4, unique=True).map(tuple)
LISTS = st.builds(Fallbacks, st.none() | CHAIN, st.none() | CHAIN, st.none() | CHAIN)
CHAINS = st.builds(
    FallbackChains,
    st.just(NAMES[:4]),
    LISTS,
    st.dictionaries(st.sampled_from(NAMES), LISTS),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([1000, 2000, 4000])),
)
CODES = st.lists(st.sampled_from(["provider_error", "context_exceeded", "content_filtered"]), min_size=8, max_size=8)


@given(CHAINS, st.sampled_from(NAMES), CODES)
def test_whatever_goes_wrong_who_is_asked_is_a_candidate_and_is_asked_once(chains, first, codes):
    candidates = chains.candidates(first)
    remaining, asked = chains.usual(first), []
    assert set(remaining) <= set(candidates)
    while remaining:
        name, remaining = remaining[0], remaining[1:]
        assert name in candidates
        assert name in chains.enabled
        assert name not in asked
        asked.append(name)
        kind, remaining = chains.after(name, codes[len(asked)], remaining, asked)
        assert (kind == "failure") == (codes[len(asked)] == "provider_error")


def test_a_model_that_is_off_hands_on_to_its_own_fallbacks():
    chains = FallbackChains(("a", "b"), Fallbacks(("a",)), {"off": Fallbacks(("b",))})
    assert chains.usual("off") == chains.candidates("off") == ("b",)
    assert chains.usual("b") == ("b", "a")
    assert chains.usual(None) == ("a",)
