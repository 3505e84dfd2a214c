"""Totals of a model and of a graph: parameters, stored weights, work by component, cache groups."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace

from hardware_specs.records.errors import InputError, Problem
from model_graphs.configs import ModelRecord, resolve_model
from model_graphs.dtypes import COMPUTE_DTYPES, tensor_bytes
from model_graphs.expressions import ZERO, Expression, total
from model_graphs.graph import Block, Operator, OperatorGraph, Role
from model_graphs.graph_io import load_graph, phases_of
from model_graphs.precision import apply_precision
from model_graphs.transform_pass import apply_plan
from model_graphs.transforms import Plan

_EMITTED_ELEMENT_BYTES = 2  # graphs are emitted in bf16


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters of the main model by component, those that one token uses, and the MTP modules' own."""

    by_component: Mapping[str, int]
    active: int
    mtp: int

    @property
    def total(self) -> int:
        """All parameters of the main model, embedding and head included."""
        return sum(self.by_component.values())

    @property
    def active_without_embedding(self) -> int:
        """Active parameters but for the embedding table, of which a token reads one row."""
        return self.active - self.by_component["embedding"]


def parameter_counts(model: ModelRecord) -> ParameterCounts:
    """Parameters, counted in the weights of the model's emitted graphs.

    A tied head counts once, with the embedding. The router's balancing bias is a buffer and not counted, as
    in other implementations.

    Raises:
        InputError: the model's graphs have not been emitted.
    """
    counts: dict[str, int] = {}
    active = 0
    for block in load_graph(model, phases_of(model.blueprint)[0]).blocks:
        for operator in block.operators:
            n_parameters = block.repeat * _parameters(operator)
            counts[operator.component] = counts.get(operator.component, 0) + n_parameters
            active += n_parameters * _used_experts(operator) // _experts(operator)
    by_component = {component: count for component, count in counts.items() if count}
    return ParameterCounts(by_component, active, _mtp_parameters(model))


def _parameters(operator: Operator) -> int:
    """Parameters of an operator of an emitted graph, whose weights are bf16; fp32 ones are buffers."""
    buffers = sum(
        int(tensor_bytes(t)) for t in operator.inputs if t.role is Role.WEIGHT and t.dtype == "fp32"
    )
    return (stored_weight_bytes(operator) - buffers) // _EMITTED_ELEMENT_BYTES


def _experts(operator: Operator) -> int:
    return int(operator.attrs["n_experts"]) if operator.kind == "moe_experts" else 1


def _used_experts(operator: Operator) -> int:
    return int(operator.attrs["topk"]) if operator.kind == "moe_experts" else 1


def _mtp_parameters(model: ModelRecord) -> int:
    """Of all modules, without the embedding and the head that they share with the main model."""
    n_modules = len(model.blueprint.mtp_layers)
    if not n_modules:
        return 0
    own = (block for block in load_graph(model, "mtp").blocks if block.name == "mtp_layer")
    return n_modules * sum(_parameters(operator) for block in own for operator in block.operators)


@dataclass(frozen=True)
class CacheGroup:
    """Layers whose cache is alike: bytes a token over all of them, bytes a sequence however long it is.

    `window` is the number of last tokens kept; None keeps every token.
    """

    name: str
    layers: int
    bytes_per_token: int
    window: int | None = None
    bytes_per_sequence: int = 0


def cache_groups(graph: OperatorGraph) -> tuple[CacheGroup, ...]:
    """The cache of the rank whose graph this is, by its blocks' kinds of cache and windows."""
    groups: dict[tuple[str, int | None], CacheGroup] = {}
    for block in graph.blocks:
        for operator in block.operators:
            if operator.cache_write_bytes == ZERO:
                continue
            name, window = _cache_kind(operator), _window(block)
            found = groups.get((name, window), CacheGroup(name, 0, 0, window))
            written = block.repeat * int(operator.cache_write_bytes.exact({"B": 1, "S": 1, "T": 0}))
            of_sequence = name in _STATES.values()
            groups[name, window] = replace(
                found,
                layers=found.layers + block.repeat,
                bytes_per_token=found.bytes_per_token + (0 if of_sequence else written),
                bytes_per_sequence=found.bytes_per_sequence + (written if of_sequence else 0),
            )
    return tuple(groups.values())


#: what a recurrent operator keeps of a sequence
_STATES = {3: "convolution inputs", 4: "recurrent state"}


def _cache_kind(operator: Operator) -> str:
    """Keys and values of heads, a latent of all heads, an indexer's keys, or a state, written once a step."""
    if operator.component == "indexer":
        return "index keys"
    (cache,) = (tensor for tensor in operator.outputs if tensor.role in (Role.CACHE, Role.STATE))
    if cache.role is Role.STATE:
        return _STATES[len(cache.shape)]
    return "latent" if len(cache.shape) == 3 else "keys and values"


def _window(block: Block) -> int | None:
    windows = {int(operator.attrs.get("window", 0)) for operator in block.operators}
    return max(windows) or None


def weight_bytes_per_rank(graph: OperatorGraph) -> int:
    """Bytes of the weights that a rank stores: the graph's after the layout and the precision pass."""
    return sum(weight_bytes_by_component(graph).values())


def weight_bytes_by_component(graph: OperatorGraph) -> dict[str, int]:
    """Stored bytes of weights by component."""
    stored: dict[str, int] = {}
    for block in graph.blocks:
        for operator in block.operators:
            stored[operator.component] = stored.get(
                operator.component, 0
            ) + block.repeat * stored_weight_bytes(operator)
    return {component: n_bytes for component, n_bytes in stored.items() if n_bytes}


def stored_weight_bytes(operator: Operator) -> int:
    """Bytes of the operator's weights at rest.

    A look-up reads few rows of a table that is stored whole; a head that is tied to it stores none.
    """
    if "tied" in operator.attrs:
        return 0
    if operator.kind == "embedding":
        return int(total(tensor_bytes(t) for t in operator.inputs if t.role is Role.WEIGHT))
    return int(operator.weight_bytes)


@dataclass(frozen=True)
class Work:
    """FLOP and bytes of some operators, symbolic."""

    flop: Expression = ZERO
    causal_flop: Expression = ZERO
    weight_bytes: Expression = ZERO
    activation_read_bytes: Expression = ZERO
    activation_write_bytes: Expression = ZERO
    cache_read_bytes: Expression = ZERO
    cache_write_bytes: Expression = ZERO
    message_bytes: Expression = ZERO

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def at(self, bindings: Mapping[str, int]) -> dict[str, int]:
        """The figures at a point."""
        return {f.name: getattr(self, f.name).exact(bindings) for f in fields(self)}

    def closed_forms(self) -> dict[str, str]:
        """The figures as text in the graph's symbols."""
        return {f.name: str(getattr(self, f.name)) for f in fields(self)}


def operator_work(operator: Operator, repeat: int = 1) -> Work:
    """The work of `repeat` calls of the operator."""
    message = operator.collective.message_bytes if operator.collective else ZERO
    return Work(
        flop=operator.flop * repeat,
        causal_flop=operator.causal_flop * repeat,
        weight_bytes=operator.weight_bytes * repeat,
        activation_read_bytes=operator.activation_read_bytes * repeat,
        activation_write_bytes=operator.activation_write_bytes * repeat,
        cache_read_bytes=operator.cache_read_bytes * repeat,
        cache_write_bytes=operator.cache_write_bytes * repeat,
        message_bytes=message * repeat,
    )


def work_by_component(graph: OperatorGraph) -> dict[str, Work]:
    """Work of the whole graph by component, in the order in which components first appear."""
    work: dict[str, Work] = {}
    for block in graph.blocks:
        for operator in block.operators:
            added = operator_work(operator, block.repeat)
            work[operator.component] = work.get(operator.component, Work()) + added
    return work


def graph_work(graph: OperatorGraph) -> Work:
    """Work of the whole graph."""
    return sum(work_by_component(graph).values(), Work())


@dataclass(frozen=True)
class GraphSummary:
    """What `silicast graph` shows of one phase of a model."""

    record: ModelRecord
    graph: OperatorGraph
    parameters: ParameterCounts
    caches: tuple[CacheGroup, ...]
    work: Mapping[str, Work]
    at: Mapping[str, int]
    transform: Plan | None
    plain_stored_bytes: int

    @property
    def stored_bytes(self) -> int:
        """Bytes of all weights at rest, as the transform leaves them."""
        return weight_bytes_per_rank(self.graph)

    @property
    def total(self) -> Work:
        """Work of all components."""
        return sum(self.work.values(), Work())

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON: closed forms and figures at the point."""
        counts = self.parameters
        return {
            "model": self.record.key,
            "phase": self.graph.phase,
            "notes": list(self.record.notes),
            "assumed_fields": list(self.record.assumed_fields()),
            "parameters": {
                "total": counts.total,
                "active": counts.active,
                "active_without_embedding": counts.active_without_embedding,
                "mtp": counts.mtp,
                "by_component": dict(counts.by_component),
            },
            "cache_groups": [asdict(group) for group in self.caches],
            "transform": None if self.transform is None else self.transform.model_dump(mode="json"),
            "stored_bytes": {"plain": self.plain_stored_bytes, "transformed": self.stored_bytes},
            "symbols": list(self.graph.symbols),
            "at": dict(self.at),
            "total": _both(self.total, self.at),
            "by_component": {name: _both(work, self.at) for name, work in self.work.items()},
        }


def _both(work: Work, point: Mapping[str, int]) -> dict[str, object]:
    return {"closed_forms": work.closed_forms(), "at_point": work.at(point)}


#: one sequence: a whole prompt, its second half, the token after 4,095 others, or a question with its passage
DEFAULT_POINTS: Mapping[str, Mapping[str, int]] = {
    "prefill": {"B": 1, "S": 4096, "T": 0},
    "chunked_prefill": {"B": 1, "S": 2048, "T": 2048},
    "decode": {"B": 1, "S": 1, "T": 4095},
    "mtp": {"B": 1, "S": 1, "T": 4095},
    "encode": {"B": 1, "S": 384, "T": 0},
}


def graph_summary(
    model: str | ModelRecord,
    phase: str = "prefill",
    kv_dtype: str = "bf16",
    at: Mapping[str, int] | None = None,
    transform: Plan | None = None,
) -> GraphSummary:
    """Parameters, cache groups and work of a model's phase, before any layout.

    `transform` stores, prunes and computes products as it says, on a device that has every unit. `at` binds
    B (sequences), S (new tokens) or T (past tokens) where `DEFAULT_POINTS` is not what is asked.

    Raises:
        InputError: the model or phase is unknown, or `at` names another symbol or a negative count.
    """
    record = resolve_model(model) if isinstance(model, str) else model
    plain = load_graph(record, phase)
    graph = plain if transform is None else apply_plan(plain, transform, COMPUTE_DTYPES)
    point = {**DEFAULT_POINTS[phase], **(at or {})}
    problems = list(_point_problems(point))
    if problems:
        raise InputError(*problems)
    return GraphSummary(
        record=record,
        graph=graph,
        parameters=parameter_counts(record),
        caches=cache_groups(apply_precision(graph, None, kv_dtype, COMPUTE_DTYPES)),
        work=work_by_component(graph),
        at=point,
        transform=transform,
        plain_stored_bytes=weight_bytes_per_rank(plain),
    )


def _point_problems(point: Mapping[str, int]) -> Iterator[Problem]:
    for name, count in point.items():
        if name not in ("B", "S", "T"):
            yield Problem("symbol must be B, S or T", name, path="at")
        elif count < 0:
            yield Problem("must not be negative", str(count), path=f"at.{name}")
