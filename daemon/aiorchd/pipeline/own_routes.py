"""The models that processes of the host answer for: each user's own, with routers of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from aiorchd.calls.call import Attempt, Call
from aiorchd.calls.host_model import HOST, HostModel
from aiorchd.calls.ports import (
    Service,
)
from aiorchd.calls.question import Question
from aiorchd.calls.target import Target
from aiorchd.core.fallback_chains import FallbackChains, Fallbacks
from aiorchd.core.request_key import PolicyForm, policy_form
from aiorchd.pipeline.lasting import MOST_OWN, Lasting, OwnPlace, OwnTarget
from aiorchd.pipeline.plan import Plan
from aiorchd.pipeline.policies import Candidate, Policies
from aiorchd.pipeline.settings import context_of, price_of
from aiorchd.stages.route import Route


class OwnRoutes:
    """Routers for the models that processes of the host answer for, made when they are first asked."""

    def __init__(
        self,
        plan: Plan,
        lasting: Lasting,
        policies: Policies,
        stacks: Mapping[str, Service[Attempt]],
        chains: FallbackChains,
        own_stack: Callable[[OwnTarget], Service[Attempt]],
    ) -> None:
        self._plan = plan
        self._lasting = lasting
        self._policies = policies
        self._stacks = stacks
        self._chains = chains
        self._own_stack = own_stack
        self._configured = {model.name: model for model in plan.config.models}
        self._routes: dict[OwnPlace, tuple[OwnTarget, HostModel, Route]] = {}
        self._forms: dict[tuple[HostModel, bool], PolicyForm] = {}

    @property
    def usual_name(self) -> str:
        """What the model is called of a call that names none and brings its own function."""
        return next((target.name for target in self._policies.targets), HOST)

    def dialect_of(self, name: str) -> str | None:
        """Give the dialect that a configured model is asked in; None when there is no such model."""
        model = self._configured.get(name)
        return None if model is None else self._plan.config.providers[model.provider].dialect

    def find(self, call: Call) -> Service[Call] | None:
        """Find the router of a call's model; None when no process of the host has to do with it."""
        if not call.by_host and (call.model is None or call.model in self._configured):
            return None  # as most
        model = self._model(call.caller.uid, call.model, offered=call.by_host)
        if model is None or self._plan.host is None:
            return None
        place = (call.caller.uid, model.name, call.by_host)
        own = self._lasting.own_target(place, self._plan.config, model)
        known = self._routes.get(place)
        if known is not None and known[0] is own and known[1] == model:
            return known[2]
        if len(self._routes) >= MOST_OWN:
            self._routes.clear()  # those in use are held by their calls
        target = self._target(model, offered=call.by_host)
        others = [each for each in self._policies.targets if each.name != target.name]
        route = Route(
            {**self._stacks, target.name: self._own_stack(own)},
            [target, *others],
            chains=self._chains_of(model),
            max_attempts=self._plan.config.retry.max_attempts,
            estimator=own.estimator,
        )
        self._routes[place] = own, model, route
        return route

    def form(self, uid: int, question: Question) -> PolicyForm | None:
        """Give the policy under which answers for such a model are kept; None when no process has to do with it."""
        offered = question.host is not None
        model = self._model(uid, question.model, offered=offered)
        if model is None:
            return None
        form = self._forms.get((model, offered))
        if form is None:
            if len(self._forms) >= MOST_OWN:
                self._forms.clear()
            following = [name for name in self._chains_of(model).candidates(model.name) if name != model.name]
            own: Candidate = (_address(model, offered=offered), model.name)
            form = policy_form(model.name, [own, *self._policies.candidates(following)])
            self._forms[model, offered] = form
        return form

    def _model(self, uid: int, name: str | None, *, offered: bool) -> HostModel | None:
        if name is None:
            return None
        configured = self._configured.get(name)
        if not offered:  # what is configured is never shadowed
            return self._lasting.host_models.find(uid, name) if configured is None else None
        if configured is None:
            return HostModel(name=name, fallback=())
        # The function reaches the model of that name in another way; it costs and takes the same.
        return HostModel(
            name=name,
            price=price_of(configured, self._plan.listed),
            context_tokens=context_of(configured, self._plan.listed),
            max_output_tokens=configured.max_output_tokens,
            fallback=(),
        )

    def _chains_of(self, model: HostModel) -> FallbackChains:
        chains, name, following = self._chains, model.name, model.fallback
        return replace(
            chains,
            enabled=(name, *(other for other in chains.enabled if other != name)),
            own={**chains.own, name: Fallbacks(following, following, following)},
        )

    def _target(self, model: HostModel, *, offered: bool) -> Target:
        return Target(
            name=model.name,
            provider=HOST,
            dialect=HOST,
            provider_model=model.name,
            address=_address(model, offered=offered),
            price=model.price,
            context_tokens=model.context_tokens,
            max_output_tokens=model.max_output_tokens,
        )


def _address(model: HostModel, *, offered: bool) -> str:
    """Tell functions apart, as far as their owners do: a registered one by its version, one that comes with a call not."""
    return f"{HOST} call" if offered else f"{HOST} {model.version}"
