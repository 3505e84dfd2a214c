"""A matrix engine of a device as data: which products it runs and what that costs.

All else is left to the digital unit, which the device's own dense peaks and memory describe.

An engine states its rate in one of two ways: a dense `peak` a dtype, or an `array` of cells in which weights
stand still. Figures are at the engine's edge: bytes from the device's memory, elements through converters,
products inside. `simulator.costs.engines` prices products from this record and nothing else.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.fields import (
    BytesPerSecondQ,
    CountQ,
    FlopPerSecondQ,
    FractionQ,
    HzQ,
    JoulesPerByteQ,
    JoulesQ,
    NumberQ,
    SecondsQ,
    WattsQ,
)

#: what an engine may run: products of activations with weights
EngineOperator = Literal["linear", "moe_experts"]
EngineDtype = Literal["bf16", "fp8", "int8", "fp4"]
#: what happens to a product's data, in order
Stage = Literal["fetch", "decompress", "load", "compute", "compress", "store"]
Pattern = Literal["unstructured", "2of4"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArraySpec(_Record):
    """Arrays that hold a tile of a weight each and multiply it by one vector at a time.

    As many weights of a model as there are cells stay where they are; a step loads the others anew.
    """

    rows: CountQ = Field(description="inner width of a tile")
    columns: CountQ = Field(description="outputs of a tile")
    count: CountQ = Field(description="arrays that work at the same time")
    vector_rate: HzQ = Field(description="input vectors a second through one array, conversions included")
    bits: NumberQ = Field(description="effective bits of a product's result")
    load_rate: BytesPerSecondQ = Field(description="bytes of weights a second into all arrays")
    load_latency: SecondsQ = Field(description="before the first vector after a reload")
    load_energy: JoulesPerByteQ = Field(description="of weights written into cells")

    @property
    def cells(self) -> float:
        """Weights that the arrays hold."""
        return self.rows.value * self.columns.value * self.count.value

    @property
    def peak_flop_per_s(self) -> float:
        """Rate with every cell at work."""
        return 2 * self.cells * self.vector_rate.value


class ConversionSpec(_Record):
    """What crosses from digital words to the engine's own signals and back."""

    latency: SecondsQ = Field(description="of the first element, both ways together")
    input_energy: JoulesQ = Field(description="of one element into one array")
    output_energy: JoulesQ = Field(description="of one partial sum out of one array")


class SparseUnit(_Record):
    """How much of a product is saved where weights are zero."""

    index_bits_per_nonzero: NumberQ | None = Field(None, description="of a format that lists positions")
    index_bits_per_element: NumberQ | None = Field(None, description="of a bitmap")
    compute_gain_limit: NumberQ = Field(description="of multiplying; 1 multiplies every zero")
    overhead: FractionQ = Field(description="share of the dense product's time that no zero takes away")

    @model_validator(mode="after")
    def _has_one_index(self) -> Self:
        if (self.index_bits_per_nonzero is None) == (self.index_bits_per_element is None):
            requirement = "exactly one of index_bits_per_nonzero and index_bits_per_element must be given"
            raise InputError(Problem(requirement))
        if self.compute_gain_limit.value < 1:
            given = f"{self.compute_gain_limit.value:g}"
            raise InputError(Problem("must be at least 1", given, path="compute_gain_limit.value"))
        return self

    def bits_per_element(self, element_bits: float, density: float) -> float:
        """Bits read an element of the dense matrix, of which a share `density` is not zero."""
        if self.index_bits_per_nonzero is not None:
            return density * (element_bits + self.index_bits_per_nonzero.value)
        assert self.index_bits_per_element is not None
        return density * element_bits + self.index_bits_per_element.value

    def compute_fraction(self, density: float) -> float:
        """Multiplications done over those of the dense product."""
        return max(density, 1 / self.compute_gain_limit.value)


class EngineSpec(_Record):
    """A matrix engine beside the digital unit of a device."""

    name: str = Field(min_length=1)
    limits: Annotated[tuple[str, ...], Field(min_length=1, description="what it cannot do, in words")]
    digital_unit: str = Field(
        min_length=1,
        description="runs all else at the device's dense peaks and memory; where it is the key of a device "
        "with power constants, they hold for it",
    )
    operators: Annotated[tuple[EngineOperator, ...], Field(min_length=1)]
    dtypes: Annotated[
        tuple[EngineDtype, ...], Field(min_length=1, description="the device has peaks of them")
    ]
    peak: dict[EngineDtype, FlopPerSecondQ] | None = Field(None, description="dense; or give an array")
    array: ArraySpec | None = None
    efficiency: FractionQ = Field(description="share of the engine's rate that a full product reaches")
    memory_efficiency: FractionQ = Field(description="share of the memory's bandwidth that its streams reach")
    launch: SecondsQ = Field(description="of a product that does nothing")
    conversion: ConversionSpec | None = None
    energy_per_mac: JoulesQ = Field(description="of a multiplication with its addition, inside the engine")
    static_power: WattsQ = Field(description="beside the digital unit's, whatever is computed: lasers, bias")
    sparsity: dict[Pattern, SparseUnit] = {}
    overlapping: tuple[Stage, ...] = Field(description="stages that run at the same time; others follow")
    decompression: BytesPerSecondQ | None = Field(None, description="stored bytes of weights a second")
    compression: BytesPerSecondQ | None = Field(None, description="bytes of results a second")

    @model_validator(mode="after")
    def _has_one_rate(self) -> Self:
        if (self.peak is None) == (self.array is None):
            raise InputError(Problem("exactly one of peak and array must be given"))
        if self.peak is not None and (missing := [one for one in self.dtypes if one not in self.peak]):
            raise InputError(Problem("must have an entry for every dtype", ", ".join(missing), path="peak"))
        return self

    def peak_flop_per_s(self, dtype: EngineDtype) -> float:
        """Dense rate of a dtype with everything at work."""
        if self.array is not None:
            return self.array.peak_flop_per_s
        assert self.peak is not None
        return self.peak[dtype].value
