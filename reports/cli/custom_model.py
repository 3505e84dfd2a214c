"""A deployment of a user's `config.json`: weights as the file stores them, and graphs made ready."""

from hardware_specs.records.errors import InputError, Problem
from model_graphs.configs import ModelRecord, is_config_file, resolve_model
from reports.graph_cache import ensure_emitted
from simulator.forecast import Assumption
from simulator.scenario.model import Scenario

_DEFAULT = "--precision"  # what the assumption of the command's default is called
Assumptions = tuple[Assumption, ...]


def stored_as_its_file(
    scenario: Scenario, assumed: Assumptions, *, is_stated: bool
) -> tuple[Scenario, Assumptions]:
    """The scenario with the precision of its model's file where none was stated, and what was assumed.

    Graphs that the package does not hold are emitted. Other models come back as they are.

    Raises:
        InputError: the file is wrong, or its graphs can neither be found nor emitted.
    """
    one = scenario.deployment
    if not is_config_file(one.model):
        if one.approximate:
            requirement = "is for a config.json; a shipped model is known exactly"
            raise InputError(Problem(requirement, one.model, path="--approximate"))
        return scenario, assumed
    record = resolve_model(one.model, approximate=one.approximate)
    ensure_emitted(record)
    assert record.precision is not None, "a file always says how it stores weights"
    said = _said(record, one.precision, is_stated=is_stated)
    if is_stated:
        return scenario, (*said, *assumed)
    deployment = one.model_copy(update={"precision": record.precision.value})
    kept = tuple(entry for entry in assumed if entry.what != _DEFAULT)
    return scenario.model_copy(update={"deployment": deployment}), (*said, *kept)


def _said(record: ModelRecord, precision: str, *, is_stated: bool) -> Assumptions:
    """What a reader should know of the precision: whose it is, and whether the file says another one."""
    assert record.precision is not None
    own = record.storage(record.precision)
    if not is_stated:
        value = f"{record.precision.value} ({own.dtype})" if own else record.precision.value
        return (Assumption("precision", value, "config.json: --precision was not given", "given"),)
    if record.storage(precision) == own:
        return ()
    stored = own.dtype if own else "16 bits"
    return (Assumption("precision", precision, f"given, although config.json stores {stored}", "given"),)
