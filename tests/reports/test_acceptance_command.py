"""`silicast accuracy train --mtp` and `acceptance` from end to end, with trainings of two steps."""

import json
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("torch")

from reference_impl.proxy import drafters, training
from reference_impl.proxy.training import Recipe
from reports import acceptance_study
from reports.acceptance_study import DEPTH, LABEL, Run, derived
from reports.cli.main import main

FEW = Recipe(steps=2, short_length=24, short_count=2, long_share=0.0, warm_up_steps=1)
SMALL = (
    Run("mtp", passages=2, new_bytes=DEPTH + 2),
    Run("draft model", temperature=1.0, passages=2, new_bytes=DEPTH + 2),
    Run("mtp", "fp8", passages=1, new_bytes=DEPTH + 2),
    Run("mtp, untrained", passages=1, new_bytes=DEPTH + 2),
)


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((training, "train"), (drafters, "train_mtp"), (drafters, "train_draft_model")):
        monkeypatch.setattr(module, name, partial(getattr(module, name), recipe=FEW))
    monkeypatch.setattr(acceptance_study, "RUNS", SMALL)


def acceptance(folder: Path, out: Path) -> int:
    return main(["accuracy", "acceptance", "--seeds", "2", "--checkpoints", str(folder), "--out", str(out)])


def test_a_checkpoint_with_a_module_is_measured_as_it_is_and_twice_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in ("0", "1"):
        target = str(tmp_path / f"proxy-{seed}.safetensors")
        assert main(["accuracy", "train", "--mtp", "--seed", seed, "--out", target, "--json"]) == 0
        assert float(json.loads(capsys.readouterr().out)["mtp_loss"]) > 0
    monkeypatch.setattr(drafters, "train_mtp", None)  # nothing is trained that the checkpoint has
    texts = []
    for name in ("first", "second"):
        assert acceptance(tmp_path, tmp_path / name) == 0
        texts.append((tmp_path / name).read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    result = json.loads(texts[0])
    assert (result["label"], len(result["runs"])) == (LABEL, len(SMALL))
    for line in result["runs"]:
        assert line["pooled"] == derived(line["by_seed"])
        assert line["by_seed"][0]["judged"][0] >= line["passages"]


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert acceptance(tmp_path, tmp_path / "out.json") == 2
    assert "proxy-0.safetensors" in capsys.readouterr().err
