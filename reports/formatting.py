"""Numbers as people read them: four significant digits, separated thousands, prefixes where large."""

import math

from hardware_specs.records.evidence import Estimate

_DECIMAL = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def figure(value: float, digits: int = 4) -> str:
    """The number to `digits` significant digits, without an exponent for what a table usually holds."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4:
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - magnitude, 0)
    return f"{round(value, digits - 1 - magnitude):,.{decimals}f}"


def interval(estimate: Estimate) -> str:
    """`[low, high]` to three digits."""
    return f"[{figure(estimate.low, 3)}, {figure(estimate.high, 3)}]"


def gib(n_bytes: float) -> str:
    """Bytes in GiB, the unit a driver reports memory in."""
    return f"{n_bytes / 2**30:,.2f} GiB"


def decimal(value: float, unit: str, digits: int = 4) -> str:
    """A large count with a decimal prefix: `671.0 G`, `383.9 TFLOP`."""
    for factor, prefix in _DECIMAL:
        if abs(value) >= factor:
            return f"{figure(value / factor, digits)} {prefix}{unit}"
    return f"{figure(value, digits)} {unit}".strip()


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage."""
    return "-" if not math.isfinite(fraction) else f"{100 * fraction:.{digits}f}%"


def signed_percent(fraction: float) -> str:
    """A relative difference with its sign."""
    return "-" if not math.isfinite(fraction) else f"{100 * fraction:+.1f}%"
