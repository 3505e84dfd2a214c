"""Verdicts on published claims: each claim file names its figures and, for each, the check that tests it.

A verdict rests on a run, a bound or a citation; what cannot be tested yet says what it would need. The checks
live in `audit_checks`; this module reads claim files, runs them and puts a claim's findings together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.yaml_reader import validate_file
from reports.accuracy_checks import AccuracyCheck
from reports.attention_checks import AttentionCheck
from reports.audit_checks import Check, Finding, Ruling
from reports.audit_offload import GradualOffloadCheck
from reports.bound_checks import BoundCheck
from reports.engine_checks import EngineCheck
from reports.generation_checks import GenerationCheck


class Figure(BaseModel):
    """One figure of a claim and the check that tests it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    says: str = Field(description="what the article says, in our words")
    check: Annotated[
        Check
        | AccuracyCheck
        | AttentionCheck
        | GenerationCheck
        | GradualOffloadCheck
        | BoundCheck
        | EngineCheck,
        Field(discriminator="name"),
    ]
    citations: tuple[str, ...] = ()


class Claim(BaseModel):
    """A claim file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    claim: str
    title: str
    source: str
    reading: str = Field("", description="how an ambiguous claim was read")
    figures: Annotated[tuple[Figure, ...], Field(min_length=1)]


@dataclass(frozen=True)
class FigureVerdict:
    """What was found about one figure."""

    says: str
    finding: Finding
    citations: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What was found about a claim. `ruling` is the severest of its figures' rulings that could be tested."""

    claim: str
    title: str
    source: str
    reading: str
    ruling: Ruling
    figures: tuple[FigureVerdict, ...]

    @property
    def deciding(self) -> FigureVerdict:
        """The first figure with the claim's ruling."""
        return next(figure for figure in self.figures if figure.finding.ruling is self.ruling)


def list_claims() -> tuple[str, ...]:
    """The identifiers of the shipped claims, in the article's order."""
    return tuple(claims())


def run_claims(ids: Sequence[str] = ()) -> list[Verdict]:
    """The verdicts on these claims, on all of them when none is named.

    Raises:
        InputError: an identifier is unknown; all such at once.
    """
    known = claims()
    problems = [_unknown(name, known) for name in ids if name.upper() not in known]
    if problems:
        raise InputError(*problems)
    return [judge(known[name.upper()]) for name in ids or known]


def judge(claim: Claim) -> Verdict:
    """The verdict on a claim: every figure's check is run."""
    figures = tuple(FigureVerdict(one.says, one.check.run(), one.citations) for one in claim.figures)
    ruling = severest(figure.finding.ruling for figure in figures)
    return Verdict(claim.claim, claim.title, claim.source, claim.reading, ruling, figures)


def severest(rulings: Iterable[Ruling]) -> Ruling:
    """One contradicted figure contradicts a claim; what is not testable decides only when it stands alone."""
    given = set(rulings)
    order = (Ruling.CONTRADICTED, Ruling.PLAUSIBLE, Ruling.SUPPORTED, Ruling.NOT_TESTABLE)
    return next(ruling for ruling in order if ruling in given)


@lru_cache(maxsize=1)
def claims() -> dict[str, Claim]:
    """The shipped claims by identifier, sorted by letter and number."""
    folder = files("reports") / "claims"
    found = [
        validate_file(Claim, file, f"claims/{file.name}")
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    ]
    return {one.claim: one for one in sorted(found, key=lambda one: (one.claim[0], int(one.claim[1:])))}


def _unknown(name: str, known: Iterable[str]) -> Problem:
    listed = ", ".join(known)
    return Problem(f"claim must be one of {listed}", name, suggestion=nearest(name.upper(), known))
