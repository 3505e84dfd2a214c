"""A simulation as JSON: the same content as its tables, numbers as numbers, with hash and versions."""

from collections.abc import Mapping
from dataclasses import asdict

from hardware_specs.records.evidence import Estimate
from reports.comparison import Comparison
from reports.indicators import ContextPoint, HardwareCost, LongContext
from reports.objectives import ObjectiveCheck
from reports.rows import approximation
from reports.simulation import SimulationReport
from reports.versions import runtime_versions
from simulator.forecast import MemoryFit

SCHEMA_VERSION = 1


def simulation_json(report: SimulationReport) -> dict[str, object]:
    """Everything that `simulate` prints."""
    forecast = report.forecast
    return {
        "schema_version": SCHEMA_VERSION,
        "approximation": [text for _, text in approximation(forecast.scenario.deployment)],
        "scenario": forecast.scenario.model_dump(mode="json"),
        "metrics": {name: estimate_json(value) for name, value in forecast.metrics.items()},
        "indicators": {
            "time_to_first_token": {
                name: estimate_json(value)
                for name, value in forecast.metrics.items()
                if name.startswith("ttft")
            },
            "long_context": _long_context(report.long_context),
            "hardware_cost": _cost(report.cost),
        },
        "objectives": [_objective(check) for check in report.objectives],
        "comparisons": [_comparison(one) for one in report.comparisons],
        "memory": memory_json(forecast.memory),
        "binding": forecast.binding,
        "step_breakdown": {phase: dict(parts) for phase, parts in forecast.step_breakdown.items()},
        "counters": dict(forecast.run.counters),
        "requests": len(forecast.run.requests.arrival_s),
        "makespan_s": forecast.run.makespan_s,
        "assumptions": [asdict(assumption) for assumption in forecast.assumptions],
        "input_hash": forecast.input_hash,
        "versions": runtime_versions() | dict(forecast.versions),
    }


def estimate_json(estimate: Estimate | None) -> dict[str, object] | None:
    """Value, interval, unit and grade."""
    if estimate is None:
        return None
    return asdict(estimate) | {"grade": estimate.grade.value}


def memory_json(fit: MemoryFit) -> dict[str, object]:
    """The memory fit, bytes per device."""
    return asdict(fit) | {
        "needed_bytes": fit.needed_bytes,
        "kv_cache_bytes": fit.usable_bytes - fit.needed_bytes,
    }


def _long_context(context: LongContext) -> dict[str, object]:
    rows = [
        {
            "factor": row.factor,
            "input_tokens": row.input_tokens,
            "cache_holds_requests": row.cache_holds_requests,
            "alone": _point(row.alone),
            "loaded": _point(row.loaded) if row.loaded else None,
        }
        for row in context.rows
    ]
    return {
        "rows": rows,
        "limit_tokens": context.limit_tokens,
        "mean_input_tokens": context.mean_input_tokens,
        "mean_output_tokens": context.mean_output_tokens,
    }


def _point(point: ContextPoint) -> Mapping[str, object]:
    return {
        "ttft_ms": estimate_json(point.ttft),
        "tpot_ms": estimate_json(point.tpot),
        "ttft_ratio": point.ttft_ratio,
        "tpot_ratio": point.tpot_ratio,
        "reason": point.reason,
    }


def _cost(cost: HardwareCost | None) -> Mapping[str, object] | None:
    if cost is None:
        return None
    figures = {
        name: estimate_json(value) for name, value in vars(cost).items() if isinstance(value, Estimate)
    }
    return {name: value for name, value in vars(cost).items() if name not in figures} | figures


def _objective(check: ObjectiveCheck) -> Mapping[str, object]:
    return asdict(check) | {"met": check.met, "estimate": estimate_json(check.estimate)}


def _comparison(one: Comparison) -> Mapping[str, object]:
    return {
        "concurrency": one.point.concurrency,
        "isl": one.point.isl,
        "osl": one.point.osl,
        "metric": one.fact.metric,
        "measured": one.fact.value,
        "predicted": estimate_json(one.predicted),
        "error": one.error,
        "inside_interval": one.inside,
        "in_calibration": one.fact.in_calibration,
        "source": one.fact.source,
        "version": one.fact.version,
        "measured_on": str(one.fact.measured_on or ""),
        "note": one.fact.note,
    }
