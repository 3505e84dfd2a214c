import json

import pytest
import torch.multiprocessing
from ranks import LAYOUTS, N_RANKS, run


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
