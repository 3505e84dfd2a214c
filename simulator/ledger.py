"""What a forecast rests on: choices made where the input was silent, constants used, and versions."""

from importlib.metadata import PackageNotFoundError, version

from hardware_specs.records.quantities import Quantity
from simulator.costs.expert_load import ends_of_law, fitted_exponent
from simulator.forecast import Assumption
from simulator.prepared import Prepared
from simulator.scenario.model import Scenario
from simulator.step.constants import StackConstants

_PACKAGES = ("numpy", "simpy", "pandas", "pydantic")


def assumptions_of(prepared: Prepared, scenario: Scenario) -> tuple[Assumption, ...]:
    """Every choice that the scenario did not state, then every constant with its source."""
    d = prepared.deployment
    chosen = [
        Assumption("stack", f"{d.stack} {prepared.stack.release.version}", prepared.stack.reason, "assumed")
        if not d.stack_version
        else Assumption("stack", f"{d.stack} {d.stack_version}", prepared.stack.reason, "given"),
        Assumption(
            "kv_dtype",
            prepared.kv_dtype,
            "the stack's default" if d.kv_dtype == "auto" else "given",
            "assumed",
        ),
        _tiered("step_tokens", d.step_tokens, prepared.step_tokens),
        _tiered("max_running", d.max_running, prepared.max_running),
        _expert_load(d.expert_load),
    ]
    chosen += [Assumption("note", note, "model, layout or precision", "assumed") for note in prepared.notes]
    if scenario.price_usd_per_gpu_hour is not None:
        price = f"{scenario.price_usd_per_gpu_hour:g} USD per GPU-hour"
        chosen.append(Assumption("price", price, scenario.price_source or "given", "given"))
    rules = prepared.stack.rules
    chosen.append(_figure("memory fraction", rules.memory_fraction))
    chosen.append(_figure("workspace", rules.workspace))
    constants = prepared.stack.constants
    chosen += [_figure(name, getattr(constants, name)) for name in StackConstants.names()]
    chosen += _kernels(prepared.components.evidence)
    return tuple(chosen)


def _expert_load(law: str) -> Assumption:
    if not ends_of_law(law):
        return Assumption("expert_load", law, "given", "given")
    exponent = fitted_exponent().exponent
    return Assumption("expert_load", f"{law}, exponent {exponent.value:g}", exponent.source, exponent.kind)


def _tiered(name: str, stated: int | None, used: int) -> Assumption:
    return Assumption(
        name, str(used), "given" if stated else "the stack's default for this memory", "assumed"
    )


def _figure(name: str, figure: Quantity) -> Assumption:
    return Assumption(name, figure.written(), figure.source, str(figure.kind))


def _kernels(evidence: tuple[str, ...]) -> list[Assumption]:
    """One entry a calibrated kernel, whatever combinations of them operators used."""
    parts = {part.removeprefix("fastest of: ").strip() for text in evidence for part in text.split("; ")}
    split = (part.partition(": ") for part in sorted(parts))
    return [
        Assumption("kernel", name, source or "one rank needs no kernel", "fitted")
        for name, _, source in split
    ]


def versions() -> dict[str, str]:
    """Versions of the code and of the libraries whose arithmetic a result depends on."""
    found = {}
    for package in ("silicast", *_PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
