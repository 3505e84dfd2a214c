"""The tables of carried constants in markdown: by family against what must hold, by device, by kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1
from statistics import median

from simulator.measured.kernel_case import KernelCase
from simulator.measured.kernel_releases import BLACKWELL, HOPPER
from simulator.measured.kernel_transfer import SCORED, Study, Transfer, mean

_LEAD = """Constants of other generations, and the same after 30 measured points of the device (`silicast
calibrate`), in percent of mean absolute error on the test sites, the mean over kernels. Blackwell borrows
from Ampere and Hopper, other devices from every generation but their own; no prior saw the device, and no
fit more of it than the points. "Serving": kernels that serving runs are priced with; "all": every kernel
source of the tables. From the datasheet the means are of Blackwell; after 30 points, of Hopper and
Blackwell. Coverage is the share of calls inside the 90% interval that the fit of one draw says of itself, ±
its median half-width: kernels of both generations, without MLA, whose sites are not split."""


@dataclass(frozen=True)
class Limits:
    """What must hold and what is aimed at, percent."""

    must: float
    aim: float


@dataclass(frozen=True)
class Goal:
    """Kernels that are scored together, and their limits."""

    name: str
    families: tuple[str, ...]
    datasheet: Limits
    after_points: Limits
    dtypes: tuple[str, ...] = ()
    engine: str = ""

    def holds(self, one: KernelCase | Transfer) -> bool:
        """Whether a kernel is among them."""
        engine = one.engine if isinstance(one, Transfer) else one.releases[0][0]
        return (
            one.family in self.families
            and (not self.dtypes or one.dtype in self.dtypes)
            and engine.startswith(self.engine)
        )


GOALS = (
    Goal("GEMM bf16, fp8", ("gemm",), Limits(15, 12), Limits(9, 7), ("bf16", "fp8")),
    Goal("GEMM fp8_block, nvfp4", ("gemm",), Limits(20, 15), Limits(9, 7), ("fp8_block", "nvfp4")),
    Goal(
        *("prefill attention, MLA prefill", ("attention_prefill", "mla_prefill")),
        *(Limits(22, 15), Limits(12, 8)),
    ),
    Goal(
        *("decode attention, MLA decode", ("attention_decode", "mla_decode")),
        *(Limits(30, 20), Limits(12, 8)),
    ),
    Goal("MoE of TensorRT-LLM, DeepGEMM", ("moe",), Limits(20, 15), Limits(12, 9), engine="trtllm"),
)


def in_a_goal(case: KernelCase) -> bool:
    """Whether any goal has the kernel."""
    return any(goal.holds(case) for goal in GOALS)


def transfer_fragment(made: Study) -> str:
    """All tables of a study."""
    parts = [
        _LEAD,
        "",
        *_against_goals(made.scores),
        "",
        *_by_device(made.scores),
        "",
        *_by_kernel(made.scores),
    ]
    return "\n".join([*parts, ""])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _shown(value: float) -> str:
    return "-" if value != value else f"{value:.1f}"


def _against_goals(scores: Sequence[Transfer]) -> list[str]:
    both = ("serving", "all", "kernels")
    header = ("family", "datasheet: must", "aim", *both, "30 points: must", "aim", *both, "coverage", "±")
    return _table(header, [_goal_row(goal, [s for s in scores if goal.holds(s)]) for goal in GOALS])


def _goal_row(goal: Goal, scores: Sequence[Transfer]) -> list[str]:
    unseen = [score for score in scores if score.device in BLACKWELL]
    new = [score for score in scores if score.device in (*HOPPER, *BLACKWELL)]
    datasheet = [
        mean([s.datasheet for s in unseen if s.serves]),
        mean([s.datasheet for s in unseen]),
    ]
    after = [mean([s.after_points for s in new if s.serves]), mean([s.after_points for s in new])]
    return [
        *(goal.name, f"{goal.datasheet.must:g}", f"{goal.datasheet.aim:g}"),
        *(*map(_shown, datasheet), str(len(unseen))),
        *(f"{goal.after_points.must:g}", f"{goal.after_points.aim:g}"),
        *(*map(_shown, after), str(len(new))),
        *_interval(new),
    ]


def _interval(scores: Sequence[Transfer]) -> tuple[str, str]:
    covered = [s.coverage for s in scores if s.coverage is not None]
    widths = [s.log_half_width for s in scores if s.log_half_width is not None]
    return _shown(mean(covered)), _shown(100 * expm1(median(widths))) if widths else "-"


def _by_device(scores: Sequence[Transfer]) -> list[str]:
    """Serving kernels of each device, from the datasheet and after 30 points."""
    rows = []
    for goal in GOALS:
        own = [score for score in scores if goal.holds(score) and score.serves]
        cells = []
        for device in SCORED:
            there = [score for score in own if score.device == device]
            before, after = mean([s.datasheet for s in there]), mean([s.after_points for s in there])
            cells.append(f"{_shown(before)} / {_shown(after)}")
        rows.append([goal.name, *cells])
    return _table(("serving kernels, datasheet / 30 points", *SCORED), rows)


def _by_kernel(scores: Sequence[Transfer]) -> list[str]:
    header = ("family", "dtype", "kernel", "device", "sites", "lent by", "datasheet", "30 points")
    rows = [
        [
            *(score.family, score.dtype, score.kernel, score.device, str(score.n_sites)),
            score.lender or "same kernel",
            *(_shown(100 * value) for value in (score.datasheet, score.after_points)),
        ]
        for score in scores
    ]
    return _table(header, rows)
