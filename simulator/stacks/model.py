"""What a serving engine's version does: rules read in its source, and at most eight fitted constants.

Rules are written by hand in `<backend>.yaml`, each with its source. Constants are written by
`simulator.measured.stack_fit` into `fitted.yaml`, each with the number of runs behind it.
"""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware_specs.records.fields import BytesQ, CountQ, FractionQ, NumberQ, SecondsQ
from hardware_specs.records.quantities import Quantity
from simulator.step.constants import StackConstants

Backend = Literal["vllm", "sglang", "trtllm"]
Policy = Literal["vllm_v1", "sglang_prefill_first", "trtllm_inflight"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tier(_Record):
    """A default that depends on the device's memory: the largest minimum that is met decides."""

    min_memory: BytesQ
    value: CountQ


class StackRules(_Record):
    """Scheduling and memory rules that one or more versions share."""

    policy: Policy
    step_tokens: tuple[Tier, ...] = Field(min_length=1, description="token budget of a step")
    max_running: tuple[Tier, ...] = Field(min_length=1, description="cap on running sequences")
    memory_rule: Literal["of_total", "of_free"] = Field(
        description="of_total: weights, workspace and cache share a fraction of the reported capacity; "
        "of_free: the cache takes a fraction of what weights and workspace leave"
    )
    memory_fraction: FractionQ
    workspace: BytesQ = Field(description="graphs, communication buffers, fragmentation; a device")
    kv_reserve_output_fraction: FractionQ = Field(description="share of the output that admission reserves")
    frontend_s_per_token: SecondsQ = Field(description="serial tokenisation before admission")
    attention_dp_wait_steps: NumberQ = Field(
        description="steps that a prompt waits under attention DP for the other ranks to have one too"
    )
    second_stream_tokens: NumberQ = Field(
        description="tokens of a rank up to which shared experts run beside the routed ones"
    )
    kv_dtype: dict[str, str] = Field(
        description="cache dtype by `precision/architecture` or weight precision; `default` otherwise"
    )


class StackRelease(_Record):
    """A version, when it was released, and the rules it follows."""

    version: str
    released: date
    rules: str
    note: str = ""


class StackFile(_Record):
    """A stack file: the rules of one engine and its versions, oldest first."""

    schema_version: int
    backend: Backend
    name: str
    sources: tuple[str, ...]
    rules: dict[str, StackRules]
    versions: tuple[StackRelease, ...] = Field(min_length=1)


class FittedConstants(_Record):
    """The constants of one version as sourced figures, and the widths that unseen rows earned."""

    backend: Backend
    version: str
    n_rows: int = Field(ge=0, description="runs that the fit saw; 0: the engine's prior")
    architectures: tuple[str, ...] = Field(description="architectures of the fitted runs; empty: any")
    kernel_scale: NumberQ
    small_kernel_s: SecondsQ
    prefill_scale: NumberQ
    host_base_s: SecondsQ
    host_per_sequence_s: SecondsQ
    host_prefill_s: SecondsQ
    first_token_s: SecondsQ
    stream_interval_steps: NumberQ
    tpot_log_half_width: NumberQ = Field(description="half of the 90% interval of TPOT in log space")
    ttft_log_half_width: NumberQ = Field(description="half of the 90% interval of TTFT in log space")

    def plain(self) -> StackConstants:
        """The same constants as floats."""
        return StackConstants(**{name: getattr(self, name).value for name in StackConstants.names()})


class FittedFile(_Record):
    """Every fitted version, and what using another version's constants adds to the interval."""

    schema_version: int
    made_by: str
    version_spread_log_half_width: NumberQ
    yearly_spread_newer: NumberQ = Field(
        description="log half width added for each year that the version asked is newer than its stand-in"
    )
    yearly_spread_older: NumberQ = Field(
        description="log half width added for each year that the version asked is older than its stand-in"
    )
    unfitted_kernel_scale: NumberQ = Field(
        description="kernel scale on an architecture without a fitted run: other kernels run there"
    )
    unfitted_prefill_scale: NumberQ = Field(description="prefill scale on such an architecture")
    architecture_log_half_width: NumberQ = Field(description="log half width added on such an architecture")
    constants: tuple[FittedConstants, ...]


def tier_value(tiers: tuple[Tier, ...], memory_bytes: float) -> Quantity:
    """The default of a device with this memory: the largest minimum that it meets, else the smallest tier."""
    ordered = sorted(tiers, key=lambda tier: -tier.min_memory.value)
    return next((tier.value for tier in ordered if memory_bytes >= tier.min_memory.value), ordered[-1].value)
