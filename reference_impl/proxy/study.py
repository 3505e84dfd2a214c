"""What transforms cost in accuracy, on the proxy: divergence, agreement and loss beside full precision.

Every figure compares a transformed model with itself in fp32 on the same held-out passages. Divergence
is KL(full || transformed) in nats a byte; agreement is the share of bytes where both find the same next byte
likeliest; loss change is that of the cross-entropy, in nats a byte.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_graphs.transforms import Plan
from reference_impl.kernels import plain_kernels
from reference_impl.proxy.training import positions_of
from reference_impl.transforms import transform
from reference_impl.transforms.layers import PackedLayer

Array = NDArray[np.float64]
Passages = tuple[Tensor, Tensor]
#: tokens of one forward pass, which is what memory allows
TOKENS_TOGETHER = 4096


@dataclass(frozen=True)
class Scores:
    """Figures of every position of every passage, [passages, positions], and bits of a transformed weight."""

    divergence: Array
    agreement: Array
    loss_change: Array
    bits_a_weight: float


@torch.no_grad()
def compare(model: nn.Module, plans: Sequence[Plan], passages: Passages) -> tuple[Array, dict[str, Scores]]:
    """The loss of the plain model at every position, and the scores of each plan on these passages."""
    ids, following = passages
    full = _log_probabilities(model, ids)
    return _loss(full, following), {plan.name: _scores(model, plan, passages, full) for plan in plans}


def _scores(model: nn.Module, plan: Plan, passages: Passages, full: list[Tensor]) -> Scores:
    ids, following = passages
    changed = deepcopy(model)
    transform(changed, plan)
    reduced = _log_probabilities(changed, ids)
    pairs = list(zip(full, reduced, strict=True))
    return Scores(
        divergence=_array([(a.exp() * (a - b)).sum(-1) for a, b in pairs]),
        agreement=_array([(a.argmax(-1) == b.argmax(-1)).double() for a, b in pairs]),
        loss_change=_loss(reduced, following) - _loss(full, following),
        bits_a_weight=_bits_a_weight(changed),
    )


def _log_probabilities(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Log-probabilities [S, W] of each passage, in fp32; passages run together up to a number of tokens."""
    parts = ids.split(max(1, TOKENS_TOGETHER // ids.shape[1]))
    with plain_kernels():
        logits = [row for part in parts for row in model(part, positions_of(part))[0]]
    return [row.float().log_softmax(-1) for row in logits]


def _loss(log_probabilities: list[Tensor], following: Tensor) -> Array:
    picked = [p.gather(-1, row.unsqueeze(-1)) for p, row in zip(log_probabilities, following, strict=True)]
    return -_array([row.squeeze(-1) for row in picked])


def _array(rows: list[Tensor]) -> Array:
    return np.asarray(torch.stack(rows).double().numpy())


def _bits_a_weight(model: nn.Module) -> float:
    """Stored bits of an element over the packed layers, scales included; 16 where nothing is packed."""
    layers = [module for module in model.modules() if isinstance(module, PackedLayer)]
    elements = sum(layer.n_elements for layer in layers)
    return 8 * sum(layer.stored_bytes for layer in layers) / elements if elements else 16.0


@dataclass(frozen=True)
class Resampled:
    """A mean with the 90% interval of a bootstrap over passages."""

    value: float
    low: float
    high: float


def bootstrap(units: Sequence[float], seed: int = 0, rounds: int = 4000) -> Resampled:
    """The mean of independent units, such as paired differences of passages, with its 90% interval."""
    values = np.asarray(units, np.float64)
    generator = np.random.default_rng(seed)
    means = values[generator.integers(len(values), size=(rounds, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95])
    return Resampled(float(values.mean()), float(low), float(high))


def by_position(scores: Array, edges: Sequence[int]) -> list[float]:
    """Means between neighbouring edges of the position."""
    return [float(scores[:, a:b].mean()) for a, b in pairwise(edges)]


def units_beyond(scores: Array, position: int) -> list[float]:
    """Mean of each passage over its positions from this one on."""
    return [float(mean) for mean in scores[:, position:].mean(axis=1)]


def summary(scores: Scores) -> dict[str, Any]:
    """Means over all positions."""
    return {
        "divergence": float(scores.divergence.mean()),
        "agreement": float(scores.agreement.mean()),
        "loss_change": float(scores.loss_change.mean()),
        "bits_a_weight": scores.bits_a_weight,
    }
