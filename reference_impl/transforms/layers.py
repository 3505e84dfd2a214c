"""Layers that take the place of plain ones under a rule: packed weights, quantised inputs."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from model_graphs.dtypes import tensor_bytes
from model_graphs.expressions import as_expression
from model_graphs.graph import Role
from model_graphs.graph import Tensor as GraphTensor
from model_graphs.transforms import Rule
from reference_impl import kernels
from reference_impl.formats import Packed, pack, part_names, unpack
from reference_impl.layers import Layer, Linear, QKVLinear
from reference_impl.parts.feed_forward import Experts
from reference_impl.parts.latent_attention import LatentAttention, NaiveAttention

#: quantised forms of tensors that are alive: one quantisation serves all consumers of a tensor
_QUANTISED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class Quantize(Layer):
    """Quantisation of a product's input, done once however many products read it."""

    def __init__(self, component: str, dtype: str) -> None:
        super().__init__(component)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """Codes, scales of blocks and scale of the whole; the input itself where the type is bf16."""
        if self.dtype == "bf16":
            return [x]
        found = _QUANTISED.setdefault(x, {})
        if self.dtype not in found:
            found[self.dtype] = kernels.quantize(x, self.dtype)
        return found[self.dtype]


class PackedLayer(Layer):
    """A layer whose weights are packed under a rule, each as buffers named after it.

    `stored_bytes` are those of its `n_elements` in a model whose plain weights are bf16.
    """

    def __init__(self, plain: Layer, rule: Rule) -> None:
        super().__init__(plain.component, plain.shard)
        self.rule = rule
        self.quantize = Quantize(plain.component, rule.inputs)
        self._attrs = plain.attrs
        self.n_elements = self.stored_bytes = 0

    @property
    def attrs(self) -> Mapping[str, int | str]:
        """Attributes of the plain layer."""
        return self._attrs

    def hold(self, name: str, weight: Tensor) -> None:
        """Keep the weight in packed form."""
        shape = tuple(as_expression(size) for size in weight.shape)
        said = GraphTensor(shape, self.rule.storage, Role.WEIGHT)
        self.n_elements += weight.numel()
        self.stored_bytes += int(tensor_bytes(said))
        for part, tensor in pack(weight.detach(), self.rule.storage).parts.items():
            self.register_buffer(f"{name}_{part}", tensor)

    def parts(self, name: str) -> list[Tensor]:
        """The tensors of a packed weight, in order."""
        return [getattr(self, f"{name}_{part}") for part in part_names(self.rule.storage)]


class PackedLinear(PackedLayer):
    """A product with a packed weight [n, k]; `weight` is what it stands for, for those who read that."""

    def __init__(self, plain: Linear, rule: Rule) -> None:
        super().__init__(plain, rule)
        self.n, self.k = plain.weight.shape
        self.hold("weight", plain.weight)
        values = unpack(Packed.of(self.parts("weight"), rule.storage), rule.storage, (self.n, self.k))
        self.weight = nn.Parameter(values.to(plain.weight.dtype), requires_grad=False)
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """The product [.., n]."""
        return kernels.packed_linear(
            self.quantize(x),
            self.parts("weight"),
            self.rule.storage,
            self.rule.inputs,
            self.n,
            self.k,
            self.rule.accumulation,
            x.dtype,
            self.bias,
        )


class PackedQKV(PackedLinear):
    """Queries, keys and values in one packed product."""

    def __init__(self, plain: QKVLinear, rule: Rule) -> None:
        super().__init__(plain, rule)
        self.head_dim, self.kv_heads, self.widths = plain.head_dim, plain.kv_heads, plain.widths


class PackedExperts(PackedLayer):
    """Routed experts with packed weights."""

    def __init__(self, plain: Experts, rule: Rule) -> None:
        super().__init__(plain, rule)
        self.width, self.inter = plain.down_proj.shape[1:]
        self.hold("gate_up", plain.gate_up_proj)
        self.hold("down", plain.down_proj)
        self.first_expert, self.n_experts = plain.first_expert, plain.n_experts
        self.activation = plain.activation
        self.gate_up_bias, self.down_bias = plain.gate_up_bias, plain.down_bias

    def forward(self, x_ND: Tensor, weights_NK: Tensor, indices_NK: Tensor) -> Tensor:
        """Weighted sum [N, D] over each token's experts."""
        return kernels.packed_experts(
            self.quantize(x_ND),
            weights_NK,
            indices_NK,
            self.parts("gate_up"),
            self.parts("down"),
            self.rule.storage,
            self.rule.inputs,
            self.width,
            self.inter,
            self.first_expert,
            self.n_experts,
            self.rule.accumulation,
            x_ND.dtype,
            self.activation,
            self.gate_up_bias,
            self.down_bias,
        )


class SummedNaiveAttention(Layer):
    """Naive attention whose values are summed in few bits."""

    def __init__(self, plain: NaiveAttention, accumulation: str) -> None:
        super().__init__(plain.component, plain.shard)
        self.accumulation = accumulation

    def forward(
        self, q_BSHC: Tensor, q_BSHP: Tensor, k_BTHC: Tensor, k_BTP: Tensor, v_BTHV: Tensor, scale: float
    ) -> Tensor:
        """Outputs [B, S, H, V]."""
        return kernels.summed_attention(q_BSHC, q_BSHP, k_BTHC, k_BTP, v_BTHV, scale, self.accumulation)


class SummedLatentAttention(Layer):
    """Absorbed attention whose latents are summed in few bits."""

    def __init__(self, plain: LatentAttention, accumulation: str) -> None:
        super().__init__(plain.component, plain.shard)
        self.accumulation = accumulation

    def forward(self, q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, scale: float) -> Tensor:
        """Latent outputs [B, S, H, L]."""
        return kernels.summed_mla_attention(q_BSHL, q_BSHP, cache_BTM, scale, self.accumulation)
