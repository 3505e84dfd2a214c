"""The acceptance study as markdown: tables, a chart in text, what made them, and what they do not say."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from reports.acceptance_study import LABEL, RUNS, Run, line_of, runs_of
from reports.accuracy_study import Result, mean_and_spread

#: columns of a bar that stands for every draft accepted
BAR = 50
#: what the charts show
DRAWN = RUNS[:4]
LIMITS = (
    "A small model that generates greedily soon repeats itself. A draft of what is repeated is right, or "
    "wrong, over and over, so drafts of a passage are far from independent and seeds differ more the longer "
    "the continuation (last row of the last table). Greedy figures of later positions are no forecast of "
    "anything; those at temperature 1 suffer less.",
    "Wilson intervals take drafts as independent. Those of one passage are not, and where seeds differ by "
    "more than the intervals, the spread over seeds is the error to go by, not a pooled interval.",
    "The module is trained for the first draft only, as V3's is; further drafts come from running it on its "
    "own output. V3 trains model and module together, here the model is frozen. Which drafter is "
    "ahead is a statement about these two only, trained for about as long.",
    "Bytes are not V3's tokens: a byte inside a word is easy to foresee. The page shows that drafts of a "
    "trained module are accepted, and what that depends on. The acceptance of a served model is an input of "
    "the simulator and cannot be taken from here.",
    "In fp8 the model and its module are transformed: fp8 drafts, judged by the fp8 model.",
)


def markdown(result: Result, command: str, date: str, versions: dict[str, str]) -> str:
    """The whole page."""
    parts = [
        *_head(result, command, date, versions),
        *_positions(result),
        *_chart(result),
        *_tokens(result),
        *_limits(),
    ]
    return "\n".join([*parts, ""])


def _head(result: Result, command: str, date: str, versions: dict[str, str]) -> Iterator[str]:
    recipe, drafters = result["proxies"][0], result["drafters"]
    model, mtp, draft = (f"{drafters[f'{one}_parameters'] / 1e6:.2f} M" for one in ("model", "mtp", "draft"))
    made_with = ", ".join(f"{name} {text}" for name, text in versions.items())
    yield "# Acceptance of speculative drafts on a proxy"
    yield ""
    yield f"**{LABEL}.** Made by `{command}`; do not edit."
    yield ""
    yield f"Date {date}; corpus {result['corpus']}; {made_with}."
    yield ""
    yield from _paragraph(
        f"The model of [accuracy-proxy.md](accuracy-proxy.md) ({model} parameters, V3 architecture, "
        f"{recipe['steps']} steps on bytes of the Python standard library, seeds {_listed(result['seeds'])}) "
        "is frozen, and two drafters are trained on the same files: a multi-token prediction module "
        f"({mtp} parameters beside the embedding and head that it shares; last training loss "
        f"{_losses(drafters['mtp_loss'])} nats a byte) and a separate model of one dense layer ({draft} "
        f"parameters; {_losses(drafters['draft_loss'])}). The speculative decoding of `silicast generate` "
        f"then continues held-out passages of {result['prompt_bytes']} bytes, one at a time, with up to "
        f"{result['depth']} drafts a step. A draft is judged where all before it were accepted, so the "
        "fractions below are conditional on that."
    )


def _paragraph(text: str, opening: str = "") -> Iterator[str]:
    """Lines of a paragraph; without an opening, an empty line follows."""
    yield from wrap(text, 105, initial_indent=opening, subsequent_indent=" " * len(opening))
    if not opening:
        yield ""


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _losses(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def name_of(run: Run) -> str:
    """A run in words."""
    how = "greedy" if run.temperature == 0 else f"temperature {run.temperature:g}"
    longer = f", {run.new_bytes} bytes each" if run.new_bytes != RUNS[0].new_bytes else ""
    return f"{run.drafter}, {run.precision}, {how}{longer}"


def cell(found: Mapping[str, float] | None) -> str:
    """A fraction with the ends of its interval, in percent."""
    if found is None:
        return "-"
    value, low, high = (f"{100 * found[key]:.1f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _table(names: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield "|---|" + "--:|" * (len(names) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _positions(result: Result) -> Iterator[str]:
    names = [f"draft {k}" for k in range(1, result["depth"] + 1)]
    yield "## Acceptance by draft position"
    yield ""
    yield from _paragraph(
        f"In %, counts of all seeds together, with {100 * result['confidence']:.0f}% Wilson intervals; "
        f"{RUNS[0].passages} passages a seed (untrained and longer runs: {RUNS[-1].passages}), "
        f"{RUNS[0].new_bytes} new bytes each where nothing else is said."
    )
    yield from _table(["run", *names], (_pooled_row(result, run) for run in runs_of(result)))
    yield "Seed by seed:"
    yield ""
    rows = (
        (f"{name_of(run)}, seed {seed}", *map(cell, one["acceptance"]))
        for run in DRAWN
        for seed, one in zip(result["seeds"], line_of(result, run)["by_seed"], strict=True)
    )
    yield from _table(["run", *names], rows)


def _pooled_row(result: Result, run: Run) -> tuple[str, ...]:
    return (name_of(run), *map(cell, line_of(result, run)["pooled"]["acceptance"]))


def _chart(result: Result) -> Iterator[str]:
    yield "## Chart"
    yield ""
    yield f"`#` up to the low end of the interval, `-` up to the high end; {BAR} columns are 100%."
    yield ""
    yield "```text"
    for run in DRAWN:
        yield name_of(run)
        for index, found in enumerate(line_of(result, run)["pooled"]["acceptance"], start=1):
            yield f"  draft {index} |{bar(found)}"
    yield "```"
    yield ""


def bar(found: Mapping[str, float] | None) -> str:
    """An interval as a bar."""
    if found is None:
        return ""
    low, high = (round(BAR * found[key]) for key in ("low", "high"))
    return f"{'#' * low}{'-' * (high - low)}{' ' * (BAR - high)}| {100 * found['value']:.1f}%"


def _tokens(result: Result) -> Iterator[str]:
    names = [f"depth {k}" for k in range(1, result["depth"] + 1)]
    yield "## Expected tokens a step"
    yield ""
    yield from _paragraph(
        "One, and for each draft the product of the fractions up to it; `±` is the standard error over "
        "seeds. What a step costs, which grows with depth too, is not in it."
    )
    rows = ((name_of(run), *_by_depth(line_of(result, run))) for run in runs_of(result))
    yield from _table(["run", *names], rows)


def _by_depth(line: Mapping[str, Any]) -> Iterator[str]:
    """Tokens a step of pooled counts, with the standard error over seeds."""
    columns = zip(*(one["tokens_a_step"] for one in line["by_seed"]), strict=True)
    for pooled, column in zip(line["pooled"]["tokens_a_step"], columns, strict=True):
        yield f"{pooled:.2f} ± {mean_and_spread(column)[1]:.2f}"


def _limits() -> Iterator[str]:
    yield "## What this says and what it does not"
    yield ""
    for text in LIMITS:
        yield from _paragraph(text, "- ")
