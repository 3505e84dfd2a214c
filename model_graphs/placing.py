"""The placement pass: marks where each operator runs, and copies what crosses from one device to another.

Blocks are cut where the place or the kind of layers changes; a run of layers that another device fed begins
with a block of one layer, which holds the copies. Ids, positions and rotary tables are given on every device,
and a layer's cache lies where the layer does, so that neither crosses. A tensor crosses once for all readers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from hardware_specs.records.errors import InputError, Problem
from model_graphs.dtypes import tensor_bytes
from model_graphs.expressions import ZERO, Expression, product
from model_graphs.graph import Block, Operator, OperatorGraph, Role, Stream, Tensor
from model_graphs.placement import HOST_PLACES, Place, Placement, PlacementPlan, resolve_placement
from model_graphs.rewriting import BlockRewriter
from model_graphs.totals import stored_weight_bytes

COPY = "copy"
OUTER_BLOCKS = ("embedding", "head")

#: arguments that are made once a step on every device
_STEP_TABLES = frozenset({"cos", "sin"})
#: the block's input that runs beside the normalised stream
_RESIDUAL = "residual"


def apply_placement(graph: OperatorGraph, plan: PlacementPlan, layer_names: Sequence[str]) -> OperatorGraph:
    """The graph with the place of every operator, and a copy operator for each tensor that crosses.

    `layer_names` are the blocks of the model's layers from first to last: a graph gathers layers that are
    alike, a placed one has them in the model's order. Apply it before the precision pass, which computes in
    bf16 what the host computes.

    Raises:
        InputError: the plan does not fit the model, the layers are not the graph's, or the graph is not of
            the main model on one device.
    """
    if graph.phase == "mtp" or any(op.collective for block in graph.blocks for op in block.operators):
        raise InputError(Problem("a placed graph is that of the main model on one device", path="placement"))
    repeats = {block.name: block.repeat for block in graph.blocks if block.name not in OUTER_BLOCKS}
    if Counter(layer_names) != repeats:
        raise InputError(Problem(f"layers must be {repeats}", str(dict(Counter(layer_names))), path="layers"))
    blocks = {block.name: block for block in graph.blocks}
    placement = resolve_placement(plan, [_has_experts(blocks[name]) for name in layer_names])
    placed = tuple(_placed(blocks, layer_names, placement))
    return replace(graph, blocks=placed, notes=(*graph.notes, f"placement: {plan}"))


def crossing_bytes(graph: OperatorGraph) -> dict[tuple[str, str], Expression]:
    """Bytes of the tensors that cross in one step, by (from, to) device."""
    crossed: dict[tuple[str, str], Expression] = {}
    for block in graph.blocks:
        for op in block.operators:
            if op.kind == COPY:
                way = str(op.attrs["from"]), str(op.attrs["to"])
                crossed[way] = crossed.get(way, ZERO) + block.repeat * op.activation_write_bytes
    return crossed


def weight_bytes_by_place(graph: OperatorGraph) -> dict[Place, int]:
    """Stored bytes of weights in each place, those without any left out.

    A head that is tied to the embedding stores none, unless it lies in another place.
    """
    stored = dict.fromkeys(Place, 0)
    embedding = graph.blocks[0].operators[0].place
    for block in graph.blocks:
        for op in block.operators:
            if op.kind != COPY:
                tied = "tied" in op.attrs and op.place == embedding
                n_bytes = 0 if tied else stored_weight_bytes(replace(op, attrs={}))
                stored[Place(op.place)] += block.repeat * n_bytes
    return {place: n_bytes for place, n_bytes in stored.items() if n_bytes}


def device_of(place: Place) -> Place:
    """Whose memory an operator's activations lie in: the CPU's or the GPU's."""
    return Place.CPU if place in HOST_PLACES else Place.GPU


def _has_experts(block: Block) -> bool:
    return any(op.kind == "moe_experts" for op in block.operators)


@dataclass(frozen=True)
class _Site:
    """Where a layer runs: the device that feeds it, its own place, that of its experts."""

    fed_by: Place
    home: Place
    experts: Place | None


def _placed(blocks: Mapping[str, Block], layer_names: Sequence[str], placement: Placement) -> Iterator[Block]:
    """The embedding, runs of layers that are of one kind and placed alike, the head."""
    before = device_of(placement.embedding)
    yield _PlacementPass(_Site(before, placement.embedding, None)).run(blocks["embedding"])
    sites = []
    for home, experts in zip(placement.layers, placement.experts, strict=True):
        sites.append(_Site(before, home, experts))
        before = device_of(home)
    layers = enumerate(zip(layer_names, sites, strict=True))
    for (kind, site), members in groupby(layers, key=itemgetter(1)):
        numbers = [number for number, _ in members]
        whole = len(numbers) == blocks[kind].repeat
        name = kind if whole else f"{kind}[{numbers[0]}-{numbers[-1]}]"
        yield replace(_PlacementPass(site).run(blocks[kind]), name=name, repeat=len(numbers))
    yield _PlacementPass(_Site(before, placement.head, None)).run(blocks["head"])


@dataclass(frozen=True)
class _Source:
    """A tensor that an operator reads, and which of whose results it is; -1 is the block's input."""

    tensor: Tensor
    producer: int
    result: int | str


class _PlacementPass(BlockRewriter):
    """One block with its operators placed."""

    def __init__(self, site: _Site) -> None:
        super().__init__()
        self._site = site
        self._devices = {-1: site.fed_by}
        self._copies: dict[tuple[int, int | str, Place], int] = {}

    def run(self, block: Block) -> Block:
        """The block rewritten."""
        for index, operator in enumerate(block.operators):
            experts = self._site.experts if operator.kind == "moe_experts" else None
            place = experts or self._site.home
            deps = self._deps(operator, block.operators, device_of(place))
            stream = Stream.HOST if place in HOST_PLACES else operator.stream
            self.holder[index] = self.append(replace(operator, place=place, stream=stream), deps)
            self._devices[index] = device_of(place)
        return replace(block, operators=tuple(self.operators))

    def _deps(self, operator: Operator, operators: tuple[Operator, ...], device: Place) -> list[int]:
        """What the operator waits for: copies of what it reads from another device, else the producers."""
        crossing = [
            source for source in _sources(operator, operators) if self._devices[source.producer] is not device
        ]
        copied = {source.producer for source in crossing}
        deps = [self.holder[dep] for dep in operator.deps if dep not in copied]
        return deps + [self._copy(source, operator, device) for source in crossing]

    def _copy(self, source: _Source, reader: Operator, device: Place) -> int:
        key = (source.producer, source.result, device)
        if key not in self._copies:
            made = _copy_operator(source.tensor, reader, self._devices[source.producer], device)
            self._copies[key] = self.append(made, [self.holder[source.producer]])
        return self._copies[key]


def _sources(operator: Operator, operators: tuple[Operator, ...]) -> Iterator[_Source]:
    """Where each activation that the operator reads comes from.

    A dependency that has a result of the tensor's size and type made it, each dependency one tensor first;
    what none of them made came with the block's input, or is a part of a larger result.
    """
    unused = list(operator.deps)
    for tensor in operator.inputs:
        if tensor.role in (Role.WEIGHT, Role.CACHE) or tensor.name in _STEP_TABLES:
            continue
        made = [dep for dep in operator.deps if dep >= 0 and _result(operators[dep], tensor) is not None]
        fresh = [dep for dep in made if dep in unused] or [dep for dep in unused if dep == -1]
        producer = (fresh or made or unused or list(operator.deps))[0]
        if producer in unused:
            unused.remove(producer)
        yield _Source(tensor, producer, _identity(operators, producer, tensor))


def _result(operator: Operator, tensor: Tensor) -> int | None:
    """Which of the operator's outputs has the tensor's number of elements and type."""
    for i, output in enumerate(operator.outputs):
        if output.dtype == tensor.dtype and product(output.shape) == product(tensor.shape):
            return i
    return None


def _identity(operators: tuple[Operator, ...], producer: int, tensor: Tensor) -> int | str:
    if producer == -1:
        return _RESIDUAL if tensor.name == _RESIDUAL else "stream"
    found = _result(operators[producer], tensor)
    return tensor.name if found is None else found


def _copy_operator(tensor: Tensor, reader: Operator, start: Place, end: Place) -> Operator:
    n_bytes = tensor_bytes(tensor)
    return Operator(
        name=f"{reader.name}.copy_{tensor.name}",
        kind=COPY,
        inputs=(replace(tensor, name="x"),),
        outputs=(replace(tensor, name=""),),
        deps=(),
        activation_read_bytes=n_bytes,
        activation_write_bytes=n_bytes,
        attrs={"from": str(start), "to": str(end)},
        stream=Stream.COPY,
        place=end,
        component=reader.component,
    )
