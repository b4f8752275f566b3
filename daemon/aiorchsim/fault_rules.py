"""Rules by which calls suffer faults: of which model, with which key, how often, and when.

Each rule decides by itself, in the order written; the first that applies is suffered. Rules come from the profile
(`[[faults]]`, and the shorthand `fault` of a model) and, while the simulator runs, from `POST /sim/faults`. Pure: the
time and chance are handed in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final

from aiorchsim.faults import FAULTS, Suffered, suffered
from aiorchsim.keys import REQUIRED, read_record
from aiorchsim.keys import key as declared

MOST_RULES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """One rule; every condition that it names has to hold."""

    fault: str = declared(REQUIRED, "what happens, by name", kind=str, choices=tuple(FAULTS))
    model: str | None = declared(None, "only calls of the model of this name; of all when absent", kind=str)
    key: str | None = declared(None, "only calls with this API key; with any and none when absent", kind=str)
    rate: float = declared(1.0, "share of calls that suffer, by chance", least=0, most=1)
    every: int | None = declared(None, "only each n-th call", kind=int, above=0)
    first: int | None = declared(None, "only so many calls, the first; all when absent", kind=int, least=0)
    after_s: float = declared(0.0, "seconds from when the rule came until it begins to act", least=0, most=1e6)
    for_s: float | None = declared(None, "seconds that it acts; without end when absent", least=0, most=1e6)
    seconds: float | None = declared(
        None, "the fault's own seconds: how long it pauses, or what it says in retry-after", least=0, most=86_400
    )


class LiveRule:
    """A rule and what it has seen."""

    __slots__ = ("_began", "_left", "_seen", "rule")

    def __init__(self, rule: FaultRule, now: float) -> None:
        self.rule = rule
        self._began = now + rule.after_s
        self._left = rule.first
        self._seen = 0

    def applies(self, names: tuple[str, str], api_key: str, now: float, random: Random) -> bool:
        """Whether a call suffers. `names`: the model as asked for, and as the profile calls what answers."""
        rule = self.rule
        if (
            now < self._began
            or (rule.for_s is not None and now >= self._began + rule.for_s)
            or (rule.model is not None and rule.model not in names)
            or (rule.key is not None and rule.key != api_key)
            or self._left == 0
        ):
            return False
        self._seen += 1
        if rule.every is not None and self._seen % rule.every:
            return False
        if rule.rate < 1.0 and random.random() >= rule.rate:
            return False
        if self._left is not None:
            self._left -= 1
        return True


class FaultRules:
    """The rules in force."""

    def __init__(self, rules: Sequence[FaultRule], now: float) -> None:
        self._rules: list[LiveRule] = []
        self.replace(rules, now)

    def replace(self, rules: Sequence[FaultRule], now: float) -> None:
        """Put these in force in place of all others; their time begins now."""
        self._rules = [LiveRule(rule, now) for rule in rules]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def suffered(self, names: tuple[str, str], api_key: str, now: float, random: Random) -> Suffered | None:
        """The fault that a call suffers, if any."""
        for live in self._rules:
            if live.applies(names, api_key, now, random):
                return suffered(FAULTS[live.rule.fault], live.rule.seconds)
        return None

    def told(self) -> list[dict[str, Any]]:
        """The rules in force as a request would write them."""
        return [{name: value for name, value in asdict(live.rule).items() if value is not None} for live in self._rules]


def read_rules(document: Any, where: str, problems: list[str]) -> tuple[FaultRule, ...]:
    """Rules from decoded TOML or JSON; what is wrong is added to `problems`."""
    if not (isinstance(document, list) and all(isinstance(entry, Mapping) for entry in document)):
        problems.append(f'{where}: must be a list of rules, such as {{fault = "error_503", for_s = 60}}')
        return ()
    if len(document) > MOST_RULES:
        problems.append(f"{where}: more than {MOST_RULES} rules")
        return ()
    return tuple(read_record(FaultRule, entry, f"{where}[{index}]", problems) for index, entry in enumerate(document))
