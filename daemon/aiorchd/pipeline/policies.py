"""Who may answer a question, as the cache key has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from aiorchd.calls.host_model import HOST
from aiorchd.calls.target import Target
from aiorchd.core.fallback_chains import FallbackChains
from aiorchd.core.request_key import PolicyForm, policy_form, relevant

Candidate: TypeAlias = tuple[str, str] | tuple[str, str, Mapping[str, Any]]


def candidate_of(target: Target) -> Candidate:
    """What makes the answers of a target its own. What its configuration adds to each request counts like what a caller
    adds; the edit of a running daemon's file must not give anybody the answers from before.
    """
    extra = relevant({"extra": target.extra}).get("extra")
    if not extra:
        return target.address, target.provider_model
    return target.address, target.provider_model, extra


class Policies:
    """What was asked for, as the cache key has it: a model by name or none, and every candidate that may answer."""

    def __init__(self, targets: tuple[Target, ...], chains: FallbackChains) -> None:
        self.targets = targets
        self._by_name = {target.name: target for target in targets}
        self._chains = chains
        self._of_allowed: dict[tuple[str | None, tuple[str, ...]], PolicyForm] = {}
        """Bounded by the configuration: operations refuse models that they do not allow."""
        self._forms: dict[str | None, PolicyForm] = {
            name: self._form(name) for name in (None, *self._by_name, *chains.own)
        }
        self.usual_form: Callable[[str | None], PolicyForm | None] = {
            name: self._forms[name] for name in (None, *self._by_name)
        }.get
        """Gives the form for no model or one of the targets, where no operation says who may answer; else None."""
        self._host_may: dict[str | None, bool] = {
            name: self._any_of_host(self._candidates_for(name)) for name in self._forms
        }

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def candidates(self, names: Iterable[str]) -> list[Candidate]:
        """Give what makes the answers of some targets their own."""
        return [candidate_of(self._by_name[name]) for name in names]

    def form(self, asked: str | None, allowed: tuple[str, ...] = ()) -> PolicyForm:
        """Give the form for a model asked for by name, or None. An unknown one has no candidates; Route will refuse it.

        ``allowed`` are those that may answer, in order, where an operation says so.
        """
        if allowed:
            form = self._of_allowed.get((asked, allowed))
            if form is None:
                names = allowed if asked is None else tuple(dict.fromkeys((asked, *allowed)))
                there = self.candidates(name for name in names if name in self._by_name)
                form = self._of_allowed[asked, allowed] = policy_form(asked, there)
            return form
        known = self._forms.get(asked)
        return known if known is not None else policy_form(asked, ())

    def may_ask_host(self, asked: str | None, allowed: tuple[str, ...]) -> bool:
        """Tell whether a process of the caller's user may come to answer."""
        if allowed:
            return self._any_of_host((*allowed, asked))
        known = self._host_may.get(asked)
        return known if known is not None else self._any_of_host(self._candidates_for(asked))

    def _any_of_host(self, names: Iterable[str | None]) -> bool:
        return any(name in self._by_name and self._by_name[name].dialect == HOST for name in names if name is not None)

    def _form(self, asked: str | None) -> PolicyForm:
        return policy_form(asked, self.candidates(self._candidates_for(asked)))

    def _candidates_for(self, asked: str | None) -> tuple[str, ...]:
        first = asked if asked is not None else next(iter(self._by_name), None)
        return () if first is None else self._chains.candidates(first)
