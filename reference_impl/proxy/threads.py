"""How many processor threads PyTorch uses."""

import torch


def use_threads(count: int) -> None:
    """Let later operations run on so many threads; sums may differ in their last bits."""
    torch.set_num_threads(count)
