"""The simulator reads the batches that the daemon writes: what it answers about an item is about that item's own prompt."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.core.batch_form import common_parts, new_ids, system_text, user_text
from aiorchsim.textwork.together import read_together

SYSTEM = "You sort tickets.\n\nUse no other words."


def read_again(prompts: list[str], *, structured: bool) -> list[str]:
    common = common_parts(prompts)
    ids = new_ids(len(prompts), [common.head, common.tail, *common.texts], random.Random(1).choice)
    found = read_together(system_text(SYSTEM, structured=structured), user_text(common, ids))
    assert found is not None
    assert found.system == SYSTEM
    assert [identity for identity, _ in found.items] == list(ids)
    assert found.strings is not structured
    return [found.alone(text) for _, text in found.items]


@pytest.mark.parametrize("structured", [True, False])
def test_with_a_beginning_and_an_end_in_common_or_none(structured: bool) -> None:
    for head, tail in itertools.product(
        ("", "Sort this:\n", "Sort this: ", "Sort\tthis:\t"), ("", " please", "\nNow.", "\n\n")
    ):
        prompts = [
            f"{head}{text}{tail}" for text in ("my lamp is late", 'the "bill" {of} 7', "[text] was lost\n\ntwice")
        ]
        assert read_again(prompts, structured=structured) == prompts


WORDS = st.lists(
    st.sampled_from(["my", "lamp", "order", "7", "is", '"late"', "[text]", "{", "}", "\n", "twice,"]), min_size=1
)


@settings(deadline=None)
@given(st.lists(WORDS.map(" ".join), min_size=2, max_size=5))
def test_any_texts(texts: list[str]) -> None:
    prompts = [f"Sort this ticket:\n{text}" for text in texts]
    for prompt, again in zip(prompts, read_again(prompts, structured=True), strict=True):
        assert again.split() == prompt.split()
