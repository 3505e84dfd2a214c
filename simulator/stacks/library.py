"""Finding the stack version that a deployment runs, and saying so when it is only the nearest one known."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import resources
from math import hypot
from pathlib import Path
from typing import TypeVar

from packaging.version import InvalidVersion, Version

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.evidence import Grade
from hardware_specs.records.hashing import content_hash
from hardware_specs.records.yaml_reader import validate_file
from simulator.stacks.model import FittedConstants, FittedFile, StackFile, StackRelease, StackRules

BACKENDS = ("vllm", "sglang", "trtllm")
T = TypeVar("T")


@dataclass(frozen=True)
class Stack:
    """A resolved stack: the release whose rules hold, the constants used, and how both were chosen."""

    backend: str
    release: StackRelease
    rules: StackRules
    constants: FittedConstants
    exact: bool
    reason: str
    spread: float
    content_hash: str

    @property
    def tpot_log_half_width(self) -> float:
        """90% half width of TPOT in log space, wider where other constants stand in."""
        return hypot(self.constants.tpot_log_half_width.value, self.spread)

    @property
    def ttft_log_half_width(self) -> float:
        """90% half width of TTFT in log space, wider where other constants stand in."""
        return hypot(self.constants.ttft_log_half_width.value, self.spread)

    @property
    def grade(self) -> Grade:
        """B where this version was fitted on this architecture, C where other constants stand in."""
        return Grade.B if self.exact and self.constants.n_rows else Grade.C


def _package_file(name: str) -> Path:
    return Path(str(resources.files("simulator.stacks") / name))


@lru_cache
def stack_file(backend: str) -> StackFile:
    """The rules of one engine.

    Raises:
        InputError: the engine is not modelled.
    """
    if backend not in BACKENDS:
        raise InputError(
            Problem(
                path="stack",
                requirement=f"stack must be one of {', '.join(BACKENDS)}",
                given=backend,
                suggestion=nearest(backend, BACKENDS),
            )
        )
    return validate_file(StackFile, _package_file(f"{backend}.yaml"))


@lru_cache
def fitted_file() -> FittedFile:
    """Every fitted constant of every engine."""
    return validate_file(FittedFile, _package_file("fitted.yaml"))


def list_stacks() -> list[StackFile]:
    """Every engine that is modelled, with its versions."""
    return [stack_file(backend) for backend in BACKENDS]


def load_stack(backend: str, version: str = "", on: str = "", architecture: str = "") -> Stack:
    """The stack of a version; without one, the newest released on or before the date `on` (YYYY-MM-DD).

    A version that is not listed follows the rules of its nearest older neighbour, or of the oldest there is;
    a version that was never fitted takes the constants of its nearest older fitted neighbour in the same way.
    On an `architecture` without a fitted run, or where the version was fitted on another one only, the
    engine's scales give way to the fit's priors: an engine picks other kernels there, and what its fit says
    of its kernels does not carry over.

    Raises:
        InputError: the engine is not modelled, or the version or the date cannot be read.
    """
    file = stack_file(backend)
    release, how = _release(file, version, on)
    wanted = version or release.version
    fitted = [c for c in fitted_file().constants if c.backend == backend]
    here = [c for c in fitted if not architecture or not c.architectures or architecture in c.architectures]
    if wanted not in {c.version for c in here} and wanted in {c.version for c in fitted}:
        here = []  # the version says more of an engine's host than the architecture does
    constants = _neighbour({c.version: c for c in here or fitted}, wanted)
    same_version = constants.version == wanted and release.version == wanted
    reason = how if same_version else f"{how}; constants of {constants.version}"
    spread = 0.0 if same_version else _spread(file, release, constants.version)
    if not here:
        constants = _without_scales(constants)
        reason += f"; kernel and prefill scales of {architecture} not fitted"
        spread = hypot(spread, fitted_file().architecture_log_half_width.value)
    return Stack(
        backend=backend,
        release=release,
        rules=file.rules[release.rules],
        constants=constants,
        exact=same_version and bool(here),
        reason=reason,
        spread=spread,
        content_hash=content_hash(_package_file(f"{backend}.yaml"), _package_file("fitted.yaml")),
    )


def _without_scales(constants: FittedConstants) -> FittedConstants:
    """The constants with the scales of an architecture that no fit saw."""
    file = fitted_file()
    scales = {"kernel_scale": file.unfitted_kernel_scale, "prefill_scale": file.unfitted_prefill_scale}
    return constants.model_copy(update=scales)


def _spread(file: StackFile, release: StackRelease, stand_in: str) -> float:
    """Half width, in log space, of using another version's constants: more for each year between releases."""
    fitted = fitted_file()
    known = _neighbour({r.version: r for r in file.versions}, stand_in)
    years = (release.released - known.released).days / 365.25
    yearly = fitted.yearly_spread_newer if years > 0 else fitted.yearly_spread_older
    return hypot(fitted.version_spread_log_half_width.value, yearly.value * years)


def _release(file: StackFile, version: str, on: str) -> tuple[StackRelease, str]:
    if version:
        release = _neighbour({r.version: r for r in file.versions}, version)
        known = "" if release.version == version else f" is not modelled; rules of {release.version}"
        return release, f"version {version}{known}"
    plain = [r for r in file.versions if not _version(r.version).local]
    if not on:
        return plain[-1], f"newest modelled: {plain[-1].version}"
    released = [r for r in plain if r.released <= _date(on)]
    release = max(released, key=lambda r: r.released) if released else plain[0]
    return release, f"newest before {on}: {release.version}"


def _neighbour(known: dict[str, T], version: str) -> T:
    """The entry of this version, else of the nearest older one, else of the oldest.

    A local label (`+mtp`) names a different way to run a version: only entries with the same label are
    neighbours, or those without one where no entry has it.
    """
    wanted = _version(version)
    alike = [v for v in known if _version(v).local == wanted.local] or [
        v for v in known if not _version(v).local
    ]
    ordered = sorted(alike, key=_version)
    older = [v for v in ordered if _version(v) <= wanted]
    return known[older[-1] if older else ordered[0]]


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        raise InputError(
            Problem(
                path="stack_version",
                requirement="must be a version such as 0.5.9 or 1.2.0rc6",
                given=repr(text),
            )
        ) from None


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(
            Problem(path="date", requirement="date must be YYYY-MM-DD", given=repr(text))
        ) from None
