"""A plan applied to a plain model from outside: products are replaced, nothing inside the model branches."""

from torch import nn

from hardware_specs.records.errors import InputError, Problem
from model_graphs.transforms import Plan, Rule
from reference_impl.layers import Layer, Linear, QKVLinear
from reference_impl.parts.feed_forward import Experts
from reference_impl.parts.latent_attention import LatentAttention, NaiveAttention
from reference_impl.tracing import place
from reference_impl.transforms.casts import CastExperts, CastLinear
from reference_impl.transforms.layers import (
    PackedExperts,
    PackedLayer,
    PackedLinear,
    PackedQKV,
    SummedLatentAttention,
    SummedNaiveAttention,
)


def transform(model: nn.Module, plan: Plan) -> None:
    """Replace the products that the plan's rules choose, and latent attention where its sums are changed.

    Collectives that follow a product stay. Routed experts behind an all-to-all are not supported: their rows
    travel before they are quantised here.
    """
    for path, module in list(model.named_modules()):
        changed = _changed(model, path, module, plan)
        if changed is not None:
            _move_what_follows(module, changed)
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, changed)


def _changed(model: nn.Module, path: str, plain: nn.Module, plan: Plan) -> Layer | None:
    """What takes the place of a layer; None where it stays."""
    if plan.autocast:
        return _cast(plain)
    if isinstance(plain, Linear | Experts):
        kind = "linear" if isinstance(plain, Linear) else "moe_experts"
        rule = plan.rule_for(kind, plain.component, place(model, path)[1])
        return None if rule is None else _packed(plain, rule)
    if plan.attention_sums != "fp32":
        if isinstance(plain, NaiveAttention):
            return SummedNaiveAttention(plain, plan.attention_sums)
        if isinstance(plain, LatentAttention):
            return SummedLatentAttention(plain, plan.attention_sums)
    return None


def _cast(plain: nn.Module) -> Layer | None:
    if isinstance(plain, QKVLinear) or (isinstance(plain, Experts) and plain.gate_up_bias is not None):
        requirement = "autocast is described for latent attention and experts without biases"
        raise InputError(Problem(requirement, type(plain).__name__))
    if isinstance(plain, Linear):
        return CastLinear(plain)
    return CastExperts(plain) if isinstance(plain, Experts) else None


def _packed(plain: Layer, rule: Rule) -> PackedLayer:
    if isinstance(plain, Experts):
        return PackedExperts(plain, rule)
    if isinstance(plain, QKVLinear):
        return PackedQKV(plain, rule)
    assert isinstance(plain, Linear)
    return PackedLinear(plain, rule)


def _move_what_follows(plain: nn.Module, changed: nn.Module) -> None:
    """The block of the graph that the plain layer is, and the collectives that a layout hooked to it."""
    if hasattr(plain, "block"):
        changed.block = plain.block
    for name, child in plain.named_children():
        changed.add_module(name, child)
    changed._forward_hooks.update(plain._forward_hooks)
