"""The transform pass: a plan's rules applied to the products of a graph.

A product is computed in what its input is quantised to, if the device has a unit for it; the input is then
quantised by an operator of its own, once for all consumers of a tensor, and before it is dispatched.
Otherwise weights are only stored in the rule's element type and computed in bf16, which the graph's notes
say. `flop` halves under 2of4, whose units exist; other pruned weights are spread out and multiplied densely.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from model_graphs.cast_pass import apply_autocast
from model_graphs.collectives import dispatched_bytes
from model_graphs.dtypes import BLOCK_WIDTH
from model_graphs.graph import Block, Operator, OperatorGraph, Role, Shard, Tensor
from model_graphs.placement import HOST_PLACES
from model_graphs.rewriting import BlockRewriter, quantize
from model_graphs.sharding import weight_bytes, with_tensors
from model_graphs.transforms import Plan, Rule

#: element types whose scale is known only after the whole tensor was read once
WHOLE_TENSOR_SCALES = ("int8",)
LATENT_ATTENTION = ("attention", "mla_attention")


def apply_plan(graph: OperatorGraph, plan: Plan, supported_compute: Collection[str]) -> OperatorGraph:
    """The graph with its products stored, pruned and computed as the plan says.

    `supported_compute` lists what the device has matrix units for, of `model_graphs.dtypes.COMPUTE_DTYPES`.
    """
    if plan.changes_nothing or (graph.phase == "mtp" and not plan.mtp):
        return graph
    if plan.autocast:
        return apply_autocast(graph)
    blocks = tuple(_PlanPass(plan, supported_compute).run(block) for block in graph.blocks)
    notes = tuple(_notes(graph, plan, supported_compute))
    return replace(graph, blocks=blocks, notes=(*graph.notes, *notes))


def rule_of(plan: Plan, operator: Operator) -> Rule | None:
    """The plan's rule for an operator."""
    return plan.rule_for(operator.kind, operator.component, operator.name)


def compute_dtype(rule: Rule, supported_compute: Collection[str]) -> str:
    """What a product is computed in: the unit that its weights name, where its input is quantised."""
    return rule.weights if rule.inputs != "bf16" and rule.weights in supported_compute else "bf16"


def _notes(graph: OperatorGraph, plan: Plan, supported_compute: Collection[str]) -> Iterator[str]:
    """What a reader should know: another compute dtype, blocks that the layout would cut."""
    chosen = [(rule, op) for _, _, op in graph.instances() if (rule := rule_of(plan, op)) is not None]
    rules = [rule for rule in plan.rules if any(rule is found for found, _ in chosen)]
    for dtype in dict.fromkeys(rule.weights for rule in rules if rule.inputs != "bf16"):
        if dtype not in supported_compute:
            yield f"weights are stored in {dtype} and computed in bf16: the device has no {dtype} unit"
    for dtype in dict.fromkeys(rule.weights for rule in rules):
        block = BLOCK_WIDTH.get(dtype, 1)
        inner = {_inner_width(op) for rule, op in chosen if rule.weights == dtype}
        cut = sorted(width for width in inner if width % block)
        if cut:
            widths = " and ".join(str(width) for width in cut)
            asked = f"engines refuse to cut the {block}-wide blocks of {dtype}"
            yield f"{asked}: a rank has {widths} input features"


def _inner_width(operator: Operator) -> int:
    """Input features of a rank where a layout divides them; 0 for other operators."""
    if operator.kind == "moe_experts":
        return int(operator.attrs["inter"])
    return int(operator.attrs["k"]) if operator.shard is Shard.ROW else 0


class _PlanPass(BlockRewriter):
    """One block with its products under a plan, computed in what the device has units for."""

    def __init__(self, plan: Plan, supported_compute: Collection[str]) -> None:
        super().__init__()
        self._plan = plan
        self._supported = supported_compute
        self._quantised: dict[tuple[int, Tensor, str], int] = {}  # source, tensor and type -> its quantize

    def run(self, block: Block) -> Block:
        """The block rewritten."""
        dispatched = {
            operator.deps[0]: rule
            for operator in block.operators
            if (rule := rule_of(self._plan, operator)) is not None
        }
        for index, operator in enumerate(block.operators):
            rule = dispatched.get(index) if operator.kind == "ep_dispatch" else None
            self.holder[index] = self._rewritten(operator, rule or rule_of(self._plan, operator))
        return replace(block, operators=tuple(self.operators))

    def _rewritten(self, operator: Operator, rule: Rule | None) -> int:
        deps = self.moved(operator)
        if rule is None:
            return self.append(_summed(operator, self._plan.attention_sums), deps)
        compute, rows = compute_dtype(rule, self._supported), rule.inputs
        if operator.kind == "ep_dispatch":
            if compute == "bf16":
                return self.append(operator, deps)
            sent = _quantised_dispatch(operator, rows)
            return self.append(sent, self._quantised_deps(operator, deps, rows))
        stored = _stored(operator, rule)
        if compute == "bf16" or operator.place in HOST_PLACES:
            return self.append(stored, deps)
        computed = replace(_on_quantised(stored, rows), compute_dtype=compute)
        return self.append(computed, self._quantised_deps(operator, deps, rows))

    def _quantised_deps(self, consumer: Operator, deps: list[int], dtype: str) -> list[int]:
        """The dependencies with the operator that quantises the first operand, made at its first use."""
        source, *others = deps
        if source >= 0 and self.operators[source].kind == "ep_dispatch":
            return deps
        x = consumer.inputs[0]
        key = (source, replace(x, name=""), dtype)
        if key not in self._quantised:
            reads = 2 if dtype in WHOLE_TENSOR_SCALES else 1
            self._quantised[key] = self.append(quantize(consumer, x, dtype, reads), [source])
        return [self._quantised[key], *others]


def _summed(operator: Operator, accumulation: str) -> Operator:
    """The operator, with what its sums are added in where it is latent attention."""
    if operator.kind not in LATENT_ATTENTION or accumulation == "fp32":
        return operator
    return replace(operator, attrs={**operator.attrs, "accumulation": accumulation})


def _stored(operator: Operator, rule: Rule) -> Operator:
    """The operator with its weights stored as the rule says, scales and layout of non-zeros included."""
    inputs = tuple(replace(t, dtype=rule.storage) if _is_matrix(t) else t for t in operator.inputs)
    halved = 2 if rule.pruning is not None and rule.pruning.pattern == "2of4" else 1
    return replace(
        operator,
        inputs=inputs,
        weight_bytes=weight_bytes(inputs),
        flop=operator.flop.divided(halved),
        causal_flop=operator.causal_flop.divided(halved),
        attrs={**operator.attrs, **storage_attrs(rule.storage, rule.accumulation)},
    )


def _is_matrix(tensor: Tensor) -> bool:
    return tensor.role is Role.WEIGHT and not tensor.name.startswith("bias")


def storage_attrs(storage: str, accumulation: str) -> dict[str, str]:
    """What an operator's attributes say of a rule beyond the element types of its operands."""
    layout = storage.partition(":")[2]
    pruned = {"pruning": layout} if layout else {}
    return pruned if accumulation == "fp32" else {**pruned, "accumulation": accumulation}


def _on_quantised(operator: Operator, dtype: str) -> Operator:
    """The operator with its first operand in the dtype."""
    x, *others = operator.inputs
    return with_tensors(operator, (replace(x, dtype=dtype), *others), operator.outputs)


def _quantised_dispatch(dispatch: Operator, dtype: str) -> Operator:
    """The dispatch of rows that are quantised before they leave."""
    assert dispatch.collective is not None
    x, weights, indices = dispatch.inputs
    inputs = (replace(x, dtype=dtype), weights, indices)
    rows, *others = dispatch.outputs
    meeting = replace(dispatch.collective, message_bytes=dispatched_bytes(inputs[0], indices))
    sent = with_tensors(dispatch, inputs, (replace(rows, dtype=dtype), *others))
    return replace(sent, collective=meeting)
