"""Writes `simulator/stacks/fitted.yaml`: constants with units, sources and rows behind them."""

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.measured.stack_fit import PRIORS
from simulator.step.constants import StackConstants

#: value, unit, source and kind of what a year of engine releases is worth, forwards and backwards
YEARLY_SPREAD_NEWER = (
    0.4,
    "1",
    "SGLang 0.5.5 and 0.5.9, a third of a year apart, differ by a tenth",
    "assumed",
)
YEARLY_SPREAD_OLDER = (1.39, "1", "engines new to a model gain two- to fourfold in a year: ln 4", "assumed")

ARCHITECTURE_SPREAD = (
    0.13,
    "1",
    "1.645 standard deviations of the prior of kernel_scale",
    "assumed",
)

_UNITS = {
    "kernel_scale": ("1", 1.0, 4),
    "small_kernel_s": ("us", 1e6, 3),
    "prefill_scale": ("1", 1.0, 4),
    "host_base_s": ("us", 1e6, 1),
    "host_per_sequence_s": ("us", 1e6, 2),
    "host_prefill_s": ("us", 1e6, 1),
    "first_token_s": ("ms", 1e3, 2),
    "stream_interval_steps": ("1", 1.0, 2),
}


@dataclass(frozen=True)
class FittedEntry:
    """What one version's block is written from."""

    backend: str
    version: str
    constants: StackConstants
    n_rows: int
    architectures: tuple[str, ...]
    source: str
    kind: str
    tpot_log_half_width: float
    ttft_log_half_width: float
    width_source: str


def fitted_yaml(
    entries: Sequence[FittedEntry], version_spread: float, spread_source: str, made_by: str
) -> str:
    """The text of the file."""
    lines = [
        "schema_version: 1",
        f"made_by: {made_by}",
        f"version_spread_log_half_width: {_figure(version_spread, '1', spread_source, 'fitted')}",
        f"yearly_spread_newer: {_figure(*YEARLY_SPREAD_NEWER)}",
        f"yearly_spread_older: {_figure(*YEARLY_SPREAD_OLDER)}",
        f"unfitted_kernel_scale: {_prior('kernel_scale')}",
        f"unfitted_prefill_scale: {_prior('prefill_scale')}",
        f"architecture_log_half_width: {_figure(*ARCHITECTURE_SPREAD)}",
        "constants:",
    ]
    for entry in entries:
        lines += [
            f"  - backend: {entry.backend}",
            f"    version: {entry.version}",
            f"    n_rows: {entry.n_rows}",
            f"    architectures: [{', '.join(entry.architectures)}]",
        ]
        for name, (unit, factor, digits) in _UNITS.items():
            value = round(getattr(entry.constants, name) * factor, digits)
            lines.append(f"    {name}: {_figure(value, unit, entry.source, entry.kind)}")
        for name in ("tpot_log_half_width", "ttft_log_half_width"):
            lines.append(
                f"    {name}: {_figure(round(getattr(entry, name), 3), '1', entry.width_source, 'fitted')}"
            )
    return "\n".join(lines) + "\n"


def _prior(name: str) -> str:
    return _figure(PRIORS[name].centre, "1", "centre of the fit's prior", "assumed")


def _figure(value: float, unit: str, source: str, kind: str) -> str:
    return f'{{value: {value:g}, unit: "{unit}", source: "{source}", kind: {kind}}}'
