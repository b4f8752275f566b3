"""One text, one task, one answer in words.

`solve` is the whole of what a simulated model knows. Its answer depends on the task, the text and whether it is to be
right: on nothing else, so that a text asked alone and the same text asked among others get the same answer.
"""

from collections import Counter

from aiorchsim.textwork.arithmetic import NoExpression, evaluate, find_expression, written
from aiorchsim.textwork.tasks import Kind, Task
from aiorchsim.textwork.words import clip, content_words, pick, sentences, words

TAG_OF_NOTHING = "untitled"
WRONG_TAG = "miscellaneous"
LONGEST_ECHO = 160
LONGEST_SENTENCE = 300


def solve(task: Task, text: str, *, right: bool) -> str:
    """Answer in words. A wrong answer is of the right form, and differs from the right one."""
    match task.kind:
        case Kind.TAGS:
            return ", ".join(tags(text, task.count, right=right))
        case Kind.SUMMARY:
            return summary(text, task.count, right=right)
        case Kind.LABEL:
            return ", ".join(classify(text, task.labels, task.count, right=right))
        case Kind.OPEN:
            return _open_answer(text, right=right)


def tags(text: str, count: int, *, right: bool) -> list[str]:
    """The most frequent words that carry meaning, the earlier first among equals; at least one, at most `count`."""
    ranked = [word for word, _ in Counter(content_words(text)).most_common()] or [TAG_OF_NOTHING]
    best = ranked[:count]
    if right:
        return best
    worst = ranked[: -count - 1 : -1]
    return worst if set(worst) != set(best) else [WRONG_TAG if best[0] != WRONG_TAG else TAG_OF_NOTHING, *best[1:]]


def summary(text: str, count: int, *, right: bool) -> str:
    """The `count` sentences with the most of the text's frequent words, in the text's order."""
    found = sentences(text)
    if not found:
        return "There is nothing to summarise." if right else "This is a long and detailed text."
    weight = Counter(content_words(text))

    def score(position: int) -> float:
        inside = content_words(found[position])
        return sum(weight[word] for word in inside) / (len(inside) + 3) if inside else 0.0

    by_score = sorted(range(len(found)), key=lambda position: (-score(position), position))
    chosen = sorted(by_score[:count])
    if not right:
        others = sorted(by_score[: -count - 1 : -1])
        if others == chosen:
            return "In short: " + clip(found[chosen[-1]], LONGEST_ECHO)[::-1]
        chosen = others
    return " ".join([clip(found[position], LONGEST_SENTENCE) for position in chosen])


def classify(text: str, labels: tuple[str, ...], count: int, *, right: bool) -> list[str]:
    """The labels that share most with the text: whole words count most, then common beginnings; chance by text
    decides ties.
    """
    present = Counter(words(text))
    stems = Counter(word[:5] for word in present.elements() if len(word) >= 5)

    def score(label: str) -> float:
        parts = words(label) or [label.lower()]
        return sum(present[part] + 0.5 * stems[part[:5]] * (len(part) >= 5) for part in parts) / len(parts)

    first = pick(len(labels), "label", text)
    turned = labels[first:] + labels[:first]
    ranked = sorted(turned, key=lambda label: -score(label))
    if right or len(labels) == 1:
        return ranked[:count]
    return ranked[1 : count + 1] if len(ranked) > count else ranked[::-1][:count]


def _open_answer(text: str, *, right: bool) -> str:
    expression = find_expression(text)
    if expression is not None:
        try:
            value = evaluate(expression)
        except ZeroDivisionError:
            return "undefined" if right else "0"
        except NoExpression:
            pass
        else:
            return written(value) if right else _another_number(value)
    return _echo(text, right=right)


def _another_number(value: float) -> str:
    shifted = value + 1 + pick(9, "sum", value)
    return written(shifted if shifted != value else value / 2)


def _echo(text: str, *, right: bool) -> str:
    """Say what the text is about in words of its own: the word it says most often, and its question or
    first sentence with that word."""
    found = sentences(text)
    if not found:
        return "There is no question." if right else "The answer is no."
    topic = tags(text, 1, right=right)[0]
    telling = next((sentence for sentence in found if sentence.endswith("?")), None)
    if telling is None:
        telling = next((sentence for sentence in found if topic in sentence.lower()), found[0])
    return f"About {topic}: {clip(telling, LONGEST_ECHO)}"
