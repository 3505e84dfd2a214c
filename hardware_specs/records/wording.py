"""Pydantic's complaints as sentences of this project: the parameter, what it must be, and what was given.

A validator may raise an `InputError` of its own; its problems are taken over, with their paths below it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hardware_specs.records.errors import InputError, Problem, nearest

Step = str | int

_REQUIREMENTS: dict[str, str] = {
    "missing": "must be given",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "none_required": "must be empty",
    "date_type": "must be a date YYYY-MM-DD",
    "date_parsing": "must be a date YYYY-MM-DD",
    "date_from_datetime_parsing": "must be a date YYYY-MM-DD",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "must be given",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_pattern_mismatch": "must match {pattern}",
}
_HAVE_CHOICES = ("literal_error", "enum", "union_tag_invalid")


@dataclass(frozen=True)
class Complaint:
    """One problem at a path of the data; `at_key` when the key itself is wrong, not its value."""

    path: tuple[Step, ...]
    problem: Problem
    at_key: bool = False


def path_text(path: Iterable[Step]) -> str:
    """A path as people write it: `points[2].concurrency`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def sentences(error: ValidationError, model: type[BaseModel], data: object) -> Iterator[Complaint]:
    """Every complaint of a validation error, in this project's words."""
    details = error.errors(include_url=False)
    unknown = {_path_in(data, d["loc"]) for d in details if d["type"] == "extra_forbidden"}
    for detail in details:
        path = _path_in(data, detail["loc"])
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            yield from (_below(path, problem) for problem in cause.problems)
        elif detail["type"] == "extra_forbidden":
            yield _unknown_key(path, _keys_at(model, data, path[:-1]))
        else:
            yield _plain_complaint(path, detail, unknown)


def _plain_complaint(
    path: tuple[Step, ...], detail: ErrorDetails, unknown: set[tuple[Step, ...]]
) -> Complaint:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        path = (*path, str(context.get("discriminator", "")).strip("'"))
    given = "" if kind in ("missing", "union_tag_not_found") else _shown(detail["input"], context)
    suggestion = nearest(given.strip("'"), _choices(context)) if kind in _HAVE_CHOICES else ""
    if kind == "missing":
        misspelt = nearest(str(path[-1]), [str(other[-1]) for other in unknown if other[:-1] == path[:-1]])
        given = f"{misspelt}, which is not a key here" if misspelt else ""
    numbers = {name: f"{value:g}" for name, value in context.items() if isinstance(value, float)}
    requirement = _REQUIREMENTS.get(kind, _own_words(detail)).format(**(context | numbers))
    return Complaint(path, Problem(requirement, given, suggestion=suggestion))


def _own_words(detail: ErrorDetails) -> str:
    text = detail["msg"].removeprefix("Value error, ")
    return text.replace("{", "{{").replace("}", "}}")


def _shown(given: object, context: Mapping[str, Any]) -> str:
    if isinstance(given, Mapping):
        return str(context["tag"]) if "tag" in context else "a mapping"
    return "a list" if isinstance(given, list) else repr(given)


def _choices(context: Mapping[str, Any]) -> list[str]:
    listed = str(context.get("expected") or context.get("expected_tags") or "")
    return [choice.strip().strip("'") for choice in listed.replace(" or ", ",").split(",")]


def _below(path: tuple[Step, ...], problem: Problem) -> Complaint:
    return Complaint((*path, *problem.path.split(".")) if problem.path else path, problem)


def _unknown_key(path: tuple[Step, ...], known: Iterable[str]) -> Complaint:
    key, names = str(path[-1]), sorted(known)
    listed = f"; the keys here are {', '.join(names)}" if names else ""
    problem = Problem(f"is not a key here{listed}", suggestion=nearest(key, names))
    return Complaint(path, problem, at_key=True)


def _path_in(data: object, location: tuple[Step, ...]) -> tuple[Step, ...]:
    """The location without the labels that pydantic adds for union members; a last missing key stays."""
    path: list[Step] = []
    for index, step in enumerate(location):
        below = _child(data, step)
        if below is None and index < len(location) - 1:
            continue
        path.append(step)
        data = below[0] if below else None
    return tuple(path)


def _child(data: object, step: Step) -> tuple[object] | None:
    if isinstance(data, dict) and step in data:
        return (data[step],)
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return (data[step],)
    return None


def _keys_at(model: type[BaseModel], data: object, path: tuple[Step, ...]) -> set[str]:
    """The keys that the mapping at this path may have."""
    here: set[type[BaseModel]] = {model}
    for step in path:
        below = _child(data, step)
        data = below[0] if below else None
        if isinstance(step, str):
            annotations = [one.model_fields[step].annotation for one in here if step in one.model_fields]
            here = {found for annotation in annotations for found in _models_in(annotation)}
        here = {one for one in here if _may_be(one, data)}
    return {name for one in here for name in one.model_fields}


def _may_be(model: type[BaseModel], data: object) -> bool:
    """Whether the data names this member of a union, or names none, in each of its literal fields."""
    if not isinstance(data, dict):
        return True
    literals = {name: field.annotation for name, field in model.model_fields.items() if name in data}
    return all(data[n] in get_args(kind) for n, kind in literals.items() if get_origin(kind) is Literal)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that an annotation can hold, through unions, lists, mappings and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from _models_in(argument)
