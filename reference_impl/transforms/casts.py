"""Layers of a model in fp32 that cast the operands of their products to bf16 at each call."""

from collections.abc import Mapping

from torch import Tensor

from reference_impl import kernels
from reference_impl.layers import Layer, Linear
from reference_impl.parts.feed_forward import Experts


class CastInput(Layer):
    """The cast of a product's input."""

    def forward(self, x: Tensor) -> Tensor:
        """The input in bf16."""
        return kernels.cast_input(x)


class CastWeight(Layer):
    """The cast of a weight, which stays the product's."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight in bf16."""
        return kernels.cast_weight(weight)


class CastLinear(Layer):
    """A product whose operands are cast."""

    def __init__(self, plain: Linear) -> None:
        super().__init__(plain.component, plain.shard)
        self.weight, self.bias = plain.weight, plain.bias
        self.cast_input, self.cast_weight = CastInput(plain.component), CastWeight(plain.component)
        self._attrs = plain.attrs

    @property
    def attrs(self) -> Mapping[str, int | str]:
        """Attributes of the plain layer."""
        return self._attrs

    def forward(self, x: Tensor) -> Tensor:
        """The product [.., n]."""
        return kernels.cast_linear(self.cast_input(x), self.cast_weight(self.weight), self.bias)


class CastExperts(Layer):
    """Routed experts whose operands are cast."""

    def __init__(self, plain: Experts) -> None:
        super().__init__(plain.component, plain.shard)
        self.gate_up_proj, self.down_proj = plain.gate_up_proj, plain.down_proj
        self.first_expert, self.n_experts = plain.first_expert, plain.n_experts
        self.activation = plain.activation
        self.cast_input = CastInput(plain.component)
        self.cast_gate_up, self.cast_down = CastWeight(plain.component), CastWeight(plain.component)

    def forward(self, x_ND: Tensor, weights_NK: Tensor, indices_NK: Tensor) -> Tensor:
        """Weighted sum [N, D] over each token's experts."""
        return kernels.cast_experts(
            self.cast_input(x_ND),
            weights_NK,
            indices_NK,
            self.cast_gate_up(self.gate_up_proj),
            self.cast_down(self.down_proj),
            self.first_expert,
            self.n_experts,
            self.activation,
        )
