"""Layouts: how many ranks share attention, experts and tokens, and the graph that one of them runs.

A replica has `tp * dp` ranks. Attention, dense MLPs and shared experts are tensor parallel over `tp`,
sequences are data parallel over `dp`, and the routed experts lie on all ranks: whole experts over `ep`, their
intermediate width over `moe_tp`. `apply_layout` rewrites an emitted graph by nothing but the shard axes,
kinds and components that emission recorded; tests hold it equal to exports of the reference implementation
under real layouts. Under `dp`, the symbol B counts the sequences of one attention rank.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from hardware_specs.records.errors import InputError, Problem
from model_graphs.blueprint import Blueprint
from model_graphs.collectives import (
    all_gather,
    all_reduce,
    ep_combine,
    ep_dispatch,
    on_received_rows,
    reduce_scatter,
)
from model_graphs.graph import Block, Operator, OperatorGraph, Shard
from model_graphs.rewriting import BlockRewriter
from model_graphs.sharding import divided_experts, divided_operator, with_more_tokens


class Dispatch(StrEnum):
    """How tokens reach the ranks of their experts."""

    ALL_REDUCE = "allreduce"  # every rank has every token; partial outputs are summed
    ALL_GATHER = "allgather"  # tokens of all attention ranks are gathered, outputs summed and scattered
    ALL_TO_ALL = "alltoall"  # each token is sent to the ranks that hold its experts


@dataclass(frozen=True)
class Layout:
    """Widths of one replica. Build it with `of`, which checks them against the model."""

    tp: int = 1
    dp: int = 1
    ep: int = 1
    moe_tp: int = 1
    dispatch: Dispatch = Dispatch.ALL_REDUCE
    pp: int = 1

    @property
    def n_ranks(self) -> int:
        """Devices of one replica."""
        return self.tp * self.dp * self.pp

    @property
    def gathers_tokens(self) -> bool:
        """Whether routed experts see the tokens of all attention ranks, gathered."""
        return self.dispatch is Dispatch.ALL_GATHER and self.dp > 1

    @property
    def sends_rows(self) -> bool:
        """Whether tokens travel to the ranks of their experts; R rows arrive."""
        return self.dispatch is Dispatch.ALL_TO_ALL and self.dp > 1

    @classmethod
    def of(
        cls,
        blueprint: Blueprint,
        *,
        gpus: int,
        tp: int = 1,
        dp: int = 1,
        ep: int = 1,
        pp: int = 1,
        dispatch: Dispatch | None = None,
    ) -> "Layout":
        """The layout of a replica; experts that `ep` does not spread are tensor parallel.

        Without `dispatch`, tokens are gathered where attention is data parallel, and outputs all-reduced
        where it is not.

        Raises:
            InputError: with every width that does not divide what it must.
        """
        chosen = dispatch or (Dispatch.ALL_GATHER if dp > 1 else Dispatch.ALL_REDUCE)
        problems = list(_positive(gpus=gpus, tp=tp, dp=dp, ep=ep, pp=pp))
        problems = problems or [
            *_width_problems(blueprint, gpus, tp, dp, ep, pp),
            *_dispatch_problems(chosen, tp, dp, ep),
        ]
        if problems:
            raise InputError(*problems)
        return cls(tp, dp, ep, tp * dp // ep, chosen, pp)


def _positive(**widths: int) -> Iterator[Problem]:
    for name, width in widths.items():
        if width < 1:
            yield Problem("must be at least 1", str(width), path=f"deployment.{name}")


def _width_problems(blueprint: Blueprint, gpus: int, tp: int, dp: int, ep: int, pp: int) -> Iterator[Problem]:
    if pp > 1:
        yield Problem("must be 1: pipeline stages are not modelled", str(pp), path="deployment.pp")
    ranks = tp * dp * pp
    if gpus % ranks:
        requirement = f"must be a multiple of the {ranks} devices of a replica (tp {tp} x dp {dp} x pp {pp})"
        yield Problem(requirement, str(gpus), path="deployment.gpus")
    yield from _divides("tp", tp, blueprint.tensor_parallel_widths())
    yield from _key_value_problems(blueprint, tp)
    if not blueprint.n_experts:
        yield from _dense_problems(dp, ep)
        return
    yield from _divides("ep", ep, {"n_routed_experts": blueprint.n_experts, "tp x dp": tp * dp})
    if not tp * dp % ep:
        yield from _divides("ep", tp * dp // ep, blueprint.expert_widths(), "tp x dp / ep")


def _key_value_problems(blueprint: Blueprint, tp: int) -> Iterator[Problem]:
    for heads in sorted(blueprint.kv_head_counts()):
        if heads % tp and tp % heads:
            requirement = f"tp must divide num_key_value_heads {heads} or be a multiple of them"
            yield Problem(requirement, str(tp), path="deployment.tp")


def _dense_problems(dp: int, ep: int) -> Iterator[Problem]:
    """A dense model has nothing that attention ranks or expert ranks could share."""
    if dp > 1:
        yield Problem("must be 1 for a model without experts; use replicas", str(dp), path="deployment.dp")
    if ep > 1:
        yield Problem("must be 1 for a model without experts", str(ep), path="deployment.ep")


def _divides(field: str, width: int, wholes: Mapping[str, int], what: str = "") -> Iterator[Problem]:
    missed = [f"{name} {whole}" for name, whole in wholes.items() if whole % width]
    if missed:
        below = max(n for n in range(1, width + 1) if not any(whole % n for whole in wholes.values()))
        requirement = f"{what or field} must divide {' and '.join(missed)}"
        yield Problem(requirement, str(width), path=f"deployment.{field}", suggestion=str(below))


def _dispatch_problems(dispatch: Dispatch, tp: int, dp: int, ep: int) -> Iterator[Problem]:
    if dispatch is Dispatch.ALL_REDUCE and dp > 1:
        yield Problem("allreduce needs one attention rank (dp 1)", f"dp {dp}", path="deployment.dp")
    if dispatch is Dispatch.ALL_TO_ALL and (tp > 1 or ep != dp):
        given = f"tp {tp}, dp {dp}, ep {ep}"
        yield Problem("alltoall needs tp 1 and ep equal to dp", given, path="deployment.ep")


def apply_layout(graph: OperatorGraph, layout: Layout) -> OperatorGraph:
    """The graph of one rank, its collectives included.

    Raises:
        InputError: a dimension of the graph does not divide as the layout asks.
    """
    blocks = tuple(_LayoutPass(layout).run(block) for block in graph.blocks)
    symbols = (*graph.symbols, "R") if layout.sends_rows else graph.symbols
    return replace(graph, blocks=blocks, symbols=symbols)


class _LayoutPass(BlockRewriter):
    """One block as a rank runs it."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout = layout
        self._tokens = -1  # operator whose result the router and the routed experts read
        self._router = -1
        self._sums_shared = False  # the sum with a shared expert is where tensor-parallel ranks meet

    def run(self, block: Block) -> Block:
        """The block with the rank's operators."""
        routed = {"moe_route": self._route, "moe_experts": self._experts}
        self._sums_shared = any(op.kind == "add" and op.component == "moe" for op in block.operators)
        for index, operator in enumerate(block.operators):
            self.holder[index] = routed.get(operator.kind, self._dense)(operator)
        return replace(block, operators=tuple(self.operators))

    def _dense(self, operator: Operator) -> int:
        local = divided_operator(operator, self._layout.tp)
        position = self.append(local, self.moved(operator))
        if self._layout.tp == 1:
            return position
        y = local.outputs[0]
        if _leaves_partial_sum(operator):
            meeting = all_reduce(_inside(operator, "all_reduce"), y, "tp", self._layout.tp)
        elif operator.kind == "linear" and operator.shard is Shard.VOCAB:
            meeting = all_gather(_inside(operator, "all_gather"), y, "tp", self._layout.tp, axis=-1)
        else:
            return position
        return self.append(meeting, [position])

    def _route(self, operator: Operator) -> int:
        (self._tokens,) = self.moved(operator)
        if self._layout.gathers_tokens:
            name = _beside(operator, "all_gather")
            gather = all_gather(name, operator.inputs[0], "dp", self._layout.dp, axis=0)
            self._tokens = self.append(gather, [self._tokens])
            operator = with_more_tokens(operator, self._layout.dp)
        self._router = self.append(operator, [self._tokens])
        return self._router

    def _experts(self, operator: Operator) -> int:
        layout = self._layout
        local = divided_experts(operator, layout.ep, layout.moe_tp)
        if layout.sends_rows:
            sent = self.append(ep_dispatch(local, layout.ep), [self._tokens, self._router])
            worked = self.append(on_received_rows(local), [sent])
            return self.append(ep_combine(local, layout.ep), [self._router, sent, worked])
        if layout.gathers_tokens:
            local = with_more_tokens(local, layout.dp)
        worked = self.append(local, [self._tokens, self._router])
        if layout.gathers_tokens:
            name = _beside(operator, "reduce_scatter")
            worked = self.append(reduce_scatter(name, local.outputs[0], "dp", layout.dp), [worked])
        if layout.tp == 1 or self._sums_shared:
            return worked
        y = operator.outputs[0]
        return self.append(all_reduce(_beside(operator, "all_reduce"), y, "tp", layout.tp), [worked])


def _inside(operator: Operator, name: str) -> str:
    """A name in the operator's own module, which has none in a block that consists of it."""
    return f"{operator.name}.{name}" if "." in operator.name else name


def _beside(operator: Operator, name: str) -> str:
    """A name in the module that the operator belongs to."""
    return ".".join((*operator.name.split(".")[:-1], name))


def _leaves_partial_sum(operator: Operator) -> bool:
    """Whether ranks hold summands of the result; a shared expert's are summed with the routed ones."""
    if operator.kind == "add":
        return operator.component == "moe"
    if operator.kind == "embedding":
        return operator.shard is Shard.VOCAB
    return operator.shard is Shard.ROW and operator.component != "shared_expert"
