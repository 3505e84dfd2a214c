"""The accuracy study: proxies of several seeds, what each transform costs them, and what that depends on.

Training and comparison are the reference implementation's (`reference_impl.proxy`), which is imported here
when it is used because it needs torch. The result is plain data: `docs/accuracy-proxy.md` and the HTML page
show it, and claims read the committed copy, `reports/accuracy_proxy.json`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from model_graphs.transforms import PLANS, Plan, pruned_plan

LABEL = "proxy, not DeepSeek-V3 accuracy"
COMMITTED = "accuracy_proxy.json"
WEIGHT_BITS = ("int8_weights", "int6", "int4", "int3", "int2")
SCHEMES = ("fp8_weights", "fp8", "fp4", "int8", "fp8_int8", "2of4")
FRACTIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
#: plans whose error is followed along the context
CONTEXT = ("fp8", "bf16_sums", "compensated_sums", "fp8_bf16_sums", "fp8_compensated_sums")
EDGES = (0, 64, 128, 256, 512, 1024, 2048)
#: positions from here on are long context, up to here short
LONG_FROM, SHORT_TO = 1024, 256
SHORT_PASSAGES, LONG_PASSAGES = 32, 4
#: no training draws from these
EVALUATION_SEED = 2026

Result = Mapping[str, Any]
Tell = Callable[[int, int], None]


def study_plans() -> tuple[Plan, ...]:
    """The plans compared on short passages."""
    return (*(PLANS[name] for name in (*SCHEMES, *WEIGHT_BITS)), *(pruned_plan(one) for one in FRACTIONS))


def run_study(seeds: Sequence[int], checkpoints: Path | None, tell: Tell) -> dict[str, Any]:
    """The study's result. Proxies are read from `proxy-SEED.safetensors` in the folder, or trained.

    Raises:
        InputError: a checkpoint that should be in the folder is not, or there is no text.
    """
    from reference_impl.proxy.corpus import Windows, standard_library

    corpus = standard_library()
    models, made_from = proxies(corpus, seeds, checkpoints, tell)
    short = Windows(corpus.evaluation, EDGES[3], EVALUATION_SEED).draw(SHORT_PASSAGES)
    long = Windows(corpus.evaluation, EDGES[-1], EVALUATION_SEED).draw(LONG_PASSAGES)
    compared = [_compared(model, short, long) for model in models]
    return _assembled(seeds, corpus.hash, made_from, compared)


def _assembled(
    seeds: Sequence[int],
    corpus_hash: str,
    made_from: Sequence[Mapping[str, str]],
    compared: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The result from what was found for each seed."""
    return {
        "schema_version": 1,
        "label": LABEL,
        "seeds": list(seeds),
        "corpus": corpus_hash,
        "proxies": list(made_from),
        "loss": [one["loss"] for one in compared],
        "schemes": _by_scheme([one["schemes"] for one in compared]),
        "context": {
            "edges": list(EDGES),
            "loss": [one["context_loss"] for one in compared],
            "divergence": {name: [one["context"][name] for one in compared] for name in CONTEXT},
        },
        "effects": _effects([one["units"] for one in compared]),
    }


def proxies(
    corpus: Any, seeds: Sequence[int], checkpoints: Path | None, tell: Tell, mtp: bool = False
) -> tuple[list[Any], list[dict[str, str]]]:
    """Proxies of these seeds and what identifies each, read from a folder or trained.

    Raises:
        InputError: a checkpoint that should be in the folder is not.
    """
    from reference_impl.proxy.checkpoint import load_checkpoint
    from reference_impl.proxy.training import train

    if checkpoints is not None:
        loaded = [load_checkpoint(checkpoints / checkpoint_name(seed), mtp) for seed in seeds]
        return [model for model, _ in loaded], [identity for _, identity in loaded]
    trained = [train(corpus, seed, tell=nth(tell, i, len(seeds))) for i, seed in enumerate(seeds)]
    return [one.model for one in trained], [one.identity for one in trained]


def checkpoint_name(seed: int) -> str:
    """File name of the proxy of a seed."""
    return f"proxy-{seed}.safetensors"


def nth(tell: Tell, index: int, of: int) -> Tell:
    """Progress of one of several trainings, as progress of all."""
    return lambda done, total: tell(index * total + done, of * total)


def _compared(model: Any, short: Any, long: Any) -> dict[str, Any]:
    """Scores of one proxy: by scheme on short passages, along the context on long ones."""
    from reference_impl.proxy.study import by_position, compare, summary, units_beyond

    loss, schemes = compare(model, study_plans(), short)
    long_loss, context = compare(model, [PLANS[name] for name in CONTEXT], long)
    late = {name: units_beyond(scores.divergence, LONG_FROM) for name, scores in context.items()}
    fp8 = context["fp8"]
    early_change = fp8.loss_change[:, :SHORT_TO].mean(1) / long_loss[:, :SHORT_TO].mean(1)
    late_change = fp8.loss_change[:, LONG_FROM:].mean(1) / long_loss[:, LONG_FROM:].mean(1)
    return {
        "loss": float(loss.mean()),
        "schemes": {name: summary(scores) for name, scores in schemes.items()},
        "context_loss": by_position(long_loss, EDGES),
        "context": {name: by_position(scores.divergence, EDGES) for name, scores in context.items()},
        "units": {
            "compensation": _differences(late["bf16_sums"], late["compensated_sums"]),
            "compensation_under_fp8": _differences(late["fp8_bf16_sums"], late["fp8_compensated_sums"]),
            "late_minus_early": _differences(
                late["fp8"], [float(x) for x in fp8.divergence[:, :SHORT_TO].mean(1)]
            ),
            "drift_percent_of_loss": [float(x) for x in 100 * (late_change - early_change)],
        },
    }


def _differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Differences of paired passages."""
    return [a - b for a, b in zip(first, second, strict=True)]


def _by_scheme(by_seed: Sequence[Mapping[str, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """A line a scheme, with a figure a seed."""
    lines = []
    for name, first in by_seed[0].items():
        figures = {key: [one[name][key] for one in by_seed] for key in first if key != "bits_a_weight"}
        lines.append({"plan": name, "bits_a_weight": first["bits_a_weight"], **figures})
    return lines


def _effects(by_seed: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Paired effects over all passages of all seeds, with bootstrap intervals."""
    from reference_impl.proxy.study import bootstrap

    pooled = {name: [unit for one in by_seed for unit in one[name]] for name in by_seed[0]}
    return {name: {**asdict(bootstrap(units)), "passages": len(units)} for name, units in pooled.items()}


@lru_cache(maxsize=1)
def committed_study() -> Result:
    """The result that ships."""
    text = (files("reports") / COMMITTED).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds and its standard error."""
    n = len(values)
    mean = sum(values) / n
    if n == 1:
        return mean, float("nan")
    return mean, (sum((value - mean) ** 2 for value in values) / (n - 1) / n) ** 0.5


def scheme_line(result: Result, plan: str) -> Mapping[str, Any]:
    """The line of a scheme."""
    return next(line for line in result["schemes"] if line["plan"] == plan)


def orderings(result: Result) -> Iterator[tuple[str, str, bool]]:
    """Pairs of schemes of which the second should cost more, and whether it does within two errors."""
    chains = (WEIGHT_BITS, ("fp8", "int4", "int2"), tuple(pruned_plan(one).name for one in FRACTIONS))
    for chain in chains:
        for better, worse in pairwise(chain):
            low, low_error = mean_and_spread(scheme_line(result, better)["divergence"])
            high, high_error = mean_and_spread(scheme_line(result, worse)["divergence"])
            yield better, worse, high - low > -2 * (low_error**2 + high_error**2) ** 0.5
