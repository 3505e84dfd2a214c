"""What one of four processes runs: the tiny model under each layout, against the whole model beside it."""

import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from tiny import TINY, distance, positions_of, randomise
from torch import Tensor

from model_graphs.layout import Dispatch, Layout
from reference_impl.decoder import Decoder, MTPStep, build_model
from reference_impl.kernels import process_groups
from reference_impl.parallel import parallelize

N_RANKS = 4
LAYOUTS = {
    "tp 4": Layout.of(TINY.blueprint, gpus=4, tp=4),
    "tp 4, ep 4": Layout.of(TINY.blueprint, gpus=4, tp=4, ep=4),
    "tp 4, ep 2": Layout.of(TINY.blueprint, gpus=4, tp=4, ep=2),
    "dp 2, tp 2": Layout.of(TINY.blueprint, gpus=4, tp=2, dp=2),
    "dp 2, tp 2, ep 4": Layout.of(TINY.blueprint, gpus=4, tp=2, dp=2, ep=4),
    "dp 4, ep 4, all-to-all": Layout.of(TINY.blueprint, gpus=4, dp=4, ep=4, dispatch=Dispatch.ALL_TO_ALL),
}


def run(rank: int, store: str, results: str) -> None:
    """Write the distances of this rank's outputs, by layout, to a file in the folder `results`."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=N_RANKS)
    whole = random_model()
    ids = torch.randint(0, TINY.vocab_size, (4, 13), generator=torch.Generator().manual_seed(1))
    wanted = outputs(whole, ids)
    distances = {name: _under(layout, rank, ids, wanted) for name, layout in LAYOUTS.items()}
    Path(results, f"{rank}.json").write_text(json.dumps(distances))
    dist.destroy_process_group()


def random_model() -> Decoder:
    torch.manual_seed(0)
    model = build_model(TINY.blueprint)
    randomise(model)
    return model


def outputs(model: Decoder, ids: Tensor) -> list[Tensor]:
    """Logits of a prefill, of a chunk and of a decoded token on top of it, and of the MTP module."""
    first, chunk, token = ids[:, :8], ids[:, 8:12], ids[:, 12:]
    logits, hidden, cache = model(first, positions_of(first))
    chunk_logits, _, cache = model(chunk, positions_of(chunk, 8), cache, True)
    token_logits, _, _ = model(token, positions_of(token, 12), cache, True)
    next_ids = ids[:, 1:9]
    mtp_logits, _, _ = MTPStep(model)(next_ids, hidden, positions_of(next_ids, 1))
    return [logits, chunk_logits, token_logits, mtp_logits]


def _under(layout: Layout, rank: int, ids: Tensor, wanted: list[Tensor]) -> float:
    """Largest distance of this rank's outputs under the layout."""
    model = random_model()
    parallelize(model, layout, rank)
    mine = slice(None) if layout.dp == 1 else _sequences(layout, rank, len(ids))
    with process_groups(_groups(layout, rank)):
        given = outputs(model, ids[mine])
    return max(distance(g, w[mine]) for g, w in zip(given, wanted, strict=True))


def _sequences(layout: Layout, rank: int, n_sequences: int) -> slice:
    each = n_sequences // layout.dp
    first = rank // layout.tp * each
    return slice(first, first + each)


def _groups(layout: Layout, rank: int) -> dict[str, dist.ProcessGroup]:
    """The groups of this rank; every rank makes all of them in one order."""
    grid = torch.arange(N_RANKS).view(layout.dp, layout.tp)
    kinds = {"tp": grid.tolist(), "dp": grid.T.tolist(), "ep": [list(range(N_RANKS))]}
    made = [(kind, ranks, dist.new_group(ranks)) for kind, groups in kinds.items() for ranks in groups]
    return {kind: group for kind, ranks, group in made if rank in ranks}
