"""Rows of `serving_*.csv` as scenarios: one pure function a row, every inference by a stated rule.

What a row does not state is filled from the rules below and named in its assumptions; no rule looks at a
row's identifier.
"""

from pathlib import Path
from typing import Any, Literal

from hardware_specs.records.errors import InputError, Problem
from model_graphs.configs import resolve_model
from simulator.measured.launch_scripts import grid_of, grid_options, launch_options
from simulator.measured.rows import Fields, MeasuredRow, Record, UnansweredRow, read_rows
from simulator.scenario.model import ClosedLoop, Deployment, Lengths, Scenario, Workload
from simulator.stacks.library import BACKENDS

REQUIRED = {"id", "model_path", "system", "backend", "mode", "isl", "osl", "concurrency", "num_gpus"}

_PRECISIONS = {"fp8": "fp8", "fp4": "fp4", "nvfp4": "fp4", "bf16": "bf16", "bfloat16": "bf16"}
_METRICS = ("ttft_ms", "tpot_ms")

SPECULATION = "speculation suspected"
DYNAMO = "Dynamo front end"
STALL = "start-up stall"
#: (version, first day) of TensorRT-LLM runs of DeepSeek that speculation explains
_SPECULATIVE = (("1.1.0rc2.post2", "2026-01-10"), ("1.2.0rc6.post3", "2026-01-01"))
_STALLS_BEFORE = "2025-12-01"


def read_serving_file(path: Path) -> tuple[list[MeasuredRow], list[UnansweredRow]]:
    """Every row that reads, and the reason for every row that does not."""
    return read_rows(path, REQUIRED, serving_row, lambda record: _METRICS)


def serving_row(record: Record) -> MeasuredRow:
    """The scenario of one row.

    Raises:
        InputError: with every field of the row that is missing or broken, or why the row is not modelled.
    """
    if record["mode"] != "agg":
        raise InputError(Problem("only aggregated serving is modelled", record["mode"], path="mode"))
    fields = Fields(record)
    backend = fields.choice("backend", dict(zip(BACKENDS, BACKENDS, strict=True)))
    precision = fields.choice("precision", _PRECISIONS)
    isl, osl = int(fields.positive("isl")), int(fields.positive("osl"))
    concurrency = max(1, round(fields.positive("concurrency")))
    n_gpus = int(fields.positive("num_gpus"))
    dp, ep = int(fields.positive("attention_dp", 1)), int(fields.positive("moe_ep", 1))
    figures = {name: value for name in _METRICS if (value := fields.optional(name)) is not None}
    fields.done()
    if record.get("ttft_ok", "True") != "True":
        figures.pop("ttft_ms", None)
    record_of_model = resolve_model(record["model_path"])
    model = record_of_model.key
    if precision == "fp8":
        precision = _fp8_format(record, experts=record_of_model.blueprint.n_experts > 0)
    law = client_length_law(record.get("image", ""), isl, osl)
    flags = run_flags(model, backend, precision, record)
    mtp = "+mtp" if SPECULATION in flags else ""
    tp = max(1, n_gpus // dp)
    day = record.get("measured", "")
    client = (isl, osl, concurrency)
    options, source = _server_options(record, model, backend, precision, tp, client, DYNAMO in flags)
    deployment = Deployment(
        model=model,
        system=record["system"],
        gpus=n_gpus,
        tp=tp,
        dp=dp,
        ep=ep,
        precision=precision,
        stack=backend,
        stack_version=version_number(record.get("backend_version", "")) + mtp,
        date=day,
        **options,
    )
    workload = Workload(
        arrivals=ClosedLoop(concurrency=concurrency, requests=None),
        input_tokens=Lengths(law=law, mean=isl),
        output_tokens=Lengths(law=law, mean=osl),
    )
    assumed = [f"client lengths {law}", *flags]
    assumed += [f"{name} {value} ({source})" for name, value in options.items()]
    if not deployment.stack_version:
        assumed.append(f"{backend} version: newest before {deployment.date or 'today'}")
    return MeasuredRow(
        id=record["id"],
        scenario=Scenario(name=record["id"], deployment=deployment, workload=workload),
        figures=figures,
        suite="V1 serving, aggregated",
        assumptions=tuple(assumed),
        deployment_key=deployment_key(deployment),
        flags=flags,
    )


def _server_options(
    record: Record,
    model: str,
    backend: str,
    precision: str,
    tp: int,
    client: tuple[int, int, int],
    behind_dynamo: bool,
) -> tuple[dict[str, Any], str]:
    """Deployment fields that the row does not state, and where they come from.

    `client` is input, output and concurrency.
    """
    isl, osl, concurrency = client
    image, day = record.get("image", ""), record.get("measured", "")
    if day and model.startswith("deepseek-") and not behind_dynamo:
        options = launch_options(backend, record["system"], precision, tp, isl, concurrency, day)
        return options, "launch script"
    if day and backend == "vllm" and model == "llama-3.1-70b":
        return {"kv_dtype": "fp8"}, "launch script"
    return grid_options(backend, image, isl, osl), "inferred from the runs of its grid"


def _fp8_format(record: Record, *, experts: bool) -> str:
    """The fp8 of a run: blocks where the row says so, one scale a tensor in dense models that it calls fp8.

    A mixture's fp8 checkpoint is its publisher's own, whatever the row calls its products.
    """
    if record.get("gemm_quant_mode") == "fp8_block":
        return "fp8" if experts else "fp8_block"
    return "fp8" if experts else "fp8_tensor"


def version_number(text: str) -> str:
    """The version, or nothing where an image is named instead (`gpt-oss-dev`)."""
    return text if text[:1].isdigit() else ""


def run_flags(model: str, backend: str, precision: str, record: Record) -> tuple[str, ...]:
    """What is suspected about a run, from its model, engine, precision, image and date.

    Speculation is never recorded; TensorRT-LLM runs of DeepSeek-R1 under two images, one of them from a
    certain day on, are a third faster than the same engine before and after. Dynamo images put another front
    end and router before the engine. SGLang before 0.5.6 stalls for seconds at the start of an fp4 run.
    """
    flags: list[str] = []
    version, day = record.get("backend_version", ""), record.get("measured", "")
    deepseek = model.startswith("deepseek-")
    if deepseek and backend == "trtllm" and any(version == v and day >= since for v, since in _SPECULATIVE):
        flags.append(SPECULATION)
    if "ai-dynamo" in record.get("image", ""):
        flags.append(DYNAMO)
    if deepseek and backend == "sglang" and precision == "fp4" and day and day < _STALLS_BEFORE:
        flags.append(STALL)
    return tuple(flags)


def deployment_key(deployment: Deployment) -> str:
    """Model family, system, engine and precision: what one leave-out fold leaves out."""
    family = "deepseek-v3" if deployment.model.startswith("deepseek-") else deployment.model
    d = deployment
    return f"{family}|{d.system}|{d.stack}|{d.precision}"


def client_length_law(image: str, isl: int, osl: int) -> Literal["fixed", "uniform"]:
    """Fixed lengths for the grids that ran without a recorded image; else uniform in 0.8..1.0 of nominal."""
    return "fixed" if grid_of(image, isl, osl) else "uniform"
