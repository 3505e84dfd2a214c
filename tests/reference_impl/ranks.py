"""What one of four processes runs: the tiny model under each layout, against the whole model beside it."""

import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from tiny import TINY, distance, positions_of, randomise
from torch import Tensor

from model_graphs.architectures.layer_normed import BloomConfig, PhiConfig
from model_graphs.architectures.llama4 import Llama4Config
from model_graphs.blueprint import Blueprint
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
#: other families, whose weights, biases and slopes of heads are split over four ranks
OTHERS = {
    "bloom": BloomConfig(
        vocab_size=96,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=12,
        max_position_embeddings=64,
        layer_norm_epsilon=1e-5,
        tie_word_embeddings=True,
    ).blueprint,
    "phi 2": PhiConfig(
        vocab_size=96,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=8,
        intermediate_size=96,
        max_position_embeddings=64,
        partial_rotary_factor=0.5,
        layer_norm_eps=1e-5,
        rope_theta=1e4,
        rope_scaling=None,
        tie_word_embeddings=False,
    ).blueprint,
    "llama 4": Llama4Config(
        vocab_size=96,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=32,
        intermediate_size_mlp=64,
        interleave_moe_layer_step=1,
        num_local_experts=8,
        num_experts_per_tok=1,
        attention_chunk_size=5,
        use_qk_norm=True,
        no_rope_layers=(1, 0),
        attn_temperature_tuning=True,
        floor_scale=4,
        attn_scale=0.1,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_theta=1e4,
        rope_scaling=None,
        tie_word_embeddings=False,
    ).blueprint,
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
    distances |= {name: _of_another_family(blueprint, rank) for name, blueprint in OTHERS.items()}
    Path(results, f"{rank}.json").write_text(json.dumps(distances))
    dist.destroy_process_group()


def random_model(blueprint: Blueprint = TINY.blueprint) -> Decoder:
    torch.manual_seed(0)
    model = build_model(blueprint)
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


def _of_another_family(blueprint: Blueprint, rank: int) -> float:
    """Largest distance of this rank's logits from the whole model's, all four ranks tensor parallel."""
    layout = Layout.of(blueprint, gpus=N_RANKS, tp=N_RANKS)
    ids = torch.randint(0, blueprint.vocab_size, (2, 13), generator=torch.Generator().manual_seed(1))
    whole, shard = (random_model(blueprint) for _ in range(2))
    parallelize(shard, layout, rank)
    with process_groups(_groups(layout, rank)):
        given = shard(ids, positions_of(ids))[0]
    return distance(given, whole(ids, positions_of(ids))[0])
