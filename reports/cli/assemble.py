"""From parsed flags and an optional file to a scenario. A flag overrides the file's entry.

Without a file the defaults of `reports.cli.flags` hold; each default that was used is handed back as an
assumption, so that the ledger of a result shows it.
"""

import argparse
from dataclasses import replace
from math import prod
from typing import Any

from pydantic import ValidationError

from hardware_specs.records.errors import InputError, Problem
from hardware_specs.records.wording import Complaint, sentences
from reports.cli.custom_model import stored_as_its_file
from reports.cli.flags import WORKLOAD_DEFAULTS, field_default
from reports.scenarios import load_scenario
from simulator.forecast import Assumption
from simulator.scenario.model import Deployment, Scenario

Tree = dict[str, Any]

#: flag -> entry of the deployment
_DEPLOYMENT = (
    "model",
    "approximate",
    "system",
    "gpus",
    "tp",
    "pp",
    "ep",
    "dp",
    "stack",
    "stack_version",
    "precision",
    "pruning",
    "expert_load",
    "kv_dtype",
    "calibration",
)
_OBJECTIVES = {"ttft": "ttft_ms", "tpot": "tpot_ms", "percentile": "percentile"}
_LENGTHS = {"isl": "input_tokens", "osl": "output_tokens"}
_LOADS = ("concurrency", "request_rate", "trace")
#: entry of the scenario -> the flag that a complaint about it should name
_FLAG_OF = {name: "--" + name.replace("_", "-") for name in _DEPLOYMENT} | {
    "rate_per_s": "--request-rate",
    "concurrency": "--concurrency",
    "requests": "--requests",
    "max_requests": "--requests",
    "ttft_ms": "--ttft",
    "tpot_ms": "--tpot",
    "percentile": "--percentile",
    "price_usd_per_gpu_hour": "--price",
    "seed": "--seed",
    "law": "--lengths",
    "input_tokens.mean": "--isl",
    "output_tokens.mean": "--osl",
}


def scenario_from(args: argparse.Namespace) -> tuple[Scenario, tuple[Assumption, ...]]:
    """The scenario that file and flags describe, and the defaults that filled it.

    Raises:
        InputError: every flag that is missing or wrong, in one error.
    """
    given = {name: value for name, value in vars(args).items() if value is not None}
    if "scenario" in given:
        loaded = load_scenario(given["scenario"])
        tree = loaded.model_dump(mode="json")
        dropped = _drop_points(tree, given)
        stated = "precision" in loaded.deployment.model_fields_set | given.keys()
        return stored_as_its_file(_validated(_overridden(tree, given)), dropped, is_stated=stated)
    _require(given)
    used = _defaults_used(given)
    filled = given | {name: WORKLOAD_DEFAULTS[name][0] for name in used}
    tree = _overridden(
        {"name": "from flags", "deployment": {"gpus": _replica_size(given)}, "workload": {}}, filled
    )
    assumed = tuple(_assumed(name) for name in used) + _assumed_fields(tree["deployment"])
    return stored_as_its_file(_validated(tree), assumed, is_stated="precision" in given)


def _drop_points(tree: Tree, given: Tree) -> tuple[Assumption, ...]:
    """Take the measured points out when a flag changes the deployment that they were measured on."""
    changed = [
        f"--{name}" for name in _DEPLOYMENT if name in given and given[name] != tree["deployment"].get(name)
    ]
    if not changed or not tree.pop("points", ()):
        return ()
    why = f"{', '.join(changed)} changed the deployment that they were measured on"
    return (Assumption("measured points of the scenario", "left out", why, "assumed"),)


def deployment_from(args: argparse.Namespace) -> tuple[Deployment, tuple[Assumption, ...]]:
    """The deployment alone, for commands that simulate no workload, and the defaults that filled it."""
    scenario, assumed = scenario_from(args)
    workload = {f"--{name}" for name in WORKLOAD_DEFAULTS}
    return scenario.deployment, tuple(one for one in assumed if one.what not in workload)


def _defaults_used(given: Tree) -> list[str]:
    lengths = [] if "trace" in given else [name for name in _LENGTHS if name not in given]
    return lengths if any(load in given for load in _LOADS) else [*lengths, "concurrency"]


def _overridden(tree: Tree, given: Tree) -> Tree:
    """The tree with every given flag in its place; what no flag names stays as it is."""
    tree["deployment"] |= {name: given[name] for name in _DEPLOYMENT if name in given}
    _override_workload(tree["workload"], given)
    objectives = {field: given[flag] for flag, field in _OBJECTIVES.items() if flag in given}
    tree["objectives"] = tree.get("objectives", {}) | objectives
    if "price" in given:
        tree |= {"price_usd_per_gpu_hour": given["price"], "price_source": "the --price flag"}
    return tree


def _override_workload(workload: Tree, given: Tree) -> None:
    if "concurrency" in given:
        workload["arrivals"] = {"kind": "closed_loop", "concurrency": given["concurrency"]}
    elif "request_rate" in given:
        workload["arrivals"] = {"kind": "poisson", "rate_per_s": given["request_rate"]}
    elif "trace" in given:
        workload |= {"arrivals": {"kind": "trace", "path": given["trace"]}}
        workload |= dict.fromkeys(_LENGTHS.values())
    arrivals = workload["arrivals"]
    if "requests" in given:
        arrivals["max_requests" if arrivals["kind"] == "trace" else "requests"] = given["requests"]
    if "seed" in given:
        workload["seed"] = given["seed"]
    for flag, field in _LENGTHS.items():
        _override_lengths(workload, flag, field, given)


def _override_lengths(workload: Tree, flag: str, field: str, given: Tree) -> None:
    changes = {key: given[name] for key, name in (("mean", flag), ("law", "lengths")) if name in given}
    if changes and workload["arrivals"]["kind"] == "trace":
        requirement = "must not be given with a trace, which carries the lengths of its requests"
        raise InputError(Problem(requirement=requirement, path=f"--{flag if flag in given else 'lengths'}"))
    if changes:
        workload[field] = (workload.get(field) or {}) | changes


def _validated(tree: Tree) -> Scenario:
    try:
        return Scenario.model_validate(tree)
    except ValidationError as error:
        raise InputError(*(_at_flag(found) for found in sentences(error, Scenario, tree))) from None


def _at_flag(complaint: Complaint) -> Problem:
    """The complaint placed at the flag that carries the entry."""
    path = ".".join(str(step) for step in complaint.path)
    flag = next(
        (flag for entry, flag in _FLAG_OF.items() if path == entry or path.endswith(f".{entry}")), path
    )
    return replace(complaint.problem, path=flag)


def _require(given: Tree) -> None:
    missing = [name for name in ("model", "system") if name not in given]
    if missing:
        requirement = "is required where no scenario file is given"
        raise InputError(*(Problem(requirement=requirement, path=f"--{name}") for name in missing))


def _replica_size(given: Tree) -> int:
    return max(prod(int(given.get(width, field_default(width))) for width in ("tp", "dp", "pp")), 1)


def _assumed(name: str) -> Assumption:
    value, unit = WORKLOAD_DEFAULTS[name]
    return Assumption(
        f"--{name}", f"{value} {unit}", "default of the command: the flag was not given", "assumed"
    )


def _assumed_fields(deployment: Tree) -> tuple[Assumption, ...]:
    source = "default of the command: the flag was not given"
    fields = [name for name in ("tp", "stack", "precision") if name not in deployment]
    return tuple(Assumption(f"--{name}", str(field_default(name)), source, "assumed") for name in fields)
