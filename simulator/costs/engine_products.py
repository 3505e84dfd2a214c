"""What a matrix engine sees of an operator: its products, the weights behind them, and their zeros."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from hardware_specs.engines import Pattern
from hardware_specs.parts import PEAK_OF_DTYPE
from model_graphs.dtypes import tensor_bytes
from model_graphs.graph import Operator, OperatorGraph, Role, Tensor
from simulator.costs.estimates import FloatArray
from simulator.costs.operators import Bindings, load_of, tokens_of_all_ranks


@dataclass(frozen=True)
class Product:
    """`copies` products of [rows, k] by [k, n], such as one for each expert that a token chose."""

    rows: FloatArray
    n: float
    k: float
    copies: FloatArray

    @property
    def macs(self) -> FloatArray:
        """Multiplications of the dense products."""
        return self.rows * self.n * self.k * self.copies


@dataclass(frozen=True)
class EngineCall:
    """An operator at one point or many: products, dense bytes of the weights used, activations in and out."""

    products: tuple[Product, ...]
    weight_bytes: FloatArray
    read_bytes: FloatArray
    written_bytes: FloatArray
    zeros: "Zeros | None"

    @property
    def macs(self) -> FloatArray:
        """Multiplications of the dense products."""
        return np.asarray(sum(product.macs for product in self.products))

    @property
    def elements(self) -> FloatArray:
        """Weights used, zeros included."""
        return np.asarray(sum(product.n * product.k * product.copies for product in self.products))


@dataclass(frozen=True)
class Zeros:
    """How the zeros of a weight lie, and the share of its elements that are none."""

    pattern: Pattern
    density: float


def engine_call(operator: Operator, bindings: Bindings) -> EngineCall:
    """What the operator asks of an engine; its kind is one of `hardware_specs.engines.EngineOperator`."""
    weights = _weights(operator)
    dense = sum(float(tensor_bytes(_spread_out(tensor)).evaluate({})) for tensor in weights)
    products = _experts(operator, bindings) if operator.kind == "moe_experts" else _linear(operator, bindings)
    used = sum(product.n * product.k * product.copies for product in products)
    stored = sum(_elements(tensor) for tensor in weights)
    return EngineCall(
        products=products,
        weight_bytes=np.asarray(dense * used / stored),
        read_bytes=operator.activation_read_bytes.evaluate(bindings),
        written_bytes=operator.activation_write_bytes.evaluate(bindings),
        zeros=zeros_of(weights[0].dtype),
    )


def zeros_of(dtype: str) -> Zeros | None:
    """The zeros that a storage names, such as `bf16:0.7`; None where it names none."""
    layout = dtype.partition(":")[2]
    if not layout:
        return None
    return Zeros("2of4", 0.5) if layout == "2of4" else Zeros("unstructured", 1 - float(layout))


def peak_entry(operator: Operator) -> str:
    """The entry of a table of peaks that bounds the operator."""
    return PEAK_OF_DTYPE.get(operator.compute_dtype, operator.compute_dtype)


def weight_elements(graph: OperatorGraph, kinds: tuple[str, ...]) -> float:
    """Weights of all operators of these kinds in a rank's graph."""
    return sum(
        block.repeat * sum(_elements(tensor) for tensor in _weights(operator))
        for block in graph.blocks
        for operator in block.operators
        if operator.kind in kinds
    )


def _weights(operator: Operator) -> list[Tensor]:
    return [
        tensor
        for tensor in operator.inputs
        if tensor.role is Role.WEIGHT and not tensor.name.startswith("bias")
    ]


def _spread_out(tensor: Tensor) -> Tensor:
    return replace(tensor, dtype=tensor.dtype.partition(":")[0])


def _elements(tensor: Tensor) -> float:
    return prod(float(dim.evaluate({})) for dim in tensor.shape)


def _linear(operator: Operator, bindings: Bindings) -> tuple[Product, ...]:
    x = next(tensor for tensor in operator.inputs if tensor.role is Role.ACTIVATION)
    *leading, k = (dim.evaluate(bindings) for dim in x.shape)
    n = float(operator.outputs[0].shape[-1].evaluate(bindings))
    return (Product(np.asarray(prod(leading, start=np.float64(1.0))), n, float(k), np.asarray(1.0)),)


def _experts(operator: Operator, bindings: Bindings) -> tuple[Product, ...]:
    """Both products of the experts that the busiest rank's tokens chose, each with its mean share of rows."""
    tokens: Any = np.asarray(tokens_of_all_ranks(operator, bindings), np.float64)
    load = load_of(operator, bindings)
    active = np.maximum(load.active, 1e-9)
    rows, active = ((load.rows / active).reshape(tokens.shape), active.reshape(tokens.shape))
    x = next(tensor for tensor in operator.inputs if tensor.role is Role.ACTIVATION)
    hidden, inter = float(x.shape[-1].evaluate(bindings)), float(operator.attrs["inter"])
    into = inter if "ungated" in operator.attrs else 2 * inter
    return (Product(rows, into, hidden, active), Product(rows, hidden, inter, active))
