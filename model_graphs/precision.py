"""The precision pass: how weights and the cache are stored, and what products are computed in.

A storage names an element type of `model_graphs.dtypes` and the components whose products are stored in it;
router, norms, embedding, head and biases never are. kv_b stays bf16 where attention is absorbed.
A product is computed in the dtype that its weight is stored in if the device has a unit for it; its input is
then quantised by an operator of its own, once for all consumers of a tensor, and before it is dispatched.
Otherwise weights are only stored in it and computed in bf16, which the graph's notes say; what a placement
plan puts on the host is always computed in bf16.

The MTP module of a 4-bit checkpoint stays bf16.

References: config.json and hf_quant_config.json of deepseek-ai/DeepSeek-R1 and nvidia/DeepSeek-R1-NVFP4.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.collectives import dispatched_bytes
from model_graphs.dtypes import BLOCK_WIDTH, ROW_DTYPES
from model_graphs.graph import Block, Operator, OperatorGraph, Role, Shard, Tensor
from model_graphs.placement import HOST_PLACES
from model_graphs.rewriting import BlockRewriter
from model_graphs.sharding import activation_bytes, weight_bytes, with_tensors
from model_graphs.storage import Storage

KV_DTYPES = ("bf16", "fp8")


def apply_precision(
    graph: OperatorGraph, storage: Storage | None, kv_dtype: str, supported_compute: Collection[str]
) -> OperatorGraph:
    """The graph with its weights and cache stored so; None keeps weights in bf16.

    `supported_compute` lists what the device has matrix units for, of `model_graphs.dtypes.COMPUTE_DTYPES`.

    Raises:
        InputError: the cache's dtype is unknown, or the device cannot compute in bf16.
    """
    _check("deployment.kv_dtype", kv_dtype, KV_DTYPES)
    if "bf16" not in supported_compute:
        given = ", ".join(sorted(supported_compute)) or "nothing"
        raise InputError(
            Problem("the device must have a matrix unit for bf16", given, path="deployment.system")
        )
    stored = graph if storage is None else _with_stored_weights(graph, storage, supported_compute)
    return _with_fp8_cache(stored) if kv_dtype == "fp8" else stored


def _with_stored_weights(
    graph: OperatorGraph, storage: Storage, supported_compute: Collection[str]
) -> OperatorGraph:
    dtype = storage.dtype
    components = frozenset(storage.components)
    if graph.phase == "mtp" and dtype in ("nvfp4", "mxfp4"):
        components = frozenset()
    compute = dtype if dtype in supported_compute else "bf16"
    blocks = (_PrecisionPass(dtype, components, compute).run(block) for block in graph.blocks)
    notes = _notes(graph, dtype, components, compute) if components else ()
    return replace(graph, blocks=tuple(blocks), notes=(*graph.notes, *notes))


def _check(path: str, given: str, choices: Collection[str]) -> None:
    if given not in choices:
        requirement = f"must be one of {', '.join(choices)}"
        raise InputError(Problem(requirement, repr(given), path=path, suggestion=nearest(given, choices)))


def _notes(graph: OperatorGraph, dtype: str, components: Collection[str], compute: str) -> Iterator[str]:
    """What a reader should know: another compute dtype, blocks that the layout would cut."""
    if compute != dtype:
        yield f"weights are stored in {dtype} and computed in {compute}: the device has no {dtype} unit"
    block = BLOCK_WIDTH.get(dtype, 1)
    inner = {_inner_width(op) for _, _, op in graph.instances() if op.component in components}
    cut = sorted(width for width in inner if width % block)
    if cut:
        widths = " and ".join(str(width) for width in cut)
        yield f"engines refuse to cut the {block}-wide blocks of {dtype}: a rank has {widths} input features"


def _inner_width(operator: Operator) -> int:
    """Input features of a rank where a layout divides them; 0 for other operators."""
    if operator.kind == "moe_experts":
        return int(operator.attrs["inter"])
    return int(operator.attrs["k"]) if operator.shard is Shard.ROW else 0


class _PrecisionPass(BlockRewriter):
    """One block with its products stored in a dtype and computed in one that the device has."""

    def __init__(self, dtype: str, components: Collection[str], compute: str) -> None:
        super().__init__()
        self._dtype = dtype
        self._row_dtype = ROW_DTYPES.get(dtype, dtype)
        self._components = components
        self._compute = compute
        self._quantised: dict[tuple[int, Tensor], int] = {}  # source and tensor -> its quantize operator

    def run(self, block: Block) -> Block:
        """The block rewritten."""
        for index, operator in enumerate(block.operators):
            self.holder[index] = self._rewritten(operator)
        return replace(block, operators=tuple(self.operators))

    def _rewritten(self, operator: Operator) -> int:
        deps = self.moved(operator)
        if operator.kind == "ep_dispatch" and "moe" in self._components and self._compute != "bf16":
            return self.append(
                _quantised_dispatch(operator, self._row_dtype), self._quantised_deps(operator, deps)
            )
        if not self._is_stored(operator):
            return self.append(operator, deps)
        stored = _stored(operator, self._dtype)
        if self._compute == "bf16" or operator.place in HOST_PLACES:
            return self.append(stored, deps)
        computed = replace(_on_quantised(stored, self._row_dtype), compute_dtype=self._compute)
        return self.append(computed, self._quantised_deps(operator, deps))

    def _is_stored(self, operator: Operator) -> bool:
        return operator.kind in ("linear", "moe_experts") and operator.component in self._components

    def _quantised_deps(self, consumer: Operator, deps: list[int]) -> list[int]:
        """The dependencies with the operator that quantises the first operand, made at its first use."""
        source, *others = deps
        if source >= 0 and self.operators[source].kind == "ep_dispatch":
            return deps
        x = consumer.inputs[0]
        key = (source, replace(x, name=""))
        if key not in self._quantised:
            self._quantised[key] = self.append(_quantize(consumer, x, self._row_dtype), [source])
        return [self._quantised[key], *others]


def _stored(operator: Operator, dtype: str) -> Operator:
    """The operator with its weights stored in the dtype, scales included."""
    inputs = tuple(replace(t, dtype=dtype) if _is_matrix(t) else t for t in operator.inputs)
    return replace(operator, inputs=inputs, weight_bytes=weight_bytes(inputs))


def _is_matrix(tensor: Tensor) -> bool:
    return tensor.role is Role.WEIGHT and not tensor.name.startswith("bias")


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


def _quantize(consumer: Operator, x: Tensor, dtype: str) -> Operator:
    inputs, outputs = (replace(x, name="x"),), (replace(x, dtype=dtype, name=""),)
    return Operator(
        name=f"{consumer.name}.quantize",
        kind="quantize",
        inputs=inputs,
        outputs=outputs,
        deps=(),
        activation_read_bytes=activation_bytes(inputs),
        activation_write_bytes=activation_bytes(outputs),
        place=consumer.place,
        component=consumer.component,
    )


def _with_fp8_cache(graph: OperatorGraph) -> OperatorGraph:
    """The graph with one byte an element of cache; states of recurrent layers stay what they are."""
    blocks = (replace(b, operators=tuple(_fp8_cached(op) for op in b.operators)) for b in graph.blocks)
    return replace(graph, blocks=tuple(blocks))


def _fp8_cached(operator: Operator) -> Operator:
    if not any(tensor.role is Role.CACHE for tensor in (*operator.inputs, *operator.outputs)):
        return operator
    return replace(
        operator,
        inputs=tuple(_fp8_if_cache(t) for t in operator.inputs),
        outputs=tuple(_fp8_if_cache(t) for t in operator.outputs),
        cache_read_bytes=operator.cache_read_bytes.divided(2),
        cache_write_bytes=operator.cache_write_bytes.divided(2),
    )


def _fp8_if_cache(tensor: Tensor) -> Tensor:
    return replace(tensor, dtype="fp8") if tensor.role is Role.CACHE else tensor
