"""Layouts over several ranks, applied from outside to the plain model.

A rank keeps its shard of each weight as the layers' own shard axes say, and collectives are hooked in where
partial results must meet. Attention, dense MLP, shared expert, embedding and head are split over `tp`;
routed experts lie on all ranks, whole ones over `ep` and their width over `moe_tp`. Rank numbers run
through `tp` first, then `dp`.
"""

import torch
from torch import Tensor, nn

from model_graphs.graph import Shard
from model_graphs.layout import Dispatch, Layout
from model_graphs.sharding import local_heads
from reference_impl.decoder import Decoder
from reference_impl.layers import (
    AllGather,
    AllReduce,
    Collective,
    Embedding,
    ExpertCombine,
    ExpertDispatch,
    HeadsRMSNorm,
    Layer,
    Linear,
    QKVLinear,
    ReduceScatter,
)
from reference_impl.parts.attention import AttentionCore, GroupedAttention
from reference_impl.parts.feed_forward import MLP, Experts, MoE
from reference_impl.parts.latent_attention import MLA


class DispatchedExperts(nn.Module):
    """Routed experts behind an all-to-all: rows travel to the ranks that hold their experts, and back."""

    def __init__(self, experts: Experts, n_ranks: int) -> None:
        super().__init__()
        self.dispatch = ExpertDispatch("ep", n_ranks, experts.n_experts)
        self.experts = experts
        self.combine = ExpertCombine("ep", n_ranks)
        experts.first_expert, experts.n_experts = 0, experts.down_proj.shape[0]

    def forward(self, x_ND: Tensor, weights_NK: Tensor, indices_NK: Tensor) -> Tensor:
        """Weighted sum [N, D] over each token's experts, wherever they are."""
        x_RD, weights_R1, experts_R1, splits = self.dispatch(x_ND, weights_NK, indices_NK)
        return self.combine(self.experts(x_RD, weights_R1, experts_R1), indices_NK, splits)


def parallelize(model: Decoder, layout: Layout, rank: int = 0) -> None:
    """Turn the whole model into what a rank of the layout holds and runs."""
    for layer in [module for module in model.modules() if isinstance(module, Layer)]:
        _shard(layer, layout, rank)
    for module in list(model.modules()):
        if isinstance(module, MoE):
            _connect_experts(module, layout)
    if layout.tp > 1:
        for module in list(model.modules()):
            _meet(module, layout.tp)


def _shard(layer: Layer, layout: Layout, rank: int) -> None:
    """Replace the layer's weights by the rank's part of them."""
    tp, tp_rank = layout.tp, rank % layout.tp
    if isinstance(layer, Experts):
        _shard_experts(layer, layout, rank)
    elif isinstance(layer, Embedding):
        layer.weight = _part(layer.weight, 0, tp, tp_rank)
        layer.first_row = tp_rank * layer.weight.shape[0]
    elif isinstance(layer, QKVLinear):
        _shard_projection(layer, tp, tp_rank)
    elif isinstance(layer, Linear):
        _shard_linear(layer, tp, tp_rank)
    elif isinstance(layer, AttentionCore) and layer.sinks is not None:
        layer.sinks = _part(layer.sinks, 0, tp, tp_rank)
    elif isinstance(layer, HeadsRMSNorm):
        mine = _heads_of(layer.heads, tp, tp_rank)
        by_head = layer.weight.unflatten(0, (layer.heads, -1))
        layer.weight = nn.Parameter(by_head[mine.start : mine.stop].flatten(), requires_grad=False)
        layer.heads = len(mine)


def _shard_linear(layer: Linear, tp: int, tp_rank: int) -> None:
    """Rows or columns of the product; a bias joins a sum over ranks once."""
    if layer.shard is Shard.ROW:
        layer.weight = _part(layer.weight, 1, tp, tp_rank)
        if layer.bias is not None:
            layer.bias = _once(layer.bias, tp_rank)
    elif layer.shard in (Shard.COLUMN, Shard.VOCAB):
        layer.weight = _part(layer.weight, 0, tp, tp_rank, layer.parts)
        if layer.bias is not None:
            layer.bias = _part(layer.bias, 0, tp, tp_rank, layer.parts)


def _shard_projection(layer: QKVLinear, tp: int, tp_rank: int) -> None:
    """The rank's heads of queries, and its heads of keys and values or its copy of one."""
    queries = _heads_of(layer.heads, tp, tp_rank)
    keys = [layer.heads + head for head in _heads_of(layer.kv_heads, tp, tp_rank)]
    rows = [*queries, *keys, *(key + layer.kv_heads for key in keys)]
    for name in ("weight", "bias"):
        whole = getattr(layer, name)
        if whole is not None:
            by_head = whole.unflatten(0, (-1, layer.head_dim))
            setattr(layer, name, nn.Parameter(by_head[rows].flatten(0, 1), requires_grad=False))
    layer.heads, layer.kv_heads = len(queries), len(keys)


def _heads_of(heads: int, tp: int, tp_rank: int) -> range:
    """The rank's heads, or its copy of one."""
    mine = local_heads(heads, tp)
    first = tp_rank * mine if heads >= tp else tp_rank // (tp // heads)
    return range(first, first + mine)


def _shard_experts(experts: Experts, layout: Layout, rank: int) -> None:
    ep_rank, width_rank = divmod(rank, layout.moe_tp)
    cut = [("gate_up_proj", 1, 2), ("down_proj", 2, 1)]
    if experts.gate_up_bias is not None and experts.down_bias is not None:
        cut.append(("gate_up_bias", 1, 2))
        experts.down_bias = _once(_part(experts.down_bias, 0, layout.ep, ep_rank), width_rank)
    for name, axis, parts in cut:
        held = _part(getattr(experts, name), 0, layout.ep, ep_rank)
        setattr(experts, name, _part(held, axis, layout.moe_tp, width_rank, parts))
    experts.first_expert = ep_rank * experts.down_proj.shape[0]


def _once(bias: Tensor, rank: int) -> nn.Parameter:
    """The bias on the first rank and zeros on the others, because their results are summed."""
    return nn.Parameter(bias if rank == 0 else torch.zeros_like(bias), requires_grad=False)


def _part(weight: Tensor, axis: int, n_ranks: int, rank: int, parts: int = 1) -> nn.Parameter:
    """The rank's share along the axis of each of the equal matrices that the weight stacks there."""
    stacked = weight.unflatten(axis, (parts, n_ranks, -1))
    return nn.Parameter(stacked.select(axis + 1, rank).flatten(axis, axis + 1).clone(), requires_grad=False)


def _connect_experts(moe: MoE, layout: Layout) -> None:
    """What routed experts need beyond the sum over `tp`: the tokens of the other attention ranks."""
    if layout.dp == 1:
        return
    if layout.dispatch is Dispatch.ALL_TO_ALL:
        moe.routed.experts = DispatchedExperts(moe.routed.experts, layout.ep)
        return
    gather = AllGather("dp", layout.dp, axis=0)
    moe.routed.add_module("all_gather", gather)
    moe.routed.register_forward_pre_hook(lambda module, inputs: (gather(inputs[0]),))
    _after(moe.routed, "reduce_scatter", ReduceScatter("dp", layout.dp))


def _meet(module: nn.Module, tp: int) -> None:
    """Sums over `tp` after what leaves partial results, and the vocabulary's parts side by side.

    A mixture sums its routed and its shared part in one.
    """
    if isinstance(module, GroupedAttention | MLA):
        _after(module.o_proj, "all_reduce", AllReduce("tp", tp))
    elif isinstance(module, MLP) and module.down_proj.component != "shared_expert":
        _after(module.down_proj, "all_reduce", AllReduce("tp", tp))
    elif isinstance(module, MoE):
        last = module.routed if module.add_shared is None else module.add_shared
        _after(last, "all_reduce", AllReduce("tp", tp))
    elif isinstance(module, Embedding):
        _after(module, "all_reduce", AllReduce("tp", tp))
    elif isinstance(module, Linear) and module.shard is Shard.VOCAB:
        _after(module, "all_gather", AllGather("tp", tp, axis=-1))


def _after(module: nn.Module, name: str, collective: Collective) -> None:
    """Run the collective on the module's output, as a part of the module."""
    module.add_module(name, collective)
    module.register_forward_hook(lambda _, inputs, output: collective(output))
