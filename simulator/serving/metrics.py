"""What a serving run amounts to: latency statistics and throughput by the metric names of validation.

The whole run counts, its opening burst included, because measured runs count it; `after_warmup` leaves out
the first requests where a steady state is wanted. Percentiles of requests interpolate linearly (numpy's
default); percentiles of gaps between tokens are the smallest gap that at least that share of the tokens did
not exceed.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hardware_specs.records.errors import InputError, Problem
from model_graphs.runs.records import FloatArray, RequestTable, ServingRun

#: suffix of a metric name -> percentile; the bare name is the mean
PERCENTILES: Mapping[str, float] = {"_median": 50, "_p90": 90, "_p95": 95, "_p99": 99}


#: end of a metric name -> the unit of its value
UNITS: Mapping[str, str] = {
    "_ms": "ms",
    "_tok_s": "tokens/s",
    "_tok_s_per_gpu": "tokens/s/GPU",
    "_tok_s_per_user": "tokens/s/user",
    "samples_per_s": "requests/s",
}


def unit_of(metric: str) -> str:
    """The unit that a serving metric's name ends in.

    Raises:
        InputError: it is not a name of a serving metric.
    """
    for ending, unit in UNITS.items():
        if metric.endswith(ending):
            return unit
    requirement = f"a serving metric's name must end in one of {', '.join(UNITS)}"
    raise InputError(Problem(path="metric", requirement=requirement, given=metric))


def serving_metrics(run: ServingRun, n_gpus: int) -> dict[str, float]:
    """Metrics by name: ms where the name ends so, tokens/s and requests/s otherwise.

    A metric that the run does not determine (TPOT of requests with one token) is absent.
    """
    requests = run.requests
    metrics: dict[str, float] = {}
    for name, values_s in (("ttft", requests.ttft_s), ("tpot", requests.tpot_s), ("e2e", requests.e2e_s)):
        known_s = values_s[~np.isnan(values_s)]
        if len(known_s):
            metrics[f"{name}_ms"] = float(known_s.mean()) * 1e3
            metrics |= {
                f"{name}{s}_ms": float(np.percentile(known_s, p)) * 1e3 for s, p in PERCENTILES.items()
            }
    if run.itl_s is not None and run.itl_weight is not None and len(run.itl_s):
        metrics |= _gap_metrics(run.itl_s, run.itl_weight)
    return metrics | _throughput(requests, run.makespan_s, n_gpus)


def after_warmup(run: ServingRun, n_requests: int) -> ServingRun:
    """The run without its first requests; gaps between tokens and counters, kept per step, are dropped.

    Raises:
        InputError: no request would be left.
    """
    if not 0 <= n_requests < len(run.requests.arrival_s):
        requirement = f"must leave one of the {len(run.requests.arrival_s)} requests or more"
        raise InputError(Problem(path="n_requests", requirement=requirement, given=str(n_requests)))
    table = run.requests
    kept = RequestTable(
        arrival_s=table.arrival_s[n_requests:],
        first_token_s=table.first_token_s[n_requests:],
        finish_s=table.finish_s[n_requests:],
        input_tokens=table.input_tokens[n_requests:],
        output_tokens=table.output_tokens[n_requests:],
        queue_s=table.queue_s[n_requests:],
    )
    makespan_s = float(kept.finish_s.max() - kept.arrival_s[0])
    return replace(run, requests=kept, makespan_s=makespan_s, counters={}, itl_s=None, itl_weight=None)


def mean_in_flight(requests: RequestTable) -> float:
    """Mean requests in flight from the first arrival to the last answer, counted event by event."""
    times_s = np.concatenate([requests.arrival_s, requests.finish_s])
    changes = np.repeat([1, -1], len(requests.arrival_s))
    order = np.argsort(times_s, kind="stable")
    in_flight = np.cumsum(changes[order])[:-1]
    return float((in_flight * np.diff(times_s[order])).sum() / (times_s.max() - times_s.min()))


def littles_law_error(requests: RequestTable) -> float:
    """Relative difference between the mean in flight and arrival rate times mean E2E; Little: 0."""
    span_s = float(requests.finish_s.max() - requests.arrival_s.min())
    expected = len(requests.arrival_s) / span_s * float(requests.e2e_s.mean())
    return mean_in_flight(requests) / expected - 1


def _gap_metrics(gaps_s: FloatArray, weight: FloatArray) -> dict[str, float]:
    metrics = {"itl_ms": float(np.average(gaps_s, weights=weight)) * 1e3}
    order = np.argsort(gaps_s)
    ordered_s, share = gaps_s[order], np.cumsum(weight[order]) / weight.sum()
    for suffix, percentile in PERCENTILES.items():
        at = min(int(np.searchsorted(share, percentile / 100 - 1e-12)), len(ordered_s) - 1)
        metrics[f"itl{suffix}_ms"] = float(ordered_s[at]) * 1e3
    return metrics


def _throughput(requests: RequestTable, makespan_s: float, n_gpus: int) -> dict[str, float]:
    n_input, n_output = float(requests.input_tokens.sum()), float(requests.output_tokens.sum())
    totals = {"input": n_input, "output": n_output, "total": n_input + n_output}
    metrics = {"samples_per_s": len(requests.arrival_s) / makespan_s}
    for name, tokens in totals.items():
        metrics[f"{name}_tok_s"] = tokens / makespan_s
        metrics[f"{name}_tok_s_per_gpu"] = tokens / makespan_s / n_gpus
    tpot_s = requests.tpot_s[requests.output_tokens > 1]
    if len(tpot_s):
        metrics["output_tok_s_per_user"] = 1 / float(tpot_s.mean())
    return metrics
