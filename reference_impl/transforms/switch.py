"""A model under several plans, of which one is active at a time; caches carry over a switch."""

from copy import deepcopy
from typing import Any

from torch import nn

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.transforms import Plan
from reference_impl.transforms.apply import transform


class Switched(nn.Module):
    """The plain model's forms under each plan, side by side; what no plan changes is held once."""

    def __init__(self, model: nn.Module, *plans: Plan) -> None:
        super().__init__()
        self.forms = nn.ModuleDict({plan.name: _form(model, plan) for plan in plans})
        self.active = plans[0].name

    def switch(self, name: str) -> None:
        """Let the form of this plan run from now on.

        Raises:
            InputError: the model is held under no such plan.
        """
        if name not in self.forms:
            requirement = f"plan must be one of {', '.join(self.forms)}"
            raise InputError(Problem(requirement, name, suggestion=nearest(name, self.forms)))
        self.active = name

    def forward(self, *args: Any) -> Any:
        """What the active form returns."""
        return self.forms[self.active](*args)


def _form(model: nn.Module, plan: Plan) -> nn.Module:
    """The model under a plan; weights that stay are those of the plain model."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    form = deepcopy(model, shared)
    transform(form, plan)
    return form
