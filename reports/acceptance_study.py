"""The acceptance study: how often drafts are accepted on trained proxies of several seeds, by draft position.

Training and generation are the reference implementation's, which is imported here when it is used because it
needs torch. The result is plain data: `docs/speculation-proxy.md` shows it, and the committed copy is
`reports/acceptance_proxy.json`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_graphs.transforms import PLANS
from reports.accuracy_study import EVALUATION_SEED, Result, Tell, nth, proxies
from simulator.measured.proportions import wilson_interval

if TYPE_CHECKING:
    from reference_impl.decoder import Decoder
    from reference_impl.generation.drafters import Drafter
    from reference_impl.generation.speculative import Acceptance
    from reference_impl.proxy.corpus import Corpus

LABEL = "proxy, not DeepSeek-V3 acceptance"
COMMITTED = "acceptance_proxy.json"
CONFIDENCE = 0.95
DEPTH = 4
PROMPT_BYTES = 64


@dataclass(frozen=True)
class Run:
    """What drafts, in which precision, at which temperature, over how many passages and bytes of each."""

    drafter: str
    precision: str = "fp32"
    temperature: float = 0.0
    passages: int = 256
    new_bytes: int = 16


RUNS = (
    *(Run("mtp", temperature=t) for t in (0.0, 1.0)),
    *(Run("draft model", temperature=t) for t in (0.0, 1.0)),
    *(Run("mtp", "fp8", t) for t in (0.0, 1.0)),
    *(Run("mtp, untrained", temperature=t, passages=64) for t in (0.0, 1.0)),
    Run("mtp", passages=64, new_bytes=128),
)


@dataclass(frozen=True)
class Drafters:
    """A proxy with its trained module, with an untrained one, and the draft model; losses in nats a byte."""

    mtp: "Decoder"
    untrained: "Decoder"
    draft_model: "Decoder"
    mtp_loss: float
    draft_loss: float


def run_acceptance(seeds: Sequence[int], checkpoints: Path | None, tell: Tell) -> dict[str, Any]:
    """The study's result. Proxies are read from `proxy-SEED.safetensors` in the folder, or trained.

    A module that a checkpoint carries is taken, else it is trained; the draft model is always trained.

    Raises:
        InputError: a checkpoint that should be in the folder is not, or there is no text.
    """
    from reference_impl.proxy.corpus import standard_library

    corpus = standard_library()
    models, made_from = proxies(corpus, seeds, checkpoints, tell, mtp=True)
    trained = [
        _drafters(corpus, model, identity, seed, nth(tell, index, len(seeds)))
        for index, (model, identity, seed) in enumerate(zip(models, made_from, seeds, strict=True))
    ]
    counts = [[_measured(corpus, one, run) for run in RUNS] for one in trained]
    return {
        "schema_version": 1,
        "label": LABEL,
        "seeds": list(seeds),
        "corpus": corpus.hash,
        "confidence": CONFIDENCE,
        "depth": DEPTH,
        "prompt_bytes": PROMPT_BYTES,
        "proxies": made_from,
        "drafters": {**_sizes(trained[0]), **_losses(trained)},
        "runs": [_line(run, found) for run, found in zip(RUNS, zip(*counts, strict=True), strict=True)],
    }


def _drafters(
    corpus: "Corpus", model: "Decoder", identity: Mapping[str, str], seed: int, tell: Tell
) -> Drafters:
    from reference_impl.proxy.drafters import train_draft_model, train_mtp, with_untrained_mtp

    if len(model.mtp):
        trained, loss = model, float(identity["mtp_loss"])
    else:
        trained, loss = train_mtp(model, corpus, seed, tell=nth(tell, 0, 2))
    draft = train_draft_model(corpus, seed, tell=nth(tell, 1, 2))
    return Drafters(trained, with_untrained_mtp(model, seed), draft.model, loss, draft.training_loss)


def _measured(corpus: "Corpus", drafters: Drafters, run: Run) -> "Acceptance":
    """Counts of one run with one proxy. Every run of as many passages sees the same ones."""
    from reference_impl.proxy.acceptance import acceptance_on
    from reference_impl.proxy.corpus import Windows

    prompts = Windows(corpus.evaluation, PROMPT_BYTES, EVALUATION_SEED).draw(run.passages)[0]
    model, drafter = _prepared(drafters, run)
    return acceptance_on(model, drafter, prompts, run.new_bytes, run.temperature, DEPTH)


def _prepared(drafters: Drafters, run: Run) -> "tuple[Decoder, Callable[[], Drafter]]":
    """The model of a run, module included, and what makes a drafter for a passage."""
    from copy import deepcopy

    from reference_impl.generation.drafters import DraftModel, MTPDrafter
    from reference_impl.transforms import transform

    if run.drafter == "draft model":
        return drafters.mtp, lambda: DraftModel(drafters.draft_model)
    model = drafters.untrained if run.drafter == "mtp, untrained" else drafters.mtp
    if run.precision != "fp32":
        model = deepcopy(model)
        transform(model, PLANS[run.precision])
    return model, lambda: MTPDrafter(model)


def _line(run: Run, by_seed: Sequence["Acceptance"]) -> dict[str, Any]:
    """A run with its counts a seed, and what follows from them."""
    counts = [{"judged": list(one.judged), "accepted": list(one.accepted)} for one in by_seed]
    return {
        **asdict(run),
        "by_seed": [{**one, **derived([one])} for one in counts],
        "pooled": derived(counts),
    }


def derived(counts: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Any]:
    """Acceptance by position with Wilson intervals, and tokens a step at every depth, of summed counts."""
    judged = [sum(column) for column in zip(*(one["judged"] for one in counts), strict=True)]
    accepted = [sum(column) for column in zip(*(one["accepted"] for one in counts), strict=True)]
    pairs = zip(accepted, judged, strict=True)
    found = [asdict(wilson_interval(a / n, n, CONFIDENCE)) if n else None for a, n in pairs]
    fractions = [one["value"] if one else 0.0 for one in found]
    return {"acceptance": found, "tokens_a_step": list(tokens_a_step(fractions))}


def tokens_a_step(fractions: Sequence[float]) -> Iterator[float]:
    """Expected tokens of a step with 1, 2, ... drafts: one, and each draft that all before it were kept for.

    `fractions` are acceptances given that the drafts before were accepted.
    """
    tokens, kept = 1.0, 1.0
    for fraction in fractions:
        kept *= fraction
        tokens += kept
        yield tokens


def _sizes(drafters: Drafters) -> dict[str, int]:
    """Parameters of what takes part."""
    module = _n_parameters(drafters.mtp.mtp)
    return {
        "model_parameters": _n_parameters(drafters.mtp) - module,
        "mtp_parameters": module,
        "draft_parameters": _n_parameters(drafters.draft_model),
    }


def _n_parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _losses(trained: Sequence[Drafters]) -> dict[str, list[float]]:
    return {
        "mtp_loss": [round(one.mtp_loss, 4) for one in trained],
        "draft_loss": [round(one.draft_loss, 4) for one in trained],
    }


@lru_cache(maxsize=1)
def committed_acceptance() -> Result:
    """The result that ships."""
    text = (files("reports") / COMMITTED).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def runs_of(result: Result) -> list[Run]:
    """What was run, in order."""
    keys = [field.name for field in fields(Run)]
    return [Run(**{key: line[key] for key in keys}) for line in result["runs"]]


def line_of(result: Result, run: Run) -> Mapping[str, Any]:
    """The line of a run."""
    wanted = asdict(run)
    return next(line for line in result["runs"] if all(line[key] == value for key, value in wanted.items()))
