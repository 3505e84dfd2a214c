"""The accuracy study as markdown: tables with error bars, what made them, and what they do not say."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from reports.accuracy_study import CONTEXT, LABEL, Result, mean_and_spread

#: what the paired effects of the study are
EFFECTS = {
    "compensation": "compensation of sums in bf16, plain weights: divergence it takes away",
    "compensation_under_fp8": "the same under FP8 products",
    "late_minus_early": "FP8: divergence beyond 1,024 bytes of context less that below 256",
    "drift_percent_of_loss": "FP8: loss change beyond 1,024 bytes less that below 256, in % of the loss",
}


def markdown(result: Result, command: str, date: str, versions: dict[str, str]) -> str:
    """The whole page."""
    parts = [*_head(result, command, date, versions), *_schemes(result), *_context(result), *_effects(result)]
    return "\n".join([*parts, ""])


def _head(result: Result, command: str, date: str, versions: dict[str, str]) -> Iterator[str]:
    recipe = result["proxies"][0]
    losses = ", ".join(f"{loss:.3f}" for loss in result["loss"])
    seeds = ", ".join(map(str, result["seeds"]))
    made_with = ", ".join(f"{name} {text}" for name, text in versions.items())
    yield "# Accuracy of transforms on a proxy"
    yield ""
    yield f"**{LABEL}.** Made by `{command}`; do not edit."
    yield ""
    yield f"Date {date}; corpus {result['corpus']}; {made_with}."
    yield ""
    yield "A model of the V3 architecture with 2.35 M parameters (latent attention, 16 routed experts and"
    yield "a shared one) is trained on bytes of the Python standard library for"
    yield f"{recipe['steps']} steps, once for each of the seeds {seeds}, and compared with itself under each"
    yield f"transform on held-out files. Held-out loss in fp32: {losses} nats a byte. Divergence is"
    yield "KL(full || transformed) in nats a byte, agreement the share of bytes with the same likeliest next"
    yield "byte, `±` the standard error over seeds. The figures rank schemes on a trained model of this"
    yield "architecture; a far larger model, trained on other text, has other figures."
    yield ""


def _schemes(result: Result) -> Iterator[str]:
    yield "## Schemes"
    yield ""
    yield "| transform | bits a weight | divergence | agreement | loss change |"
    yield "|---|--:|--:|--:|--:|"
    for line in result["schemes"]:
        yield (
            f"| {line['plan']} | {line['bits_a_weight']:.2f} | {told(line['divergence'], 5)} "
            f"| {told(line['agreement'], 4)} | {told(line['loss_change'], 5)} |"
        )
    yield ""
    yield "Linears of attention, MLPs and shared experts and the routed experts are changed; `fp4` leaves"
    yield "attention in 16 bits. Bits count scales and the places of non-zeros."
    yield ""


def told(values: Sequence[float], digits: int) -> str:
    """Mean and standard error over seeds."""
    mean, error = mean_and_spread(values)
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _context(result: Result) -> Iterator[str]:
    edges, losses = result["context"]["edges"], _columns(result["context"]["loss"])
    recipe = result["proxies"][0]
    spans = [f"{a}-{b - 1}" for a, b in pairwise(edges)]
    yield "## Along the context"
    yield ""
    yield f"Divergence by the position of a byte in passages of {edges[-1]:,}, and the loss in fp32 there."
    yield ""
    yield f"| transform | {' | '.join(spans)} |"
    yield "|---|" + "--:|" * len(spans)
    for name in CONTEXT:
        columns = _columns(result["context"]["divergence"][name])
        yield f"| {name} | {' | '.join(told(column, 6) for column in columns)} |"
    yield f"| loss in fp32 | {' | '.join(told(column, 3) for column in losses)} |"
    yield ""
    short, long = recipe["short_length"], recipe["long_length"]
    yield f"Most training steps see {short} bytes at once and only the last {long}. Where the loss in fp32"
    yield "rises with the position, the proxy makes little use of what is far back, and the figures there say"
    yield "less about models that do."
    yield ""


def _columns(by_seed: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    return list(zip(*by_seed, strict=True))


def _effects(result: Result) -> Iterator[str]:
    yield "## Effects of context and of compensation"
    yield ""
    yield "Paired by passage; the interval is the 90% one of a bootstrap over the passages of all seeds. One"
    yield "that holds zero shows no effect."
    yield ""
    yield "| effect | value | 90% interval | passages |"
    yield "|---|--:|--:|--:|"
    for name, title in EFFECTS.items():
        effect = result["effects"][name]
        value, low, high = (f"{effect[key]:.2e}" for key in ("value", "low", "high"))
        yield f"| {title} | {value} | {low} to {high} | {effect['passages']} |"
