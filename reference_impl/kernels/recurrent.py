"""Kernels of recurrent mixers: the short convolution, Mamba-2's scan, the gated delta rule, gated norms.

Dimensions: B sequences, S new tokens, X channels, W tokens of a convolution, H heads, G groups of heads, P
width of a head, N size of its state, K key heads, C width of a key, V width of a value. A state is what a
sequence leaves behind, of one size however long it is; none means an empty sequence. Those of scans are fp32.

The work is that of the chunked algorithms: inside a chunk of Q tokens each token meets the others as in
attention, the state carries what came before. Elementwise work is left out, as everywhere, and so is the
inverse of the delta rule's Q x Q triangle. FLOP count all pairs of a chunk, causal FLOP those at or below
the diagonal.

References: Mamba-2 (arXiv 2405.21060) section 6; DeltaNet in chunks (arXiv 2406.06484) section 3.2; Gated
DeltaNet (arXiv 2412.06464) section 3.3.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor

from model_graphs.graph import Role
from reference_impl.kernels.registry import Call, Dim, Scalar, kernel, product

DELTA_CHUNK = 64
LENGTH_EPS = 1e-6  # of the unit length that the delta rule's queries and keys are brought to


def _conv_fake(
    x_BSX: Tensor, weight_XW: Tensor, bias_X: Tensor | None, state_BXW: Tensor | None
) -> tuple[Tensor, Tensor]:
    n_batch, _, channels = x_BSX.shape
    return x_BSX.new_empty(x_BSX.shape), x_BSX.new_empty((n_batch, channels, weight_XW.shape[1] - 1))


@kernel(
    "causal_conv1d",
    fake=_conv_fake,
    inputs={"weight_XW": Role.WEIGHT, "bias_X": Role.WEIGHT, "state_BXW": Role.STATE},
    outputs=(Role.ACTIVATION, Role.STATE),
)
def causal_conv1d(
    x_BSX: Tensor, weight_XW: Tensor, bias_X: Tensor | None, state_BXW: Tensor | None
) -> tuple[Tensor, Tensor]:
    """SiLU of each channel's weighted sum over its last W tokens, and the last W - 1 inputs [B, X, W - 1]."""
    n_batch, n_new, channels = x_BSX.shape
    before = weight_XW.shape[1] - 1
    past = x_BSX.new_zeros((n_batch, channels, before)) if state_BXW is None else state_BXW
    seen = torch.cat([past, x_BSX.transpose(1, 2)], -1)
    summed = F.conv1d(seen, weight_XW.unsqueeze(1), bias_X, groups=channels)
    return F.silu(summed).transpose(1, 2).contiguous(), seen[..., n_new:].clone(
        memory_format=torch.contiguous_format
    )


def _gated_norm_fake(
    x: Tensor, gate: Tensor, weight: Tensor, eps: float, group_width: int, gate_first: bool
) -> Tensor:
    return x.new_empty(x.shape)


@kernel("gated_rmsnorm", fake=_gated_norm_fake, inputs={"weight": Role.WEIGHT})
def gated_rmsnorm(
    x: Tensor, gate: Tensor, weight: Tensor, eps: float, group_width: int, gate_first: bool
) -> Tensor:
    """Each group of features over its root mean square, times the weight, and SiLU of the gate on one side.

    The gate multiplies the input with `gate_first`, else the output.
    """
    opened = F.silu(gate.float())
    wide = x.float() * opened if gate_first else x.float()
    grouped = wide.unflatten(-1, (-1, group_width))
    grouped = grouped * torch.rsqrt(grouped.pow(2).mean(-1, keepdim=True) + eps)
    normed = weight * grouped.flatten(-2).to(x.dtype)
    return (normed if gate_first else normed * opened).to(x.dtype).contiguous()


def _pairs_in_chunks(n_new: Dim, chunk: int) -> Dim:
    """Pairs of tokens that share a chunk: whole chunks, and what is left over."""
    whole = n_new // chunk
    rest = n_new - whole * chunk
    return whole * (chunk * chunk) + rest * rest


def _twice_causal_pairs(n_new: Dim, chunk: int) -> Dim:
    """Twice the pairs at or below the diagonal: all pairs, and the diagonal once more."""
    return _pairs_in_chunks(n_new, chunk) + n_new


def _scan_fake(
    x_BSHP: Tensor,
    dt_BSH: Tensor,
    B_BSGN: Tensor,
    C_BSGN: Tensor,
    A_log_H: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    state_BHPN: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    n_batch, _, heads, width = x_BSHP.shape
    state = x_BSHP.new_empty((n_batch, heads, width, B_BSGN.shape[3]), dtype=torch.float32)
    return x_BSHP.new_empty(x_BSHP.shape), state


def _scan_pair_flop(call: Call) -> Dim:
    """Of one pair of tokens: C B of each group over N, its product with x of each head over P."""
    _, _, heads, width = call["x_BSHP"].shape
    _, _, groups, state = call["B_BSGN"].shape
    return groups * state + heads * width


def _scan_state_flop(call: Call) -> Dim:
    """Of all tokens: into the state and out of it."""
    return 4 * product(*call["x_BSHP"].shape, call["B_BSGN"].shape[3])


def _scan_flop(call: Call) -> Dim:
    n_batch, n_new = call["x_BSHP"].shape[:2]
    pairs = _pairs_in_chunks(n_new, int(call.scalars["chunk"]))
    return 2 * product(n_batch, pairs, _scan_pair_flop(call)) + _scan_state_flop(call)


def _scan_causal_flop(call: Call) -> Dim:
    n_batch, n_new = call["x_BSHP"].shape[:2]
    pairs = _twice_causal_pairs(n_new, int(call.scalars["chunk"]))
    return product(n_batch, pairs, _scan_pair_flop(call)) + _scan_state_flop(call)


def _scan_attrs(call: Call) -> dict[str, Scalar]:
    _, _, heads, width = call["x_BSHP"].shape
    _, _, groups, state = call["B_BSGN"].shape
    return {
        "n_heads": int(heads),
        "head_dim": int(width),
        "n_state_groups": int(groups),
        "state_dim": int(state),
        "chunk": int(call.scalars["chunk"]),
    }


@kernel(
    "mamba2_scan",
    fake=_scan_fake,
    inputs={
        "A_log_H": Role.WEIGHT,
        "D_H": Role.WEIGHT,
        "dt_bias_H": Role.WEIGHT,
        "state_BHPN": Role.STATE,
    },
    outputs=(Role.ACTIVATION, Role.STATE),
    flop=_scan_flop,
    rules={"causal_flop": _scan_causal_flop},
    attrs=_scan_attrs,
)
def mamba2_scan(
    x_BSHP: Tensor,
    dt_BSH: Tensor,
    B_BSGN: Tensor,
    C_BSGN: Tensor,
    A_log_H: Tensor,
    D_H: Tensor,
    dt_bias_H: Tensor,
    state_BHPN: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Outputs [B, S, H, P] of h = exp(dt A) h + dt x B, y = C h + D x, and the last h [B, H, P, N] in fp32.

    dt is the softplus of its input plus `dt_bias`, without limits; A is -exp(A_log). Heads of a group share B
    and C.
    """
    heads, per_group = x_BSHP.shape[2], x_BSHP.shape[2] // B_BSGN.shape[2]
    x_BHSP = x_BSHP.float().transpose(1, 2)
    dt_BHS = F.softplus(dt_BSH.float() + dt_bias_H.float()).transpose(1, 2)
    decay_BHS = dt_BHS * -A_log_H.float().exp().view(1, heads, 1)
    b_BHSN, c_BHSN = (z.float().transpose(1, 2).repeat_interleave(per_group, 1) for z in (B_BSGN, C_BSGN))
    state = _initial(state_BHPN, x_BHSP, x_BHSP.shape[0], heads, x_BHSP.shape[3], b_BHSN.shape[3])
    pieces = (z.split(chunk, 2) for z in (x_BHSP * dt_BHS.unsqueeze(-1), decay_BHS, b_BHSN, c_BHSN))
    outputs = []
    for x, decay, b, c in zip(*pieces, strict=True):
        out, state = _scan_chunk(x, decay, b, c, state)
        outputs.append(out)
    y_BHSP = torch.cat(outputs, 2) + x_BHSP * D_H.float().view(1, heads, 1, 1)
    return y_BHSP.transpose(1, 2).to(x_BSHP.dtype).contiguous(), state


def _initial(state: Tensor | None, like: Tensor, *shape: int) -> Tensor:
    """The state in fp32; zeros where there is none."""
    return like.new_zeros(shape, dtype=torch.float32) if state is None else state.float()


def _scan_chunk(
    x_BHQP: Tensor, decay_BHQ: Tensor, b_BHQN: Tensor, c_BHQN: Tensor, state_BHPN: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs of a chunk and the state after it; x comes times dt, decay is in log space."""
    since_start = decay_BHQ.cumsum(-1)
    scores_BHQQ = c_BHQN @ b_BHQN.transpose(-1, -2) * _decays_between(since_start)
    from_state = c_BHQN @ state_BHPN.transpose(-1, -2) * since_start.exp().unsqueeze(-1)
    until_end = (since_start[..., -1:] - since_start).exp().unsqueeze(-1)
    written = x_BHQP.transpose(-1, -2) @ (b_BHQN * until_end)
    return scores_BHQQ @ x_BHQP + from_state, state_BHPN * _whole(since_start) + written


def _decays_between(since_start: Tensor) -> Tensor:
    """What is left at token i of what token j wrote, [.., i, j]; zero for later tokens."""
    between = since_start.unsqueeze(-1) - since_start.unsqueeze(-2)
    later = torch.ones_like(between, dtype=torch.bool).triu(1)
    return between.masked_fill(later, float("-inf")).exp()


def _whole(since_start: Tensor) -> Tensor:
    """The decay over a whole chunk, to multiply a state."""
    return since_start[..., -1].exp()[..., None, None]


def _delta_fake(
    q_BSKC: Tensor,
    k_BSKC: Tensor,
    v_BSHV: Tensor,
    decay_BSH: Tensor,
    rate_BSH: Tensor,
    A_log_H: Tensor,
    dt_bias_H: Tensor,
    state_BHCV: Tensor | None,
) -> tuple[Tensor, Tensor]:
    n_batch, _, heads, width = v_BSHV.shape
    state = v_BSHV.new_empty((n_batch, heads, q_BSKC.shape[3], width), dtype=torch.float32)
    return v_BSHV.new_empty(v_BSHV.shape), state


def _delta_pair_flop(call: Call) -> Dim:
    """Of one pair of tokens: three products over C (q k, k k, triangle by keys), two over V."""
    heads, value = call["v_BSHV"].shape[2:]
    return heads * (3 * call["q_BSKC"].shape[3] + 2 * value)


def _delta_state_flop(call: Call) -> Dim:
    """Of all tokens: what the state says of keys and of queries, and what is written to it."""
    return 6 * product(*call["v_BSHV"].shape, call["q_BSKC"].shape[3])


def _delta_flop(call: Call) -> Dim:
    n_batch, n_new = call["v_BSHV"].shape[:2]
    pairs = _pairs_in_chunks(n_new, DELTA_CHUNK)
    return 2 * product(n_batch, pairs, _delta_pair_flop(call)) + _delta_state_flop(call)


def _delta_causal_flop(call: Call) -> Dim:
    n_batch, n_new = call["v_BSHV"].shape[:2]
    pairs = _twice_causal_pairs(n_new, DELTA_CHUNK)
    return product(n_batch, pairs, _delta_pair_flop(call)) + _delta_state_flop(call)


def _delta_attrs(call: Call) -> dict[str, Scalar]:
    heads, value = call["v_BSHV"].shape[2:]
    key_heads, key = call["q_BSKC"].shape[2:]
    return {
        "n_heads": int(heads),
        "n_kv_heads": int(key_heads),
        "qk_dim": int(key),
        "v_dim": int(value),
        "chunk": DELTA_CHUNK,
    }


@kernel(
    "gated_delta_rule",
    fake=_delta_fake,
    inputs={"A_log_H": Role.WEIGHT, "dt_bias_H": Role.WEIGHT, "state_BHCV": Role.STATE},
    outputs=(Role.ACTIVATION, Role.STATE),
    flop=_delta_flop,
    rules={"causal_flop": _delta_causal_flop},
    attrs=_delta_attrs,
)
def gated_delta_rule(
    q_BSKC: Tensor,
    k_BSKC: Tensor,
    v_BSHV: Tensor,
    decay_BSH: Tensor,
    rate_BSH: Tensor,
    A_log_H: Tensor,
    dt_bias_H: Tensor,
    state_BHCV: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Outputs q M [B, S, H, V] of M = g (M - b k (k M)) + b k v, and the last M [B, H, C, V] in fp32.

    Here g is exp(-exp(A_log) softplus(decay + dt_bias)) and b the sigmoid of the rate. Queries and keys are
    brought to unit length, queries then divided by the root of C; H / K consecutive heads share one of each.
    """
    n_batch, _, heads, width = v_BSHV.shape
    per_key = heads // q_BSKC.shape[2]
    q, k = (_unit(z.float()).transpose(1, 2).repeat_interleave(per_key, 1) for z in (q_BSKC, k_BSKC))
    v, rate = v_BSHV.float().transpose(1, 2), rate_BSH.float().sigmoid().transpose(1, 2)
    decay = -A_log_H.float().exp() * F.softplus(decay_BSH.float() + dt_bias_H.float())
    state = _initial(state_BHCV, v, n_batch, heads, q.shape[3], width)
    whole = (q * q.shape[3] ** -0.5, k, v, decay.transpose(1, 2), rate)
    outputs = []
    for q, k, v, decay, rate in zip(*(z.split(DELTA_CHUNK, 2) for z in whole), strict=True):
        out, state = _delta_chunk(q, k, v, decay, rate, state)
        outputs.append(out)
    return torch.cat(outputs, 2).transpose(1, 2).to(v_BSHV.dtype).contiguous(), state


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + LENGTH_EPS)


def _delta_chunk(
    q_BHQC: Tensor, k_BHQC: Tensor, v_BHQV: Tensor, decay_BHQ: Tensor, rate_BHQ: Tensor, state_BHCV: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs of a chunk and the state after it; decay is in log space.

    What a token writes depends on what earlier tokens of the chunk wrote: a triangular system.
    """
    since_start = decay_BHQ.cumsum(-1)
    between, left = _decays_between(since_start), since_start.exp().unsqueeze(-1)
    rate = rate_BHQ.unsqueeze(-1)
    system = rate * (k_BHQC @ k_BHQC.transpose(-1, -2)) * between
    missed = rate * (v_BHQV - left * (k_BHQC @ state_BHCV))
    written = torch.linalg.solve_triangular(system, missed, upper=False, unitriangular=True)
    out = left * (q_BHQC @ state_BHCV) + (q_BHQC @ k_BHQC.transpose(-1, -2) * between) @ written
    until_end = (since_start[..., -1:] - since_start).exp().unsqueeze(-1)
    return out, state_BHCV * _whole(since_start) + (k_BHQC * until_end).transpose(-1, -2) @ written
