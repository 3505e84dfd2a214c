"""A plan applied to a plain model from outside: products are replaced, nothing inside the model branches."""

from torch import nn

from model_graphs.transforms import Plan, Rule
from reference_impl.blocks import place
from reference_impl.layers import Layer, Linear, QKVLinear
from reference_impl.parts.feed_forward import Experts
from reference_impl.transforms.layers import PackedExperts, PackedLayer, PackedLinear, PackedQKV


def transform(model: nn.Module, plan: Plan) -> None:
    """Replace the products that the plan's rules choose; collectives that follow them stay.

    Routed experts behind an all-to-all are not supported: their rows travel before they are quantised here.
    """
    products = [
        (path, module) for path, module in model.named_modules() if isinstance(module, Linear | Experts)
    ]
    for path, module in products:
        _, name = place(model, path)
        kind = "linear" if isinstance(module, Linear) else "moe_experts"
        rule = plan.rule_for(kind, module.component, name)
        if rule is None:
            continue
        packed = _packed(module, rule)
        _move_what_follows(module, packed)
        parent, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(parent), attribute, packed)


def _packed(plain: Layer, rule: Rule) -> PackedLayer:
    if isinstance(plain, Experts):
        return PackedExperts(plain, rule)
    if isinstance(plain, QKVLinear):
        return PackedQKV(plain, rule)
    assert isinstance(plain, Linear)
    return PackedLinear(plain, rule)


def _move_what_follows(plain: nn.Module, packed: nn.Module) -> None:
    """The collectives that a layout hooked to the plain layer."""
    for name, child in plain.named_children():
        packed.add_module(name, child)
    packed._forward_hooks.update(plain._forward_hooks)
