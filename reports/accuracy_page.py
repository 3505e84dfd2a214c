"""Makes `docs/accuracy.md` and the accuracy card: `python -m reports.accuracy_page`.

It needs the measured data and the extras `[fit]` and `[silicon]`; `--kernels` rewrites the tables of kernels
alone, which need no measured data.

Three labels are kept apart: `dev` rows were never fitted; `calib, deployment left out` rows are predicted by
constants refitted without their deployment; `in calibration` rows were seen by the fit that predicts them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import date
from math import exp
from pathlib import Path

from hardware_specs.records.errors import exit_code_of
from hardware_specs.records.hashing import content_hash
from reports import kernel_transfer_page
from reports.files import write_text
from reports.page_sections import with_section
from simulator.ledger import versions
from simulator.measured.calibrate_stacks import (
    architecture_of,
    calibration_rows,
    data_folder,
    leave_one_deployment_out,
    measured_file,
    version_of,
)
from simulator.measured.kernel_table import accuracy_fragment, scores_of_all
from simulator.measured.rows import MeasuredRow
from simulator.measured.score import Prediction, ScoreLine, score
from simulator.measured.serving_rows import DYNAMO, SPECULATION, STALL
from simulator.measured.validation import predict_rows, read_measured
from simulator.stacks.library import load_stack

Say = Callable[[str], None]
Line = tuple[str, ScoreLine]

DEV, LEFT_OUT, SEEN = "dev", "calib, deployment left out", "in calibration"
_METRICS = ("tpot_ms", "ttft_ms")
_FIGURE_METRICS = (
    "tpot_ms",
    "ttft_ms",
    "e2e_ms",
    "tpot_p99_ms",
    "ttft_p99_ms",
    "output_tok_s",
    "total_tok_s",
)
_KERNELS = "## Kernels"
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "accuracy.md"


def serving_lines(data: Path) -> list[Line]:
    """Scores of the serving files: dev, calib with deployments left out, calib as fitted."""
    dev = read_measured(data / "measured" / "serving_dev.csv")[0]
    calib = calibration_rows(data)
    lines = list(_labelled(DEV, dev, list(predict_rows(dev))))
    held_out = [p for answer in leave_one_deployment_out_by_engine(calib) for p in _left_out(answer)]
    lines += _labelled(LEFT_OUT, calib, held_out)
    lines += _labelled(SEEN, calib, list(predict_rows(calib)), groups=False)
    return lines


def leave_one_deployment_out_by_engine(
    rows: Sequence[MeasuredRow],
) -> Iterable[tuple[MeasuredRow, float, float]]:
    """(row, TTFT, TPOT) in ms, refitted without the row's deployment, engine by engine."""
    for backend in sorted({row.scenario.deployment.stack for row in rows}):
        own = [row for row in rows if row.scenario.deployment.stack == backend]
        yield from leave_one_deployment_out(own)


def _left_out(answer: tuple[MeasuredRow, float, float]) -> Iterable[Prediction]:
    row, ttft, tpot = answer
    deployment = row.scenario.deployment
    stack = load_stack(deployment.stack, version_of(row), deployment.date, architecture_of(row))
    widths = {"ttft_ms": stack.ttft_log_half_width, "tpot_ms": stack.tpot_log_half_width}
    for metric, value in (("ttft_ms", ttft), ("tpot_ms", tpot)):
        if metric in row.figures:
            low, high = value * exp(-widths[metric]), value * exp(widths[metric])
            yield Prediction(
                row.id, metric, row.figures[metric], value, low, high, "C", "", row.suite, row.deployment_key
            )


def _labelled(
    label: str, rows: Sequence[MeasuredRow], predictions: Sequence[Prediction], groups: bool = True
) -> Iterable[Line]:
    flags = {row.id: row.flags for row in rows}
    systems = {row.id: row.scenario.deployment.system for row in rows}
    models = {row.id: row.deployment_key.partition("|")[0] for row in rows}
    for metric in _METRICS:
        chosen = [p for p in predictions if p.metric == metric]
        yield label, score("aggregated serving, all rows", metric, chosen)
        calm = [p for p in chosen if STALL not in flags[p.id]]
        if len(calm) < len(chosen):
            yield label, score("without start-up stalls", metric, calm)
        plain = [p for p in calm if not {SPECULATION, DYNAMO} & set(flags[p.id])]
        if len(plain) < len(calm):
            yield label, score("and without suspected speculation or Dynamo", metric, plain)
        for name, names in (("", models), ("on ", systems)):
            for one in sorted({names[p.id] for p in chosen}):
                yield label, score(name + one, metric, [p for p in chosen if names[p.id] == one])
        for group in sorted({p.group for p in chosen}) if groups else ():
            yield label, score(group, metric, [p for p in chosen if p.group == group])


def figure_lines(data: Path) -> list[Line]:
    """Scores of the early-2025 runs of R1 on eight H200 (S14), whose stacks were never fitted."""
    rows, _ = read_measured(data / "measured" / "figures_dev.csv")
    early = [
        row for row in rows if row.suite.startswith("S14") and row.scenario.deployment.system == "h200_sxm"
    ]
    predictions = list(predict_rows(early))
    names = {
        row.id: f"S14 {row.scenario.deployment.stack} {row.scenario.deployment.stack_version}"
        for row in early
    }
    lines: list[Line] = []
    for metric in _FIGURE_METRICS:
        chosen = [p for p in predictions if p.metric == metric]
        if chosen:
            lines.append((DEV, score("S14 R1 on eight H200, stacks never fitted", metric, chosen)))
        for name in sorted(set(names.values())):
            own = [p for p in chosen if names[p.id] == name]
            if own:
                lines.append((DEV, score(name, metric, own)))
    return lines


def page(lines: Sequence[Line], kernels: str, stamp: dict[str, str]) -> str:
    """The markdown page."""
    parts = [
        "# Accuracy",
        "",
        "Made by `python -m reports.accuracy_page`; do not edit.",
        "",
        f"Date {stamp['date']}, silicast {stamp['version']}, data {stamp['data_hash']}.",
        "",
        "Errors are absolute percentage errors of predicted against measured. Bias is the median signed",
        "error; coverage is how often the 90% interval held the measured figure; half-width is half of",
        f"that interval's median width. `{DEV}` rows were never fitted, `{LEFT_OUT}` rows are predicted by",
        "constants refitted without them, and",
        f"`{SEEN}` rows were seen by the fit.",
        "",
        "## Serving",
        "",
        "| label | rows | metric | asked | answered | median | mean | p90 | bias | coverage | half-width |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    parts += [_row(label, line) for label, line in lines]
    return "\n".join([*parts, "", kernels.strip(), ""])


def _row(label: str, line: ScoreLine) -> str:
    figures = (line.median, line.mean, line.p90, line.bias, line.coverage, line.half_width)
    shown = " | ".join("-" if x != x else f"{x:.1f}" for x in figures)
    name = line.name.replace("|", ", ")
    return f"| {label} | {name} | {line.metric} | {line.asked} | {line.answered} | {shown} |"


def card(lines: Sequence[Line], stamp: dict[str, str]) -> str:
    """The accuracy card as JSON: headline lines only."""
    headline = [(label, line) for label, line in lines if "|" not in line.name and label != SEEN]
    shown = [{"split": label, **asdict(_finite(line))} for label, line in headline]
    return json.dumps({**stamp, "lines": shown}, indent=1, sort_keys=True) + "\n"


def _finite(line: ScoreLine) -> ScoreLine:
    """The line with percentages rounded to a tenth; nan, which JSON lacks, as -1."""

    def rounded(value: float) -> float:
        return round(value, 1) if value == value else -1.0

    return replace(
        line,
        median=rounded(line.median),
        mean=rounded(line.mean),
        p90=rounded(line.p90),
        bias=rounded(line.bias),
        coverage=rounded(line.coverage),
        half_width=rounded(line.half_width),
    )


def kernel_section() -> str:
    """Scores of every kernel family on sites that no fit saw."""
    return f"{_KERNELS}\n\n{accuracy_fragment(scores_of_all())}"


def all_sections(say: Say) -> str:
    """Scores of kernels where the device was measured, and where it was not."""
    return f"{kernel_section()}\n{kernel_transfer_page.section(say)}"


def main(arguments: Sequence[str] = (), say: Say = lambda text: print(text, file=sys.stderr)) -> int:
    """Rewrite the page and the card, or the tables of kernels."""
    parser = argparse.ArgumentParser(description="Rewrite the accuracy page.")
    parser.add_argument("--kernels", action="store_true", help="only the tables of kernels")
    if parser.parse_args(arguments).kernels:
        write_text(PAGE, with_section(PAGE.read_text("utf-8"), _KERNELS, kernel_section()))
        say("wrote the tables of kernels in docs/accuracy.md")
        return 0
    data = data_folder()
    files = [measured_file(data, name) for name in ("serving_calib", "serving_dev", "figures_dev")]
    stamp = {
        "data_hash": content_hash(*files),
        "date": date.today().isoformat(),
        "version": versions()["silicast"],
    }
    lines = [*serving_lines(data), *figure_lines(data)]
    write_text(PAGE, page(lines, all_sections(say), stamp))
    write_text(ROOT / "reports" / "accuracy.json", card(lines, stamp))
    say(f"wrote docs/accuracy.md and reports/accuracy.json: {len(lines)} lines")
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_code_of(lambda: main(sys.argv[1:])))
