"""Placement plans: which parts of a model lie on the GPU, which on its host's CPU, which on disk.

A plan is a list of rules, from YAML or from a short text such as `layers:0-11=gpu,experts=cpu,rest=cpu`:

| part | what it names |
|---|---|
| embedding | the token embedding and the norm behind it |
| layers | decoder layers of a range, or all, with their caches |
| experts | routed experts of a range of layers, or all, where they do not stay with their layer |
| head | the output head |
| rest | whatever no other rule names |

What lies on `cpu` or `disk` is computed by the CPU; weights on disk are read anew for every call. Every part
of a model has exactly one place, or the plan is refused.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware_specs.records.errors import InputError, Problem, nearest
from hardware_specs.records.yaml_reader import validate_file


class Place(StrEnum):
    """Where weights lie."""

    CPU = "cpu"
    GPU = "gpu"
    DISK = "disk"


class Part(StrEnum):
    """What a rule names."""

    EMBEDDING = "embedding"
    LAYERS = "layers"
    EXPERTS = "experts"
    HEAD = "head"
    REST = "rest"


#: what is computed by the CPU
HOST_PLACES = frozenset({Place.CPU, Place.DISK})
RANGED = (Part.LAYERS, Part.EXPERTS)

_RULE = re.compile(r"^(?P<part>[a-z]+)(:(?P<first>\d+)(-(?P<last>\d+))?)?=(?P<place>[a-z]+)$")


class PlacementRule(BaseModel):
    """A part and its place; `first` and `last` count layers from 0, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Part
    where: Place
    first: int | None = Field(None, ge=0)
    last: int | None = Field(None, ge=0)

    def __str__(self) -> str:
        return f"{self.what}{'' if self.first is None else f':{self.first}-{self.last}'}={self.where}"

    def layers(self, n_layers: int) -> range:
        """The layers that the rule names in a model of this many."""
        if self.first is None or self.last is None:
            return range(n_layers)
        return range(self.first, self.last + 1)


class PlacementPlan(BaseModel):
    """Rules in any order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    rules: tuple[PlacementRule, ...] = Field(min_length=1)

    def __str__(self) -> str:
        return ",".join(map(str, self.rules))

    @classmethod
    def parse(cls, text: str) -> "PlacementPlan":
        """The plan that a short text writes.

        Raises:
            InputError: with every rule that cannot be read.
        """
        problems: list[Problem] = []
        rules = [_parsed(word.strip(), problems) for word in text.split(",")]
        if problems:
            raise InputError(*problems)
        return cls(rules=tuple(rule for rule in rules if rule is not None))


@dataclass(frozen=True)
class Placement:
    """A plan applied to a model: the place of every part. `experts` is None in layers that have none."""

    embedding: Place
    layers: tuple[Place, ...]
    experts: tuple[Place | None, ...]
    head: Place


def read_plan(text: str) -> PlacementPlan:
    """The plan of a YAML file, where the text ends in `.yaml`, or of the text itself.

    Raises:
        InputError: with every problem of the file or the text.
    """
    if text.endswith((".yaml", ".yml")):
        return validate_file(PlacementPlan, Path(text))
    return PlacementPlan.parse(text)


def read_mapping(texts: Iterable[str]) -> dict[Place, Place]:
    """Places and the places whose devices stand in for theirs, from texts such as `gpu=cpu`.

    Raises:
        InputError: with every text that is not PLACE=PLACE.
    """
    pairs = [text.partition("=") for text in texts]
    wrong = [(start + sign + end) for start, sign, end in pairs if not {start, end} <= set(Place)]
    if wrong:
        requirement = f"must be PLACE=PLACE, such as gpu=cpu; places are {', '.join(Place)}"
        raise InputError(*(Problem(requirement, text, path="map") for text in wrong))
    return {Place(start): Place(end) for start, _, end in pairs}


def layers_on_gpu(n_gpu: int, n_layers: int) -> PlacementPlan:
    """The plan with the last `n_gpu` of `n_layers` layers and the head on the GPU, the rest on the CPU.

    With all layers the embedding is on the GPU too; with no layer nothing is.
    """
    where = [PlacementRule(what=Part.REST, where=Place.GPU if n_gpu == n_layers else Place.CPU)]
    if 0 < n_gpu < n_layers:
        first = n_layers - n_gpu
        where.append(PlacementRule(what=Part.LAYERS, where=Place.GPU, first=first, last=n_layers - 1))
        where.append(PlacementRule(what=Part.HEAD, where=Place.GPU))
    return PlacementPlan(rules=tuple(where))


def resolve_placement(plan: PlacementPlan, has_experts: Sequence[bool]) -> Placement:
    """The place of every part of a model whose layers have routed experts or not, as `has_experts` says.

    Raises:
        InputError: a rule names what the model does not have; a part has two places or none.
    """
    found = _Places(plan, has_experts)
    if found.problems:
        raise InputError(*found.problems)
    return found.placement()


def _parsed(word: str, problems: list[Problem]) -> PlacementRule | None:
    match = _RULE.match(word)
    if match is None:
        form = "must be PART=PLACE or PART:FIRST-LAST=PLACE, such as layers:0-11=gpu"
        problems.append(Problem(form, repr(word), path="placement"))
        return None
    before = len(problems)
    for name, choices in (("part", Part), ("place", Place)):
        if match[name] not in list(choices):
            requirement = f"{name} must be one of {', '.join(choices)}"
            problems.append(
                Problem(requirement, match[name], path="placement", suggestion=nearest(match[name], choices))
            )
    if len(problems) > before:
        return None
    first = None if match["first"] is None else int(match["first"])
    last = first if match["last"] is None else int(match["last"])
    return PlacementRule(what=Part(match["part"]), where=Place(match["place"]), first=first, last=last)


class _Places:
    """Rules put on a model one by one, with the problems that this meets."""

    def __init__(self, plan: PlacementPlan, has_experts: Sequence[bool]) -> None:
        self._has_experts = has_experts
        self._chosen: dict[tuple[Part, int], list[Place]] = {key: [] for key in self._keys()}
        self.problems: list[Problem] = []
        rest = [rule.where for rule in plan.rules if rule.what is Part.REST]
        for rule in plan.rules:
            self.problems += _range_problems(rule, len(has_experts))
        if not self.problems:
            for rule in plan.rules:
                self._put(rule)
            self._fill(rest)
            self.problems += self._unsettled()

    def placement(self) -> Placement:
        """The places, once there is no problem."""
        place = {key: found[0] for key, found in self._chosen.items() if found}
        layers = range(len(self._has_experts))
        return Placement(
            embedding=place[Part.EMBEDDING, 0],
            layers=tuple(place[Part.LAYERS, i] for i in layers),
            experts=tuple(
                place.get((Part.EXPERTS, i), place[Part.LAYERS, i]) if self._has_experts[i] else None
                for i in layers
            ),
            head=place[Part.HEAD, 0],
        )

    def _keys(self) -> Iterator[tuple[Part, int]]:
        yield from ((Part.EMBEDDING, 0), (Part.HEAD, 0))
        for i, has_experts in enumerate(self._has_experts):
            yield Part.LAYERS, i
            if has_experts:
                yield Part.EXPERTS, i

    def _put(self, rule: PlacementRule) -> None:
        if rule.what is Part.REST:
            return
        members = rule.layers(len(self._has_experts)) if rule.what in RANGED else range(1)
        held = [i for i in members if (rule.what, i) in self._chosen]
        missing = [i for i in members if (rule.what, i) not in self._chosen]
        if missing and (rule.first is not None or not held):
            requirement = "must name layers that have routed experts, which these have not: "
            self.problems.append(Problem(requirement + _layers(missing), str(rule), path="placement"))
        for i in held:
            self._chosen[rule.what, i].append(rule.where)

    def _fill(self, rest: list[Place]) -> None:
        for (part, _), found in self._chosen.items():
            if not found and part is not Part.EXPERTS:  # experts without a rule stay with their layer
                found += rest

    def _unsettled(self) -> Iterator[Problem]:
        for part in (Part.EMBEDDING, Part.LAYERS, Part.EXPERTS, Part.HEAD):
            counts = {i: len(found) for (of, i), found in self._chosen.items() if of is part}
            none = [i for i, n in counts.items() if n == 0] if part is not Part.EXPERTS else []
            several = [i for i, n in counts.items() if n > 1]
            for members, what in ((none, "no place"), (several, "more than one place")):
                if members:
                    name = f"{part} of {_layers(members)}" if part is Part.EXPERTS else _layers(members)
                    named = name if part in RANGED else str(part)
                    yield Problem(f"must have exactly one place; {named} has {what}", path="placement")


def _range_problems(rule: PlacementRule, n_layers: int) -> Iterator[Problem]:
    if (rule.first is None) != (rule.last is None):
        yield Problem("first and last must be given together", str(rule), path="placement")
        return
    if rule.first is None or rule.last is None:
        return
    if rule.what not in RANGED:
        yield Problem(f"a range belongs to {' or '.join(RANGED)}", str(rule), path="placement")
    if rule.first > rule.last:
        yield Problem("the first layer of a range must not be after its last", str(rule), path="placement")
    if rule.last >= n_layers:
        requirement = f"a range must end by layer {n_layers - 1}, the model's last"
        yield Problem(requirement, str(rule), path="placement")


def _layers(numbers: Sequence[int]) -> str:
    """Layer numbers as ranges: `layers 0-2, 7`."""
    starts = [numbers[0], *(b for a, b in pairwise(numbers) if b != a + 1)]
    ends = [*(a for a, b in pairwise(numbers) if b != a + 1), numbers[-1]]
    spans = (str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
    return f"{'layer' if len(numbers) == 1 else 'layers'} {', '.join(spans)}"
