"""Pearson's test of counts against a distribution, and the exact distribution of a small model's output."""

import torch
from tiny import positions_of
from torch import Tensor

from reference_impl.decoder import Decoder


@torch.no_grad()
def exact_triples(model: Decoder, prompt_1N: Tensor, temperature: float) -> Tensor:
    """Probability [W, W, W] of the three tokens after a prompt, by running all continuations."""
    n_words = model.blueprint.vocab_size
    pairs = torch.cartesian_prod(*(torch.arange(n_words),) * 2)
    ids = torch.cat([prompt_1N.expand(len(pairs), -1), pairs], 1)
    logits, _, _ = model(ids, positions_of(ids), None, False)
    log_p = (logits[:, -3:].double() / temperature).log_softmax(-1)
    first = log_p[:, 0].gather(1, pairs[:, :1])
    second = log_p[:, 1].gather(1, pairs[:, 1:])
    return (first + second + log_p[:, 2]).exp().view(n_words, n_words, n_words)


def p_value(counts: Tensor, probabilities: Tensor) -> float:
    """Probability of counts at least this far off, cells of fewer than five expected taken as one."""
    from scipy.stats import chi2

    expected = probabilities.flatten() / probabilities.sum() * counts.sum()
    rare = expected < 5
    groups = torch.where(rare, 0, 1 + torch.arange(len(expected)))
    observed, wanted = (
        torch.zeros(len(expected) + 1).double().index_add(0, groups, x.flatten().double())
        for x in (counts, expected)
    )
    statistic = ((observed - wanted) ** 2 / wanted)[wanted > 0].sum().item()
    return float(chi2.sf(statistic, int((wanted > 0).sum()) - 1))
