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

from collections.abc import Collection
from dataclasses import replace

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.dtypes import ROW_DTYPES
from model_graphs.graph import Operator, OperatorGraph, Role, Tensor
from model_graphs.index_keys import KEYS, with_fp8_index_keys
from model_graphs.storage import Storage
from model_graphs.transform_pass import apply_plan
from model_graphs.transforms import INNER_PRODUCTS, Plan, Pruning, Rule

KV_DTYPES = ("bf16", "fp8")


def apply_precision(
    graph: OperatorGraph,
    storage: Storage | None,
    kv_dtype: str,
    supported_compute: Collection[str],
    pruning: Pruning | None = None,
) -> OperatorGraph:
    """The graph with its weights and cache stored so; None keeps weights in bf16.

    `pruning` makes weights zero in the products that are stored so, of bf16 in every inner product.

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
    plan = storage_plan(storage) if storage is not None else Plan(name="bf16")
    if pruning is not None:
        plan = _pruned(plan, pruning)
    stored = apply_plan(with_fp8_index_keys(graph, supported_compute), plan, supported_compute)
    return _with_fp8_cache(stored) if kv_dtype == "fp8" else stored


def storage_plan(storage: Storage) -> Plan:
    """The plan that a checkpoint's storage means: inputs are quantised to what its weights meet."""
    dtype = storage.dtype
    if not storage.components:
        return Plan(name=dtype)
    rule = Rule(products=storage.components, weights=dtype, inputs=ROW_DTYPES.get(dtype, dtype))
    return Plan(name=dtype, rules=(rule,), mtp=dtype not in ("nvfp4", "mxfp4"))


def _pruned(plan: Plan, pruning: Pruning) -> Plan:
    rules = plan.rules or (Rule(products=INNER_PRODUCTS),)
    return plan.model_copy(
        update={"rules": tuple(rule.model_copy(update={"pruning": pruning}) for rule in rules)}
    )


def _check(path: str, given: str, choices: Collection[str]) -> None:
    if given not in choices:
        requirement = f"must be one of {', '.join(choices)}"
        raise InputError(Problem(requirement, repr(given), path=path, suggestion=nearest(given, choices)))


def _with_fp8_cache(graph: OperatorGraph) -> OperatorGraph:
    """The graph with one byte an element of cache.

    An indexer's keys have a format of their own, and states of recurrent layers stay what they are.
    """
    blocks = (replace(b, operators=tuple(_fp8_cached(op) for op in b.operators)) for b in graph.blocks)
    return replace(graph, blocks=tuple(blocks))


def _fp8_cached(operator: Operator) -> Operator:
    caches = [t for t in (*operator.inputs, *operator.outputs) if t.role is Role.CACHE]
    if not caches or any(tensor.dtype == KEYS for tensor in caches):
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
