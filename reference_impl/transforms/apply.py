"""A plan applied to a plain model from outside: products are replaced, nothing inside the model branches."""

from torch import nn

from model_graphs.transforms import Plan
from reference_impl.blocks import place
from reference_impl.deepseek_v3.feed_forward import Experts
from reference_impl.layers import Layer, Linear
from reference_impl.transforms.layers import PackedExperts, PackedLinear

#: a layer that a plan may change -> its kind of operator
_KINDS: dict[type[Layer], str] = {Linear: "linear", Experts: "moe_experts"}


def transform(model: nn.Module, plan: Plan) -> None:
    """Replace the products that the plan's rules choose; collectives that follow them stay.

    Routed experts behind an all-to-all are not supported: their rows travel before they are quantised here.
    """
    products = [(path, module) for path, module in model.named_modules() if type(module) in _KINDS]
    for path, module in products:
        _, name = place(model, path)
        rule = plan.rule_for(_KINDS[type(module)], module.component, name)
        if rule is None:
            continue
        packed = PackedLinear(module, rule) if isinstance(module, Linear) else PackedExperts(module, rule)
        _move_what_follows(module, packed)
        parent, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(parent), attribute, packed)


def _move_what_follows(plain: nn.Module, packed: nn.Module) -> None:
    """The collectives that a layout hooked to the plain layer."""
    for name, child in plain.named_children():
        packed.add_module(name, child)
    packed._forward_hooks.update(plain._forward_hooks)
