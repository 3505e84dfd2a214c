"""Checks of claims on how tokens are generated: a cache in tiers, drafts that are verified."""

from typing import Literal

from pydantic import Field

from hardware_specs.library import load_system
from model_graphs.configs import resolve_model
from model_graphs.page_ledger import CacheStep, replay
from model_graphs.tiers import CachedLayer, CachePolicy, Tier, TierName, cached_layers
from reports.audit_checks import BaseCheck, Finding, Ruling, Stack
from reports.formatting import decimal, figure
from simulator.scenario.model import Deployment
from simulator.step_forecast import forecast_step

_ELEMENT_BYTES = 2  # of a cache in 16 bits
_PAGE_TOKENS = 64
_STEPS = 2  # decode steps after the prompt; the last one is told


class TieredCacheCheck(BaseCheck):
    """Does a cache whose pages live on the device and below it need less of the device's memory?

    The bytes that a decode step fetches are replayed by the ledger that the reference implementation moves
    its pages by; a step waits at least for them at the bandwidth of the link or the drive.
    """

    name: Literal["tiered_cache"]
    model: str
    system: str
    context: int = Field(ge=_PAGE_TOKENS, description="cached tokens of the one sequence")
    device_fraction: float = Field(gt=0, lt=1, description="share of the cache that the device holds")

    def run(self) -> Finding:
        """Supported where the device holds less than the whole cache; what that costs a step is told."""
        layers = cached_layers(resolve_model(self.model).blueprint, _ELEMENT_BYTES)
        whole = self.context * sum(layer.bytes_per_token for layer in layers)
        fetched = self._fetched(layers, int(whole * self.device_fraction))
        return Finding(
            ruling=Ruling.SUPPORTED,
            reason=f"{self.context:,} tokens of {self.model} are {decimal(whole, 'B')} of cache; with "
            f"{self.device_fraction:.0%} of them on the device a decode step fetches "
            f"{decimal(fetched, 'B')}, {self._wait(fetched)}",
            run=f"model_graphs.page_ledger.replay on {self.model}; silicast generate {self.model} --tiny "
            "--tiers device=24KiB,host=16KiB,disk",
            claimed="lowers memory use",
            binding="what is not on the device is fetched for every token",
        )

    def _fetched(self, layers: tuple[CachedLayer, ...], device_bytes: int) -> int:
        """Bytes that come to the device in the last of the decode steps."""
        tiers = (Tier(TierName.DEVICE, device_bytes), Tier(TierName.HOST))
        steps = [CacheStep(self.context), *[CacheStep(1)] * _STEPS]
        moved = replay(CachePolicy(_PAGE_TOKENS, tiers), layers, 1, steps)[-1]
        return sum(n_bytes for (_, target), n_bytes in moved.items() if target is TierName.DEVICE)

    def _wait(self, fetched: int) -> str:
        node = load_system(self.system).node
        link = node.host_link.bandwidth_bytes_per_s.value
        told = f"at least {figure(fetched / link * 1e3, 3)} ms over {node.host_link.name}"
        drive = node.storage_bandwidth_bytes_per_s
        return (
            told if drive is None else f"{told} and {figure(fetched / drive.value * 1e3, 3)} ms from a drive"
        )


class SpeculationCheck(BaseCheck):
    """Does verifying one draft a step explain a latency a token that is lower by `claimed_ratio`?

    A step that verifies costs at most one of twice the sequences; the draft costs the share of a step that
    one layer more has. Kept drafts give 1 + acceptance tokens a step.
    """

    name: Literal["speculation"]
    model: str
    system: str
    gpus: int = Field(ge=1)
    precision: str
    context: int = Field(4096, ge=1)
    acceptance: tuple[float, float] = Field(description="least and greatest share of drafts that are kept")
    claimed_ratio: float = Field(gt=1, description="latency a token without over with")
    stack: Stack = "sglang"

    def run(self) -> Finding:
        """Plausible where the gain at the greatest acceptance reaches the claimed one."""
        plain, verifying = self._step_ms(1), self._step_ms(2)
        draft = plain / len(resolve_model(self.model).blueprint.layers)
        least, most = ((1 + kept) * plain / (verifying + draft) for kept in self.acceptance)
        explains = most >= self.claimed_ratio
        return Finding(
            ruling=Ruling.PLAUSIBLE if explains else Ruling.CONTRADICTED,
            reason=f"one sequence at {self.context:,} tokens: a step takes {figure(plain, 3)} ms, one that "
            f"verifies a draft at most {figure(verifying, 3)} ms and the draft {figure(draft, 2)} ms; with "
            f"{self.acceptance[0]:.0%} to {self.acceptance[1]:.0%} of drafts kept a token is "
            f"{figure(least, 3)} to {figure(most, 3)} times as fast",
            run=f"silicast step --model {self.model} --system {self.system} --gpus {self.gpus} "
            f"--tp {self.gpus} --precision {self.precision} --stack {self.stack} --phase decode --batch 2 "
            f"--length {self.context}",
            claimed=f"{self.claimed_ratio:g} times as fast",
            factor=None if explains else self.claimed_ratio / most,
            binding="" if explains else "drafts kept a step",
        )

    def _step_ms(self, batch: int) -> float:
        deployment = Deployment(
            model=self.model,
            system=self.system,
            gpus=self.gpus,
            tp=self.gpus,
            precision=self.precision,
            stack=self.stack,
        )
        return forecast_step(deployment, "decode", batch, self.context).latency.value


GenerationCheck = TieredCacheCheck | SpeculationCheck
