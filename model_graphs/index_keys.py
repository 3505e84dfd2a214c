"""How engines cache an indexer's keys and score them: in fp8, whatever the attention's own cache is in.

A row of keys has one fp32 scale for 128 elements; queries are quantised alike, and the products run in fp8.
A device without a unit for fp8, and the host of one, keep both in 16 bits.

References: DeepSeek-V3.2 report (arXiv 2512.02556) section 2.1; `fp8_index` of its published inference code.
"""

from collections.abc import Collection
from dataclasses import replace

from model_graphs.dtypes import tensor_bytes
from model_graphs.expressions import Expression, constant
from model_graphs.graph import Block, Operator, OperatorGraph, Role, Tensor
from model_graphs.placement import HOST_PLACES
from model_graphs.rewriting import BlockRewriter, quantize
from model_graphs.sharding import with_tensors

KEYS = "fp8_block"
KINDS = ("index_scores", "kv_append")
COMPONENT = "indexer"


def with_fp8_index_keys(graph: OperatorGraph, supported_compute: Collection[str]) -> OperatorGraph:
    """The graph with its indexers' keys in fp8 and scored in fp8, where the device can."""
    if "fp8" not in supported_compute:
        return graph
    return replace(graph, blocks=tuple(_IndexPass().run(block) for block in graph.blocks))


class _IndexPass(BlockRewriter):
    """One block with its index keys in fp8."""

    def run(self, block: Block) -> Block:
        """The block rewritten; itself where nothing indexes."""
        if not any(_caches_index_keys(operator) for operator in block.operators):
            return block
        for index, operator in enumerate(block.operators):
            self.holder[index] = self._rewritten(operator)
        return replace(block, operators=tuple(self.operators))

    def _rewritten(self, operator: Operator) -> int:
        deps = self.moved(operator)
        if not _caches_index_keys(operator):
            return self.append(operator, deps)
        stored = _stored(operator)
        if operator.kind != "index_scores":
            return self.append(stored, deps)
        queries, *others = stored.inputs
        source, *rest = deps  # what rotates queries and keys, before what caches the keys
        quantised = self.append(quantize(operator, queries, KEYS), [source])
        scored = with_tensors(stored, (replace(queries, dtype=KEYS), *others), stored.outputs)
        return self.append(replace(scored, compute_dtype="fp8"), [quantised, *rest])


def _caches_index_keys(operator: Operator) -> bool:
    on_device = operator.place not in HOST_PLACES
    return on_device and operator.component == COMPONENT and operator.kind in KINDS


def _stored(operator: Operator) -> Operator:
    """The operator with its keys in fp8, scales included."""
    width = next(int(t.shape[-1]) for t in (*operator.inputs, *operator.outputs) if t.role is Role.CACHE)
    return replace(
        operator,
        inputs=tuple(map(_in_fp8, operator.inputs)),
        outputs=tuple(map(_in_fp8, operator.outputs)),
        cache_read_bytes=_rescaled(operator.cache_read_bytes, width),
        cache_write_bytes=_rescaled(operator.cache_write_bytes, width),
    )


def _in_fp8(tensor: Tensor) -> Tensor:
    return replace(tensor, dtype=KEYS) if tensor.role is Role.CACHE else tensor


def _rescaled(n_bytes: Expression, width: int) -> Expression:
    """Bytes of rows of `width` elements in 16 bits, as bytes of the same rows in fp8."""
    before, after = (
        int(tensor_bytes(Tensor((constant(width),), dtype, Role.CACHE))) for dtype in ("bf16", KEYS)
    )
    return n_bytes.divided(before) * after
