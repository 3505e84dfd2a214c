"""Products on a matrix engine that a file describes: time by stages, and energy, from that record alone.

A product's data is fetched, decompressed, loaded into cells, multiplied, compressed and stored. Stages that
the engine names as overlapping take as long as the longest of them, the others follow. Where weights stand
still in arrays, as many of the model's as there are cells stay there from step to step. A weight with zeros
is multiplied as the sparse unit can, or densely where that is faster.

Nothing here was measured as a whole: grade D, and an interval of a factor of e either way. Not modelled:
accuracy (`bits` is only said), contention inside the engine, power limits of the engine.
"""

from dataclasses import dataclass

import numpy as np

from hardware_specs.engines import EngineSpec, SparseUnit, Stage
from hardware_specs.parts import DeviceSpec
from hardware_specs.records.evidence import Grade
from model_graphs.graph import Operator, OperatorGraph
from simulator.costs.engine_products import (
    EngineCall,
    Product,
    Zeros,
    engine_call,
    peak_entry,
    weight_elements,
)
from simulator.costs.estimates import BOUNDS, FloatArray, KernelEstimate
from simulator.costs.operators import Bindings

#: half-width in log space of a product on an engine that is known from papers only
ENGINE_LOG_HALF_WIDTH = 1.0
_BOUND_OF_STAGE: dict[Stage, str] = {
    "fetch": "memory",
    "decompress": "operand",
    "load": "operand",
    "compute": "compute",
    "compress": "operand",
    "store": "memory",
}


@dataclass(frozen=True)
class EngineWork:
    """Bytes to and from the device's memory, and joules inside the engine and its converters."""

    traffic_bytes: float
    energy_j: float


@dataclass(frozen=True)
class _Run:
    """One way to run a call: seconds of its stages, bytes through the memory, joules."""

    stages: dict[Stage, FloatArray]
    total_s: FloatArray
    traffic_bytes: FloatArray
    energy_j: FloatArray


@dataclass(frozen=True)
class Engine:
    """An engine with the memory that feeds it. `resident` is the share of weights that never leave it."""

    spec: EngineSpec
    bandwidth_bytes_per_s: float
    resident: float = 0.0

    @classmethod
    def of(cls, device: DeviceSpec, graph: OperatorGraph) -> "Engine | None":
        """The engine of a device under a rank's graph; None where the device has none."""
        spec = device.engine
        if spec is None:
            return None
        bandwidth = device.memory.bandwidth_bytes_per_s.value
        if spec.array is None:
            return cls(spec, bandwidth)
        weights = weight_elements(graph, spec.operators)
        return cls(spec, bandwidth, min(spec.array.cells / weights, 1.0) if weights else 1.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of a forecast should know."""
        spec, array = self.spec, self.spec.array
        told = [
            f"{spec.name} runs {', '.join(spec.operators)} in {', '.join(spec.dtypes)}; all else runs on "
            f"the digital unit ({spec.digital_unit})"
        ]
        told += [f"{spec.name}: {limit}" for limit in spec.limits]
        if array is not None:
            told.append(
                f"{spec.name} holds {array.bits.value:g} effective bits; that a model keeps its "
                f"accuracy is not checked; {self.resident:.1%} of its weights stay in the arrays, the "
                "rest is loaded anew in each step"
            )
        return tuple(told)

    def runs(self, operator: Operator) -> bool:
        """Whether the engine runs the operator; if not, the digital unit does."""
        return operator.kind in self.spec.operators and peak_entry(operator) in self.spec.dtypes

    def skips(self, zeros: Zeros | None) -> bool:
        """Whether zeros of this pattern save anything."""
        return zeros is not None and zeros.pattern in self.spec.sparsity

    def price(self, operator: Operator, bindings: Bindings) -> KernelEstimate:
        """Latency of an operator that the engine runs, for every combination of the bindings."""
        run, sparse = self._run(operator, bindings)
        names = list(run.stages)
        stacked = np.stack(np.broadcast_arrays(*(run.stages[name] for name in names), run.total_s))[:-1]
        codes = np.array([BOUNDS.index(_BOUND_OF_STAGE[name]) for name in names], np.int8)
        longest = np.max(stacked, axis=0)
        bound = np.where(
            longest < self._fixed_s, BOUNDS.index("launch"), codes[np.argmax(stacked, axis=0)]
        ).astype(np.int8)
        how = f"{self.spec.name}{' skipping zeros' if sparse else ''}"
        return KernelEstimate(
            run.total_s,
            bound,
            np.full(np.shape(run.total_s), ENGINE_LOG_HALF_WIDTH),
            Grade.D,
            f"{how} of its description: published and assumed figures, nothing measured as a whole",
        )

    def work(self, operator: Operator, bindings: Bindings) -> EngineWork:
        """Traffic and energy of an operator that the engine runs, at one point."""
        run, _ = self._run(operator, bindings)
        return EngineWork(float(run.traffic_bytes), float(run.energy_j))

    @property
    def _fixed_s(self) -> float:
        conversion = self.spec.conversion
        return self.spec.launch.value + (conversion.latency.value if conversion else 0.0)

    def _run(self, operator: Operator, bindings: Bindings) -> tuple[_Run, bool]:
        """The faster of skipping zeros and not, point by point, and whether zeros can be skipped at all."""
        call, entry = engine_call(operator, bindings), peak_entry(operator)
        dense = self._timed(call, entry, call.weight_bytes, 1.0)
        if call.zeros is None or not self.skips(call.zeros):
            return dense, False
        unit, density = self.spec.sparsity[call.zeros.pattern], call.zeros.density
        stored = call.elements * unit.bits_per_element(_element_bits(call), density) / 8
        skipping = self._timed(call, entry, stored, unit.compute_fraction(density))
        return _faster(dense, _with_overhead(skipping, dense, unit)), True

    def _timed(self, call: EngineCall, entry: str, weight_bytes: FloatArray, fraction: float) -> _Run:
        fetched = (1 - self.resident) * weight_bytes
        stages = self._stages(call, entry, fetched, fraction)
        together = [seconds for name, seconds in stages.items() if name in self.spec.overlapping]
        after = [seconds for name, seconds in stages.items() if name not in self.spec.overlapping]
        total = self._fixed_s + sum(after, np.asarray(0.0))
        if together:
            total = total + np.maximum.reduce(np.broadcast_arrays(*together))
        traffic = fetched + call.read_bytes + call.written_bytes
        return _Run(stages, np.asarray(total), traffic, self._energy_j(call, fetched, fraction))

    def _stages(
        self, call: EngineCall, entry: str, fetched: FloatArray, fraction: float
    ) -> dict[Stage, FloatArray]:
        """Seconds of each stage that the engine has."""
        spec = self.spec
        rate = self.bandwidth_bytes_per_s * spec.memory_efficiency.value
        stages: dict[Stage, FloatArray] = {"fetch": (fetched + call.read_bytes) / rate}
        if spec.decompression is not None:
            stages["decompress"] = fetched / spec.decompression.value
        if spec.array is not None and self.resident < 1:
            loaded = (1 - self.resident) * call.weight_bytes
            stages["load"] = spec.array.load_latency.value + loaded / spec.array.load_rate.value
        stages["compute"] = np.asarray(sum(self._compute_s(product, entry) for product in call.products))
        stages["compute"] = stages["compute"] * fraction
        if spec.compression is not None:
            stages["compress"] = call.written_bytes / spec.compression.value
        stages["store"] = call.written_bytes / rate
        return stages

    def _compute_s(self, product: Product, entry: str) -> FloatArray:
        efficiency, array = self.spec.efficiency.value, self.spec.array
        if array is None:
            assert self.spec.peak is not None
            peaks = {str(name): figure.value for name, figure in self.spec.peak.items()}
            return 2 * product.macs / (peaks[entry] * efficiency)
        turns = np.ceil(product.copies * self._tiles(product) / array.count.value)
        return turns * product.rows / (array.vector_rate.value * efficiency)

    def _tiles(self, product: Product) -> float:
        array = self.spec.array
        assert array is not None
        return float(np.ceil(product.k / array.rows.value) * np.ceil(product.n / array.columns.value))

    def _energy_j(self, call: EngineCall, fetched: FloatArray, fraction: float) -> FloatArray:
        energy = call.macs * fraction * self.spec.energy_per_mac.value
        if self.spec.array is not None:
            loaded = (1 - self.resident) * call.weight_bytes
            energy = energy + loaded * self.spec.array.load_energy.value
        return energy + sum(self._conversion_j(product) for product in call.products)

    def _conversion_j(self, product: Product) -> FloatArray | float:
        """Each input enters an array for every tile of outputs; each tile of the inner width has its sums."""
        conversion, array = self.spec.conversion, self.spec.array
        if conversion is None:
            return 0.0
        wide = np.ceil(product.n / array.columns.value) if array else 1.0
        deep = np.ceil(product.k / array.rows.value) if array else 1.0
        inputs = product.rows * product.k * product.copies * wide
        outputs = product.rows * product.n * product.copies * deep
        return inputs * conversion.input_energy.value + outputs * conversion.output_energy.value


def _element_bits(call: EngineCall) -> float:
    """Bits of a stored element, scales included."""
    return float(np.max(8 * call.weight_bytes / call.elements))


def _with_overhead(skipping: _Run, dense: _Run, unit: SparseUnit) -> _Run:
    """The run with the share of the dense product's time that no zero takes away."""
    share = unit.overhead.value
    total = share * dense.total_s + (1 - share) * skipping.total_s
    return _Run(skipping.stages, total, skipping.traffic_bytes, skipping.energy_j)


def _faster(dense: _Run, skipping: _Run) -> _Run:
    better = skipping.total_s < dense.total_s
    stages = {
        name: np.where(better, skipping.stages[name], seconds) for name, seconds in dense.stages.items()
    }
    return _Run(
        stages,
        np.where(better, skipping.total_s, dense.total_s),
        np.where(better, skipping.traffic_bytes, dense.traffic_bytes),
        np.where(better, skipping.energy_j, dense.energy_j),
    )
