"""Graphs emitted from the reference implementation: written as files, compared with those that ship.

The reference implementation is imported here when it is used, because it needs torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Group

from hardware_specs.records.errors import InputError, Problem, nearest
from model_graphs.configs import ModelRecord
from model_graphs.graph import OperatorGraph
from model_graphs.graph_io import PHASES, graph_file_name, graph_to_json, load_graph, phases_of
from reports.files import write_text
from reports.tables import table

Graphs = Mapping[str, OperatorGraph]


def emit_phases(
    record: ModelRecord, phases: Sequence[str] | None, tick: Callable[[int, int], None]
) -> Graphs:
    """The graph of each phase.

    Raises:
        InputError: a phase is unknown.
    """
    chosen = list(phases or phases_of(record.blueprint))
    unknown = [phase for phase in chosen if phase not in PHASES]
    if unknown:
        requirement = f"must be one of {', '.join(PHASES)}"
        raise InputError(
            *(Problem(requirement, p, path="--phase", suggestion=nearest(p, PHASES)) for p in unknown)
        )
    from reference_impl.emission import emit

    graphs: dict[str, OperatorGraph] = {}
    for index, phase in enumerate(chosen):
        tick(index, len(chosen))
        graphs[phase] = emit(record.blueprint, phase, model=record.graph_key)
    return graphs


def write_graphs(folder: Path, graphs: Graphs) -> list[str]:
    """Paths of the files written, one a phase.

    Raises:
        InputError: the folder cannot be written.
    """
    paths = {folder / graph_file_name(graph.model, phase): graph for phase, graph in graphs.items()}
    for path, graph in paths.items():
        write_text(path, graph_to_json(graph))
    return [str(path) for path in paths]


def compare(record: ModelRecord, graphs: Graphs) -> list[str]:
    """The phases whose emitted file differs from the shipped one, which a model may share with another."""
    shipped = {phase: replace(load_graph(record, phase), model=record.graph_key) for phase in graphs}
    return [phase for phase, graph in graphs.items() if graph_to_json(graph) != graph_to_json(shipped[phase])]


def emitted_table(graphs: Graphs, written: Sequence[str], differences: Sequence[str] | None) -> Group:
    """One line a phase: blocks, operators of the unrolled model, agreement with the shipped file."""
    rows = [
        (
            phase,
            ", ".join(f"{block.repeat} x {block.name}" for block in graph.blocks),
            f"{len(graph.instances()):,}",
            _verdict(phase, differences),
        )
        for phase, graph in graphs.items()
    ]
    return table(
        "Emitted graphs", ("phase", "blocks", ">operators", "shipped"), rows, caption="\n".join(written)
    )


def _verdict(phase: str, differences: Sequence[str] | None) -> str:
    if differences is None:
        return "not compared"
    return "differs" if phase in differences else "equal, byte for byte"


def emitted_json(
    graphs: Graphs, written: Sequence[str], differences: Sequence[str] | None
) -> dict[str, object]:
    """The same content."""
    return {
        "phases": {
            phase: {
                "blocks": {block.name: block.repeat for block in graph.blocks},
                "operators": len(graph.instances()),
            }
            for phase, graph in graphs.items()
        },
        "written": list(written),
        "differences": None if differences is None else list(differences),
    }
