"""How often drafts are accepted on the proxy, counted by speculative decoding itself.

Each passage is continued alone: sequences of a batch go in step, and what one of them accepted is then
drafted and counted again. Continuations are short, because a small model that generates greedily soon repeats
itself, which any drafter foresees.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from reference_impl.decoder import Decoder
from reference_impl.generation.drafters import Drafter
from reference_impl.generation.sampling import Sampling
from reference_impl.generation.speculative import Acceptance, speculate
from reference_impl.kernels import plain_kernels


def acceptance_on(
    model: Decoder,
    drafter: Callable[[], Drafter],
    prompts_PN: Tensor,
    n_new: int,
    temperature: float,
    depth: int,
) -> Acceptance:
    """Counts over the continuations of P passages; passage number i is continued with draws of seed i."""
    with plain_kernels():
        found = [
            speculate(model, prompt_N[None], n_new, Sampling(temperature, seed), drafter(), depth).acceptance
            for seed, prompt_N in enumerate(prompts_PN)
        ]
    return summed(found)


def summed(parts: Sequence[Acceptance]) -> Acceptance:
    """The counts of all, position by position."""
    judged = zip(*(part.judged for part in parts), strict=True)
    accepted = zip(*(part.accepted for part in parts), strict=True)
    return Acceptance(tuple(map(sum, judged)), tuple(map(sum, accepted)))
