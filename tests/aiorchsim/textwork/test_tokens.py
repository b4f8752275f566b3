"""The documented rule of counting tokens."""

from aiorchsim.textwork import prompt_tokens, text_tokens


def test_four_characters_are_a_token():
    assert [text_tokens("x" * length) for length in (0, 1, 4, 5, 400)] == [0, 1, 1, 2, 100]


def test_prompts_have_overheads():
    assert prompt_tokens([{"role": "user", "content": "x" * 40}]) == 3 + 4 + 10
    assert (
        prompt_tokens([{"role": "system", "content": "abcd"}, {"role": "assistant", "content": None}]) == 3 + 4 + 1 + 4
    )
    parts = [{"type": "text", "text": "abcdefgh"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert prompt_tokens([{"role": "user", "content": parts}]) == 3 + 4 + 2 + 85
    tool = {"type": "function"}
    assert prompt_tokens([{"role": "user", "content": ""}], [tool]) == 3 + 4 + text_tokens('[{"type":"function"}]')
    called = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    assert prompt_tokens(called) == 3 + 4 + text_tokens('[{"id":"1"}]')
