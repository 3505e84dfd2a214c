"""The tables of kernel scores in markdown: `python -m simulator.measured.kernel_table` prints them.

First what each group of kernels must reach, aims at and reaches, as means over kernels and devices; then
every kernel on every device. `docs/accuracy.md` includes both.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.measured.kernel_baselines import baselines
from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_cases import HOPPER_AND_BLACKWELL, all_cases
from simulator.measured.kernel_releases import GDDR
from simulator.measured.kernel_score import KernelScore, score

_COLUMNS = ("family", "dtype", "kernel", "device", "sites", "n")
_ERRORS = ("median", "MAPE", "p90", "bias", "coverage", "±", "score", "band", "formula")
_LEAD = """Kernel latencies on sites that no fit saw, in percent: absolute errors, median signed error, the
share of calls inside the 90% interval, its median half-width; the mean interval score in log space and
that of one constant band of the same coverage (times 100); then the MAPE of the formula without its
residual, and of predictors that learned from the same sites: peak or bandwidth alone (roofline), the same
with a launch and fitted efficiencies, interpolation of the table, a random forest.

The first table holds means over kernels and devices. `reached` says which of the two goals is met. Nothing
is left out: whole sweeps of CUTLASS experts in bf16 on H100 are timed up to four times slower than sweeps of
equal work beside them, and count as they stand.

MLA, collectives and other families whose sites are too few to split have no sites to choose a form on: that
of their residual (distances, noise, number of bumps) was chosen on the very sites that score it, though no
site was seen by the fit that predicts it. Their scores, MLA decode's before all, may flatter a little."""


@dataclass(frozen=True)
class Goal:
    """What a group of kernels must reach, and aims at, in percent of MAPE, on some devices."""

    devices: tuple[str, ...]
    name: str
    must: float
    aim: float
    holds: Callable[[KernelCase], bool]

    def of(self, scores: Iterable[KernelScore]) -> list[KernelScore]:
        """The scores of the group."""
        return [s for s in scores if s.case.device_key in self.devices and self.holds(s.case)]


def _is(*families: str, dtypes: tuple[str, ...] = ()) -> Callable[[KernelCase], bool]:
    return lambda case: case.family in families and (not dtypes or case.dtype in dtypes)


def _of_tensorrt_llm(case: KernelCase) -> bool:
    """Experts of TensorRT-LLM and of DeepGEMM, which SGLang runs behind DeepEP."""
    named = case.releases[0][0] == "trtllm" and "triton" not in case.kernel
    return case.family == "moe" and (named or case.kernel.startswith("deep"))


def _of_other_engines(case: KernelCase) -> bool:
    return case.family == "moe" and not _of_tensorrt_llm(case)


_GROUPS = (
    *((f"GEMM {dtype}", 6.0, 4.0, _is("gemm", dtypes=(dtype,))) for dtype in ("bf16", "fp8")),
    *((f"GEMM {dtype}", 6.0, 4.0, _is("gemm", dtypes=(dtype,))) for dtype in ("fp8_block", "nvfp4")),
    ("prefill attention", 7.0, 5.0, _is("attention_prefill")),
    ("MLA prefill", 7.0, 5.0, _is("mla_prefill")),
    ("decode attention", 7.0, 4.0, _is("attention_decode")),
    ("MLA decode", 7.0, 4.0, _is("mla_decode")),
    ("MoE, TensorRT-LLM and DeepGEMM", 9.0, 7.0, _of_tensorrt_llm),
    ("MoE, Triton, FlashInfer and others", 18.0, 12.0, _of_other_engines),
)
_RINGS = _is("custom_all_reduce", "nccl")
_EXCHANGES = _is("ep_low_latency", "ep_bulk", "ep_nvlink")
_AMPERE = ("a100_sxm_80gb",)
#: of A100 half as much again; boards without NVLink have goals of their own
GOALS = (
    *(Goal(HOPPER_AND_BLACKWELL, *group) for group in _GROUPS),
    Goal(HOPPER_AND_BLACKWELL, "collectives on NVLink", 12, 8, lambda c: _RINGS(c) or _EXCHANGES(c)),
    Goal(HOPPER_AND_BLACKWELL, "of them all-reduce and NCCL", 12, 8, _RINGS),
    Goal(HOPPER_AND_BLACKWELL, "of them expert exchanges", 12, 8, _EXCHANGES),
    *(Goal(_AMPERE, name, 1.5 * must, 1.5 * aim, holds) for name, must, aim, holds in _GROUPS),
    Goal(_AMPERE, "collectives on NVLink", 18, 12, _RINGS),
    Goal(GDDR, "GEMM", 14, 10, _is("gemm")),
    Goal(
        GDDR,
        "attention and MLA",
        14,
        10,
        _is("attention_prefill", "attention_decode", "mla_prefill", "mla_decode"),
    ),
    Goal(GDDR, "collectives over PCIe", 20, 20, _RINGS),
)
_DEVICES = {HOPPER_AND_BLACKWELL: "Hopper, Blackwell", _AMPERE: "A100", GDDR: "L40S, RTX PRO 6000"}


def _row(known: KernelScore) -> str:
    """The score of a kernel as a row, in percent."""
    case, own = known.case, known.own
    cells = [case.family, case.dtype, case.kernel, case.device_key, str(own.n_sites), str(own.n)]
    cells += [f"{100 * value:.1f}" for value in (own.median_ape, own.mape, own.p90_ape)]
    cells += [f"{100 * own.bias:+.1f}", f"{100 * own.coverage:.0f}", f"{100 * np.expm1(own.half_width):.0f}"]
    cells += [f"{100 * own.score:.0f}", f"{100 * own.band_score:.0f}", f"{100 * own.formula_mape:.1f}"]
    return _line([*cells, *(f"{100 * value:.0f}" for value in known.others.values())])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(values: Iterable[float], form: str = ".1f") -> str:
    return f"{100 * float(np.mean(list(values))):{form}}"


def _goal_row(goal: Goal, found: Sequence[KernelScore], names: Sequence[str]) -> str:
    mape = 100 * float(np.mean([s.own.mape for s in found]))
    reached = "aim" if mape <= goal.aim else "must" if mape <= goal.must else "no"
    cells = [_DEVICES[goal.devices], goal.name, str(len(found)), f"{goal.must:g}", f"{goal.aim:g}"]
    cells += [f"{mape:.1f}", reached, _mean(s.own.median_ape for s in found)]
    cells += [_mean((s.own.coverage for s in found), ".0f"), _mean(np.expm1(s.own.half_width) for s in found)]
    cells += [_mean((s.own.score for s in found), ".0f"), _mean((s.own.band_score for s in found), ".0f")]
    cells += [_mean(s.own.formula_mape for s in found)]
    return _line([*cells, *(_mean((s.others[name] for s in found), ".1f") for name in names)])


def summary(scores: Iterable[KernelScore]) -> str:
    """What each group must reach, aims at and reaches: means over its kernels and devices."""
    known = list(scores)
    names = tuple(known[0].others) if known else ()
    fixed = ("devices", "kernels", "n", "must", "aim", "MAPE", "reached", "median")
    header = (*fixed, "coverage", "±", "score", "band", "formula", *names)
    lines = [_line(header), "|" + "---|" * len(header)]
    lines += [_goal_row(goal, found, names) for goal in GOALS if (found := goal.of(known))]
    return "\n".join(lines)


def accuracy_fragment(scores: Iterable[KernelScore]) -> str:
    """The tables of scores in markdown: by group of kernels, then of each kernel on each device."""
    known = list(scores)
    columns = (*_COLUMNS, *_ERRORS, *(known[0].others if known else ()))
    header = [_line(columns), "|" + "---|" * len(columns)]
    absent = "" if not known or "forest" in known[0].others else " (No forest: scikit-learn is absent.)"
    return "\n".join([_LEAD + absent, "", summary(known), "", *header, *map(_row, known), ""])


def scores_of_all() -> list[KernelScore]:
    """The scores of every kernel that is calibrated, beside every baseline."""
    return [score(case, baselines()) for case in all_cases()]


def main() -> None:
    """Score every case and print the tables."""
    print(accuracy_fragment(scores_of_all()))


if __name__ == "__main__":
    main()
