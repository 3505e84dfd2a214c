"""PyTorch's autocast on a graph: weights and what lies between products in fp32, products on casts to bf16.

Every product with weights gets a `cast` operator for its input and one for each of its weights, at each
call: autocast keeps casts only of weights that are trained. Attention and the router stay in fp32 here;
PyTorch casts the operands of their products as well.
"""

from collections.abc import Sequence
from dataclasses import replace

from model_graphs.dtypes import tensor_bytes
from model_graphs.expressions import ZERO, Expression, total
from model_graphs.graph import Block, Collective, Operator, OperatorGraph, Role, Tensor
from model_graphs.rewriting import BlockRewriter, part_name
from model_graphs.sharding import activation_bytes, weight_bytes, with_tensors
from model_graphs.transforms import PRODUCT_KINDS

#: the cast of each weight of a kind of product, in order
_CAST_NAMES = {"linear": ("cast_weight",), "moe_experts": ("cast_gate_up", "cast_down")}
#: kinds that read part of their weight
_PARTIAL_READERS = ("embedding", "mla_absorb_q", "mla_absorb_o")


def apply_autocast(graph: OperatorGraph) -> OperatorGraph:
    """The graph of the model in fp32 with the operands of its products cast."""
    blocks = tuple(_CastPass().run(_in_fp32(block)) for block in graph.blocks)
    return replace(graph, blocks=blocks)


def _in_fp32(block: Block) -> Block:
    return replace(block, operators=tuple(_widened(operator) for operator in block.operators))


def _widened(operator: Operator) -> Operator:
    """The operator with every tensor of 16 bits in 32."""
    inputs, outputs = _wide(operator.inputs), _wide(operator.outputs)
    wide = replace(
        with_tensors(operator, inputs, outputs),
        weight_bytes=_widened_weights(operator, inputs),
        cache_read_bytes=operator.cache_read_bytes * 2,
        cache_write_bytes=operator.cache_write_bytes * 2,
        collective=_widened_message(operator),
    )
    return replace(wide, compute_dtype=inputs[0].dtype if inputs[0].dtype == "fp32" else "bf16")


def _widened_message(operator: Operator) -> Collective | None:
    """The meeting with what travels in 32 bits for 16."""
    meeting = operator.collective
    if meeting is None or operator.inputs[0].dtype != "bf16":
        return meeting
    return replace(meeting, message_bytes=meeting.message_bytes * 2)


def _wide(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(replace(t, dtype="fp32") if t.dtype == "bf16" else t for t in tensors)


def _widened_weights(operator: Operator, inputs: tuple[Tensor, ...]) -> Expression:
    if operator.kind in _PARTIAL_READERS:
        return operator.weight_bytes * 2
    return weight_bytes(inputs)


class _CastPass(BlockRewriter):
    """One block in fp32 with casts before its products."""

    def run(self, block: Block) -> Block:
        """The block rewritten."""
        for index, operator in enumerate(block.operators):
            deps = self.moved(operator)
            if operator.kind in PRODUCT_KINDS:
                self.holder[index] = self._cast_product(operator, deps)
            else:
                self.holder[index] = self.append(operator, deps)
        return replace(block, operators=tuple(self.operators))

    def _cast_product(self, operator: Operator, deps: list[int]) -> int:
        source, *others = deps
        x, *rest = operator.inputs
        cast_input = self.append(_cast(operator, x, "cast_input"), [source])
        weights = [tensor for tensor in rest if _is_matrix(tensor)]
        names = _CAST_NAMES[operator.kind]
        casts = [
            self.append(_cast(operator, weight, name), [-1])
            for weight, name in zip(weights, names, strict=True)
        ]
        return self.append(_on_casts(operator), [cast_input, *casts, *others])


def _is_matrix(tensor: Tensor) -> bool:
    return tensor.role is Role.WEIGHT and not tensor.name.startswith("bias")


def _cast(consumer: Operator, tensor: Tensor, name: str) -> Operator:
    """The operator that casts an operand: a weight is read as one and written as an activation."""
    inputs, outputs = (replace(tensor, name="x"),), (_narrow(tensor, ""),)
    is_weight = tensor.role is Role.WEIGHT
    return Operator(
        name=part_name(consumer, name),
        kind="cast",
        inputs=inputs,
        outputs=outputs,
        deps=(),
        weight_bytes=tensor_bytes(tensor) if is_weight else ZERO,
        activation_read_bytes=ZERO if is_weight else tensor_bytes(tensor),
        activation_write_bytes=activation_bytes(outputs),
        compute_dtype="fp32",
        place=consumer.place,
        component=consumer.component,
    )


def _narrow(tensor: Tensor, name: str) -> Tensor:
    return replace(tensor, dtype="bf16", role=Role.ACTIVATION, name=name)


def _on_casts(operator: Operator) -> Operator:
    """The product of the casts."""
    x, *rest = operator.inputs
    inputs = (_narrow(x, x.name), *(_narrow(t, t.name) if _is_matrix(t) else t for t in rest))
    return replace(
        operator,
        inputs=inputs,
        weight_bytes=total(tensor_bytes(t) for t in inputs if t.role is Role.WEIGHT),
        activation_read_bytes=activation_bytes(inputs),
        compute_dtype="bf16",
    )
