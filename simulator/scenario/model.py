"""The scenario: one deployment under one workload, as a user writes it in YAML or in flags.

Lengths are tokens, rates are requests per second of the whole service, concurrency is requests in flight at
the client over the whole service. Nothing here prices or simulates; `simulator.forecast` does.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Record(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Deployment(Record):
    """What runs where. Widths are per replica; `gpus` is the whole deployment."""

    model: str = Field(description="canonical key, hub name, or path to a config.json")
    approximate: bool = Field(
        False, description="read a config.json of an unknown architecture as the nearest one, grade D"
    )
    system: str = Field(description="canonical key such as h200_sxm")
    gpus: int = Field(8, ge=1, description="devices of the whole deployment")
    tp: int = Field(8, ge=1, description="attention tensor-parallel width")
    pp: int = Field(1, ge=1, description="pipeline stages")
    dp: int = Field(1, ge=1, description="data-parallel attention ranks of a replica")
    ep: int = Field(1, ge=1, description="expert-parallel width; experts are tensor parallel over tp*dp/ep")
    precision: str = Field(
        "fp8",
        description="weights: bf16; fp8, fp4 as the model's checkpoints; fp8_tensor, fp8_block, nvfp4, mxfp4",
    )
    pruning: str = Field(
        "", description="zeros of inner weights: a fraction such as 0.7, or 2of4; empty: none"
    )
    expert_load: str = Field(
        "power_law",
        description="rows of experts: balanced, power_law (exponent fitted to measured runs) or "
        "power_law_ALPHA; with _eplb or _eplbCOPIES behind it experts are placed by load, with so many "
        "redundant copies",
    )
    kv_dtype: str = Field("auto", description="bf16, fp8, or auto (the stack's default)")
    stack: Literal["vllm", "sglang", "trtllm"] = "sglang"
    stack_version: str = Field("", description="such as 0.5.9; empty: the newest before `date`")
    date: str = Field("", description="date of the run, YYYY-MM-DD; empty: today's newest stack")
    max_running: int | None = Field(
        None, ge=1, description="cap on running sequences; empty: the stack's default"
    )
    step_tokens: int | None = Field(
        None, ge=1, description="token budget of a step; empty: the stack's default"
    )
    poll_interval_steps: int = Field(
        1, ge=1, description="steps between two looks at the request queue (SGLang: scheduler-recv-interval)"
    )
    prompts_per_step: int | None = Field(
        None, ge=1, description="cap on prompts that share a step; empty: as many as its tokens hold"
    )
    mixed_chunk: bool = Field(
        False, description="decode beside prompts (SGLang: enable-mixed-chunk); other engines always do"
    )
    gpu_memory_fraction: float | None = Field(None, gt=0, le=1, description="empty: the stack's default")
    calibration: str = Field(
        "", description="path of a file of `silicast calibrate`, over the shipped kernel constants"
    )

    @property
    def gpus_per_replica(self) -> int:
        """Devices of one replica."""
        return self.tp * self.dp * self.pp

    @property
    def replicas(self) -> int:
        """Independent copies of the model."""
        return max(1, self.gpus // self.gpus_per_replica)


class Lengths(Record):
    """Tokens of a request: fixed, uniform in low_fraction*mean..mean, or lognormal."""

    law: Literal["fixed", "uniform", "lognormal"] = "fixed"
    mean: int = Field(ge=1, description="nominal tokens; the upper end of `uniform`, the mean of `lognormal`")
    low_fraction: float = Field(
        0.8, gt=0, le=1, description="lower end of `uniform` as a fraction of nominal"
    )
    sigma: float = Field(0.8, gt=0, description="log standard deviation of `lognormal`")


class ClosedLoop(Record):
    """`concurrency` clients that all start at once and send the next request when the last one finished."""

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: int = Field(ge=1)
    requests: int | None = Field(None, ge=1, description="empty: 10 x concurrency")


class Poisson(Record):
    """Independent arrivals at a rate of the whole service."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: float = Field(gt=0)
    requests: int = Field(1000, ge=1)


class Burst(Record):
    """Every request at time zero."""

    kind: Literal["burst"] = "burst"
    requests: int = Field(ge=1)


class TraceReplay(Record):
    """Replay of a trace file with its time stamps and lengths (Azure CSV or Mooncake JSONL)."""

    kind: Literal["trace"] = "trace"
    path: str
    rate_scale: float = Field(1.0, gt=0)
    max_requests: int | None = Field(None, ge=1)


Arrivals = Annotated[ClosedLoop | Poisson | Burst | TraceReplay, Field(discriminator="kind")]


class Workload(Record):
    """Who sends what when."""

    arrivals: Arrivals
    input_tokens: Lengths | None = Field(None, description="empty only with a trace")
    output_tokens: Lengths | None = Field(None, description="empty only with a trace")
    seed: int = 0


class Objectives(Record):
    """Limits that the user wants met, milliseconds at a percentile."""

    ttft_ms: float | None = Field(None, gt=0)
    tpot_ms: float | None = Field(None, gt=0)
    percentile: float = Field(99, gt=0, lt=100)


class MeasuredFact(Record):
    """One published figure that a prediction is shown beside."""

    metric: str
    value: float
    source: str
    measured_on: date | None = None
    version: str = ""
    note: str = ""
    in_calibration: bool = False


class Point(Record):
    """A variation of the workload inside one scenario, with the figures measured there."""

    concurrency: int = Field(ge=1)
    isl: int = Field(ge=1)
    osl: int = Field(ge=1)
    measured: tuple[MeasuredFact, ...] = ()


class Scenario(Record):
    """A scenario file."""

    schema_version: int = SCHEMA_VERSION
    name: str
    description: str = ""
    deployment: Deployment
    workload: Workload
    objectives: Objectives = Objectives()
    price_usd_per_gpu_hour: float | None = Field(None, gt=0)
    price_source: str = ""
    points: tuple[Point, ...] = ()
