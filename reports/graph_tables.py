"""The printed form of a graph's summary."""

from collections.abc import Iterator

from rich.console import Group

from model_graphs.totals import GraphSummary, Work
from reports.formatting import decimal
from reports.rows import Row
from reports.tables import definition, table

_FIGURES = {
    "flop": "FLOP",
    "causal_flop": "causal\nFLOP",
    "weight_bytes": "weights\nread",
    "activation_read_bytes": "act.\nread",
    "activation_write_bytes": "act.\nwritten",
    "cache_read_bytes": "cache\nread",
    "cache_write_bytes": "cache\nwritten",
}


def graph_tables(summary: GraphSummary) -> Iterator[Group]:
    """Identity, parameters, caches, work by component at the point, and the closed forms of the whole."""
    counts = summary.parameters
    yield definition(
        f"{summary.record.key}, {summary.graph.phase}",
        [
            ("parameters", f"{counts.total:,} ({decimal(counts.total, '')})"),
            (
                "active",
                f"{counts.active:,} a token; {counts.active_without_embedding:,} without the embedding",
            ),
            ("MTP modules", f"{counts.mtp:,} more"),
            ("layers", _layers(summary)),
            ("graph", ", ".join(f"{block.repeat} x {block.name}" for block in summary.graph.blocks)),
            *_transform_lines(summary),
            *(("note", note) for note in (*summary.record.notes, *summary.graph.notes)),
        ],
    )
    yield table("Parameters", ("component", ">count"), _parameter_rows(summary))
    yield table(
        "Cache groups",
        ("group", ">layers", ">bytes a token", "window", ">bytes a sequence"),
        _caches(summary),
    )
    at = ", ".join(f"{symbol} = {count:,}" for symbol, count in summary.at.items())
    columns = ("component", *(f">{heading}" for heading in _FIGURES.values()))
    yield table(f"Work at {at}", columns, _work_rows(summary))
    yield table("Closed forms of the whole", ("figure", "expression"), _forms(summary.total))


def _layers(summary: GraphSummary) -> str:
    kinds = summary.record.blueprint.kinds
    return ", ".join(f"{count} x {layer.name}" for layer, count in kinds.items())


def _transform_lines(summary: GraphSummary) -> Iterator[tuple[str, str]]:
    """What the transform is, and what is left of the weights' bytes."""
    if summary.transform is not None:
        stored, plain = summary.stored_bytes, summary.plain_stored_bytes
        yield "transform", summary.transform.name
        yield "stored", f"{decimal(stored, 'B')}, {stored / plain:.1%} of {decimal(plain, 'B')} in bf16"


def _parameter_rows(summary: GraphSummary) -> list[Row]:
    counts = summary.parameters
    return [(name, f"{count:,}") for name, count in (*counts.by_component.items(), ("total", counts.total))]


def _caches(summary: GraphSummary) -> list[Row]:
    return [
        (
            one.name,
            str(one.layers),
            f"{one.bytes_per_token:,}",
            str(one.window or "none"),
            f"{one.bytes_per_sequence:,}",
        )
        for one in summary.caches
    ]


def _work_rows(summary: GraphSummary) -> list[Row]:
    parts = [*summary.work.items(), ("total", summary.total)]
    return [(name, *_figures(work.at(summary.at))) for name, work in parts]


def _figures(found: dict[str, int]) -> Iterator[str]:
    for name in _FIGURES:
        yield decimal(found[name], "" if name.endswith("flop") else "B", digits=3)


def _forms(work: Work) -> list[Row]:
    return [(name, text) for name, text in work.closed_forms().items() if text != "0"]
