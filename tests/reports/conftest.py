"""A forecast made by hand, so that what is shown can be tested without simulating."""

from collections.abc import Callable

import numpy as np
import pytest

from hardware_specs.records.evidence import Estimate, Grade
from model_graphs.runs.records import RequestTable, ServingRun
from simulator.forecast import Assumption, Forecast, MemoryFit, MemoryTerm
from simulator.scenario.model import ClosedLoop, Deployment, Lengths, MeasuredFact, Point, Scenario, Workload

GIB = 2.0**30


@pytest.fixture
def scenario() -> Scenario:
    """R1 on eight H200 with one measured point."""
    fact = MeasuredFact(metric="tpot_ms", value=20.0, source="a paper", version="0.5.9")
    return Scenario(
        name="hand made",
        deployment=Deployment(model="deepseek-r1", system="h200_sxm"),
        workload=Workload(
            arrivals=ClosedLoop(concurrency=4, requests=4),
            input_tokens=Lengths(mean=1000),
            output_tokens=Lengths(mean=11),
        ),
        price_usd_per_gpu_hour=2.0,
        price_source="a contract",
        points=(Point(concurrency=16, isl=2000, osl=11, measured=(fact,)),),
    )


@pytest.fixture
def fake_forecast() -> Callable[[Scenario], Forecast]:
    """TTFT is 0.1 ms and TPOT 0.01 ms an input token; 4 requests of 11 tokens in 1 s."""
    return make_forecast


def make_forecast(scenario: Scenario) -> Forecast:
    """The forecast of the fixture."""
    isl = scenario.workload.input_tokens.mean if scenario.workload.input_tokens else 1000
    n = 4
    first = np.full(n, isl * 1e-4)
    requests = RequestTable(
        arrival_s=np.zeros(n),
        first_token_s=first,
        finish_s=first + 10 * isl * 1e-5,
        input_tokens=np.full(n, isl),
        output_tokens=np.full(n, 11),
        queue_s=np.zeros(n),
    )
    terms = (MemoryTerm("weights", 80 * GIB, "fp8"), MemoryTerm("workspace", 2 * GIB))
    return Forecast(
        scenario=scenario,
        metrics={
            "ttft_ms": estimate(isl * 0.1, "ms"),
            "ttft_p99_ms": estimate(isl * 0.1, "ms"),
            "tpot_ms": estimate(isl * 0.01, "ms"),
            "output_tok_s": estimate(44.0, "tok/s"),
            "total_tok_s": estimate(44.0 + 4 * isl, "tok/s"),
            "power_w": estimate(5000.0, "W"),
            "usd_per_hour": estimate(16.0, "USD/h"),
            "usd_per_million_output_tokens": estimate(16 / 3600 / 44 * 1e6, "USD"),
            "usd_per_million_total_tokens": estimate(16 / 3600 / (44 + 4 * isl) * 1e6, "USD"),
        },
        memory=MemoryFit(terms, 140 * GIB, 126 * GIB, 70272.0, 600_000),
        run=ServingRun(requests, 1.0, 14, {"kv_peak_tokens": 4044.0}),
        binding="memory bandwidth",
        step_breakdown={"decode": {"attention": 0.002, "moe": 0.006}},
        assumptions=(Assumption("kv_dtype", "bf16", "the stack's default", "datasheet"),),
        input_hash="0123456789abcdef",
        versions={"silicast": "0.1.0"},
    )


def estimate(value: float, unit: str) -> Estimate:
    """Ten percent either way at grade B."""
    return Estimate(value, 0.9 * value, 1.1 * value, unit, Grade.B)
