"""Models there are: `list`, `show NAME` with figures and sources, `check FILE` for your own config.json."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from model_graphs.configs import ModelRecord, list_models, resolve_model
from reports.cli.catalogue import Shown, add_actions, dispatch
from reports.tables import definition, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three actions."""
    add_actions(parser, "models")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    return dispatch(args, _listing, _showing, _checking)


def _listing() -> Shown:
    records = list_models()
    columns = ("model", ">layers", ">hidden", ">heads", ">experts", ">context", "checkpoints")
    return {"models": [_summary(record) for record in records]}, [
        table("Models", columns, map(_row, records))
    ]


def _row(record: ModelRecord) -> tuple[str, ...]:
    blueprint = record.blueprint
    return (
        record.key,
        str(len(blueprint.layers)),
        f"{blueprint.hidden_size:,}",
        str(record.config.num_attention_heads),
        str(blueprint.n_experts or "-"),
        f"{blueprint.max_positions:,}",
        "\n".join(f"{name} ({precision.value})" for name, precision in record.checkpoints.items()) or "-",
    )


def _summary(record: ModelRecord) -> dict[str, object]:
    return {
        "key": record.key,
        "graph_key": record.graph_key,
        "checkpoints": {name: precision.value for name, precision in record.checkpoints.items()},
        "content_hash": record.content_hash,
        "assumed_fields": list(record.assumed_fields()),
    }


def _showing(name: str) -> Shown:
    record = resolve_model(name)
    config = record.config.model_dump(mode="json")
    sources = [entry.model_dump(mode="json") for entry in record.sources]
    content = _summary(record) | {"config": config, "notes": list(record.notes), "sources": sources}
    head = [("checkpoints", ", ".join(record.aliases) or "-"), ("content hash", record.content_hash)]
    head += [("note", note) for note in record.notes]
    rows = [
        (", ".join(entry.fields) or "all others", entry.kind.value, entry.source) for entry in record.sources
    ]
    assumed = set(record.assumed_fields())
    figures = [(key, value, "assumed" if key in assumed else "") for key, value in _flat(config)]
    return content, [
        definition(record.key, head),
        table("Config", ("field", ">value", ""), figures),
        table("Sources", ("fields", "kind", "source"), rows),
    ]


def _flat(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            number = isinstance(value, int) and not isinstance(value, bool)
            yield f"{prefix}{key}", f"{value:,}" if number else str(value)


def _checking(path: Path) -> list[str]:
    record = resolve_model(str(path))
    return list(record.notes) or [
        f"a {type(record.config).__name__} of {record.config.num_hidden_layers} layers"
    ]
