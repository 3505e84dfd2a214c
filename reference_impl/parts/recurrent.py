"""Recurrent mixers: Mamba-2 and Gated DeltaNet, which keep a state of one size for a sequence of any length.

Dimensions in names: B sequences, S new tokens, D hidden, X channels, W tokens of the convolution, H heads of
this rank, P width of a head, G groups of heads, N size of a head's state, K key heads, C width of a key, V
width of a value. A layer's cache is a pair: the last inputs of the convolution, and the state of the scan.

References: Mamba-2 (arXiv 2405.21060) section 8.2; Nemotron-H (arXiv 2504.03624) section 2.1; Gated DeltaNet
(arXiv 2412.06464) section 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_graphs.blueprint import DeltaNetSpec, Mamba2Spec
from model_graphs.graph import Shard
from reference_impl import kernels
from reference_impl.layers import GatedRMSNorm, Layer, Linear, StackedLinear, parameter
from reference_impl.parts.rotary import Tables

#: shape of a sequence's part, and its element type
StateShape = tuple[tuple[int, ...], torch.dtype]
State = tuple[Tensor, Tensor]


class CausalConv1d(Layer):
    """A convolution of each channel over the last tokens; channels are stacked in parts of `widths`."""

    def __init__(self, widths: Sequence[int], n_tokens: int, component: str, *, bias: bool) -> None:
        super().__init__(component, Shard.CHANNEL)
        self.widths = tuple(widths)
        self.weight = parameter(sum(widths), n_tokens)
        self.bias = parameter(sum(widths)) if bias else None

    @property
    def state_shape(self) -> StateShape:
        """Of the inputs that are kept, on this rank."""
        channels, n_tokens = self.weight.shape
        return (channels, n_tokens - 1), self.weight.dtype

    def forward(self, x_BSX: Tensor, state_BXW: Tensor | None) -> tuple[Tensor, Tensor]:
        """The activated sums, and the inputs that the next tokens need."""
        return kernels.causal_conv1d(x_BSX, self.weight, self.bias, state_BXW)


class Scan(Layer):
    """What both recurrences learn of a head's decay."""

    def __init__(self, heads: int, component: str) -> None:
        super().__init__(component, Shard.CHANNEL)
        self.A_log = parameter(heads)
        self.dt_bias = parameter(heads)


class Mamba2Scan(Scan):
    """Mamba-2's recurrence."""

    def __init__(self, spec: Mamba2Spec) -> None:
        super().__init__(spec.heads, "mamba")
        self.D = parameter(spec.heads)
        self.chunk = spec.chunk

    def forward(
        self, x_BSHP: Tensor, dt_BSH: Tensor, B_BSGN: Tensor, C_BSGN: Tensor, state_BHPN: Tensor | None
    ) -> State:
        """Outputs and the state after them."""
        return kernels.mamba2_scan(
            x_BSHP, dt_BSH, B_BSGN, C_BSGN, self.A_log, self.D, self.dt_bias, state_BHPN, self.chunk
        )


class Mamba2(nn.Module):
    """A product into gate, convolved channels and step sizes; convolution, scan, gated norm, product out."""

    def __init__(self, spec: Mamba2Spec, D: int, eps: float) -> None:
        super().__init__()
        X, shared = spec.inner, spec.groups * spec.state
        self.head_dim, self.state_dim = spec.head_dim, spec.state
        self.in_proj = StackedLinear(D, (X, X, shared, shared, spec.heads), "mamba")
        self.conv1d = CausalConv1d((X, shared, shared), spec.conv, "mamba", bias=spec.conv_bias)
        self.scan = Mamba2Scan(spec)
        self.norm = GatedRMSNorm(X, X // spec.groups, eps, Shard.CHANNEL, gate_first=True)
        self.out_proj = Linear(X, D, "mamba", Shard.ROW)

    @property
    def state_shapes(self) -> tuple[StateShape, StateShape]:
        """Shapes of a sequence's cache on this rank."""
        heads = self.scan.A_log.shape[0]
        return self.conv1d.state_shape, ((heads, self.head_dim, self.state_dim), torch.float32)

    def forward(
        self, x_BSD: Tensor, tables: Tables, past: State | None, absorbed: bool
    ) -> tuple[Tensor, State]:
        """Output [B, S, D] and the cache; positions and `absorbed` have no meaning here."""
        conv_state, state = past or (None, None)
        inner, *convolved, heads = self.in_proj.widths
        z_BSX, xBC_BSX, dt_BSH = self.in_proj(x_BSD).split((inner, sum(convolved), heads), -1)
        xBC_BSX, conv_state = self.conv1d(xBC_BSX, conv_state)
        x_BSX, B_BSX, C_BSX = xBC_BSX.split(tuple(convolved), -1)
        B_BSGN, C_BSGN = (part.unflatten(-1, (-1, self.state_dim)) for part in (B_BSX, C_BSX))
        y_BSHP, state = self.scan(x_BSX.unflatten(-1, (-1, self.head_dim)), dt_BSH, B_BSGN, C_BSGN, state)
        return self.out_proj(self.norm(y_BSHP.flatten(2), z_BSX)), (conv_state, state)


class DeltaRule(Scan):
    """The recurrence of Gated DeltaNet."""

    def forward(
        self,
        q_BSKC: Tensor,
        k_BSKC: Tensor,
        v_BSHV: Tensor,
        decay_BSH: Tensor,
        rate_BSH: Tensor,
        state_BHCV: Tensor | None,
    ) -> State:
        """Outputs and the state after them."""
        return kernels.gated_delta_rule(
            q_BSKC, k_BSKC, v_BSHV, decay_BSH, rate_BSH, self.A_log, self.dt_bias, state_BHCV
        )


class GatedDeltaNet(nn.Module):
    """Products into convolved queries, keys, values and a gate, and into rate and decay; then as in Mamba-2.

    The small product stays in 16 bits where the large one does not, so it is one of its own.
    """

    def __init__(self, spec: DeltaNetSpec, D: int, eps: float) -> None:
        super().__init__()
        component = "linear_attention"
        keys, values = spec.key_heads * spec.key_dim, spec.value_heads * spec.value_dim
        self.key_dim, self.value_dim = spec.key_dim, spec.value_dim
        self.in_proj_qkvz = StackedLinear(D, (keys, keys, values, values), component)
        self.in_proj_ba = StackedLinear(D, (spec.value_heads, spec.value_heads), "gate")
        self.conv1d = CausalConv1d((keys, keys, values), spec.conv, component, bias=False)
        self.delta_rule = DeltaRule(spec.value_heads, component)
        self.norm = GatedRMSNorm(spec.value_dim, spec.value_dim, eps, Shard.HEAD, gate_first=False)
        self.out_proj = Linear(values, D, component, Shard.ROW)

    @property
    def state_shapes(self) -> tuple[StateShape, StateShape]:
        """Shapes of a sequence's cache on this rank."""
        heads = self.delta_rule.A_log.shape[0]
        return self.conv1d.state_shape, ((heads, self.key_dim, self.value_dim), torch.float32)

    def forward(
        self, x_BSD: Tensor, tables: Tables, past: State | None, absorbed: bool
    ) -> tuple[Tensor, State]:
        """Output [B, S, D] and the cache; positions and `absorbed` have no meaning here."""
        conv_state, state = past or (None, None)
        *convolved, values = self.in_proj_qkvz.widths
        qkv_BSX, z_BSX = self.in_proj_qkvz(x_BSD).split((sum(convolved), values), -1)
        rate_BSH, decay_BSH = self.in_proj_ba(x_BSD).split(self.in_proj_ba.widths, -1)
        qkv_BSX, conv_state = self.conv1d(qkv_BSX, conv_state)
        q_BSX, k_BSX, v_BSX = qkv_BSX.split(tuple(convolved), -1)
        q_BSKC, k_BSKC = (part.unflatten(-1, (-1, self.key_dim)) for part in (q_BSX, k_BSX))
        v_BSHV, z_BSHV = (part.unflatten(-1, (-1, self.value_dim)) for part in (v_BSX, z_BSX))
        o_BSHV, state = self.delta_rule(q_BSKC, k_BSKC, v_BSHV, decay_BSH, rate_BSH, state)
        return self.out_proj(self.norm(o_BSHV, z_BSHV).flatten(2)), (conv_state, state)
