import json

import pytest
import torch
import torch.multiprocessing
from ranks import LAYOUTS, N_RANKS, random_model, run
from tiny import TINY

from model_graphs.layout import Layout
from reference_impl.parallel import parallelize


@pytest.fixture(scope="module")
def distances(tmp_path_factory):
    """By layout: the largest distance of each rank from the whole model, from one start of four processes."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run, (str(folder / "store"), str(folder)), nprocs=N_RANKS)
    ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(N_RANKS)]
    return {name: [rank[name] for rank in ranks] for name in LAYOUTS}


@pytest.mark.parametrize("name", LAYOUTS)
def test_four_processes_give_the_output_of_one(distances, name):
    assert max(distances[name]) < 1e-5


def shards(layout, module):
    """The weight of the module of this name on every rank."""
    models = [random_model() for _ in range(layout.n_ranks)]
    for rank, model in enumerate(models):
        parallelize(model, layout, rank)
    return [model.get_submodule(module).weight for model in models]


def test_a_rank_keeps_its_part_of_the_gate_and_its_part_of_the_up_projection():
    first, second = shards(Layout.of(TINY.blueprint, gpus=2, tp=2), "layers.0.mlp.gate_up_proj")
    gate, up = random_model().layers[0].mlp.gate_up_proj.weight.chunk(2)
    assert torch.equal(first, torch.cat([gate[:128], up[:128]]))
    assert torch.equal(second, torch.cat([gate[128:], up[128:]]))


def test_ranks_hold_whole_experts_over_ep_and_their_width_over_the_rest():
    layout = Layout.of(TINY.blueprint, gpus=4, tp=4, ep=2)
    whole = random_model().layers[1].mlp.routed.experts.down_proj
    for rank in range(4):
        model = random_model()
        parallelize(model, layout, rank)
        experts = model.layers[1].mlp.routed.experts
        first, width = rank // 2 * 8, rank % 2 * 32
        assert experts.first_expert == first
        assert torch.equal(experts.down_proj, whole[first : first + 8, :, width : width + 32])


def test_replicated_weights_are_whole_on_every_rank():
    for name in ("layers.1.self_attn.q_kv_a_proj", "layers.1.mlp.routed.gate", "layers.1.closing_norm"):
        whole = random_model().get_submodule(name).weight
        assert all(
            torch.equal(shard, whole) for shard in shards(Layout.of(TINY.blueprint, gpus=2, tp=2), name)
        )
