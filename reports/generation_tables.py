"""A run of the reference model's generation, as tables and as JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group

from reports.formatting import decimal, figure, percent
from reports.generation import GenerationReport
from reports.tables import definition, table

if TYPE_CHECKING:
    from reference_impl.generation.speculative import SpeculativeGeneration

NARROW = "a narrow member of the family with random weights: its speed says nothing about the full model"
UNTRAINED = "weights are random, so acceptance says nothing about a trained model"


def generation_tables(report: GenerationReport) -> Iterator[Group]:
    """What ran and how fast, bytes by tiers, acceptance by draft position."""
    yield definition("Generation", _entries(report))
    if report.moved_bytes is not None:
        yield _traffic_table(report)
    speculation = _speculation(report)
    if speculation is not None:
        yield _acceptance_table(speculation, trained=not report.request.tiny)


def _entries(report: GenerationReport) -> Iterator[tuple[str, str]]:
    request, made = report.request, report.generation
    name = request.model if request.tiny else f"checkpoint {request.checkpoint}"
    yield (
        "model",
        f"{name}, {len(report.blueprint.layers)} layers, {decimal(report.n_parameters, 'parameters')}",
    )
    if request.tiny:
        yield "", NARROW
    yield (
        "request",
        (
            f"{request.sequences} x {request.prompt_tokens} prompt tokens, {request.new_tokens} new, "
            f"temperature {request.temperature:g}, {request.dtype}"
        ),
    )
    prompt_tokens = request.sequences * request.prompt_tokens
    yield "prefill", f"{figure(prompt_tokens / made.prefill_s)} tokens/s on this machine"
    yield (
        "decode",
        (f"{figure(made.decode_tokens_per_s)} tokens/s on this machine, {made.n_decode_steps} steps"),
    )
    yield "first tokens", " ".join(str(token) for token in made.ids[0, :16].tolist())


def _traffic_table(report: GenerationReport) -> Group:
    assert report.moved_bytes is not None
    assert report.held_bytes is not None
    n_steps = report.generation.n_decode_steps + 1
    rows = [
        (source, target, f"{n_bytes:,}", f"{n_bytes / n_steps:,.0f}")
        for (source, target), n_bytes in sorted(report.moved_bytes.items())
    ]
    held = ", ".join(f"{tier} {n_bytes:,}" for tier, n_bytes in report.held_bytes.items())
    columns = ("from", "to", ">bytes", ">bytes/step")
    return table("KV pages moved between tiers", columns, rows, caption=f"bytes held at the end: {held}")


def _acceptance_table(made: "SpeculativeGeneration", *, trained: bool) -> Group:
    counts = zip(made.acceptance.judged, made.acceptance.accepted, made.acceptance.fractions, strict=True)
    rows = [
        (str(position), f"{judged:,}", f"{accepted:,}", "-" if share is None else percent(share))
        for position, (judged, accepted, share) in enumerate(counts, start=1)
    ]
    caption = f"{figure(made.tokens_per_step)} tokens a step"
    columns = ("draft position", ">judged", ">accepted", ">acceptance")
    return table(
        "Speculative decoding", columns, rows, caption=caption if trained else f"{caption}; {UNTRAINED}"
    )


def generation_json(report: GenerationReport) -> dict[str, object]:
    """The same content; what the clock said stands apart under `measured`."""
    request, made, speculation = report.request, report.generation, _speculation(report)
    return {
        "model": request.model,
        "checkpoint": str(request.checkpoint) if request.checkpoint else None,
        "narrow": request.tiny,
        "layers": len(report.blueprint.layers),
        "parameters": report.n_parameters,
        "seed": request.seed,
        "temperature": request.temperature,
        "dtype": request.dtype,
        "ids": made.ids.tolist(),
        "decode_steps": made.n_decode_steps,
        "moved_bytes": _by_name(report),
        "held_bytes": report.held_bytes,
        "acceptance": None if speculation is None else _acceptance(speculation),
        "notes": [NARROW] * request.tiny + [UNTRAINED] * (request.tiny and speculation is not None),
        "measured": {
            "prefill_s": made.prefill_s,
            "decode_s": made.decode_s,
            "decode_tokens_per_s": made.decode_tokens_per_s,
        },
    }


def _by_name(report: GenerationReport) -> dict[str, int] | None:
    if report.moved_bytes is None:
        return None
    return {f"{source} to {target}": n_bytes for (source, target), n_bytes in report.moved_bytes.items()}


def _acceptance(made: "SpeculativeGeneration") -> dict[str, object]:
    acceptance = made.acceptance
    return {
        "judged": acceptance.judged,
        "accepted": acceptance.accepted,
        "fraction": acceptance.fractions,
        "tokens_per_step": made.tokens_per_step,
    }


def _speculation(report: GenerationReport) -> "SpeculativeGeneration | None":
    from reference_impl.generation.speculative import SpeculativeGeneration

    return report.generation if isinstance(report.generation, SpeculativeGeneration) else None
