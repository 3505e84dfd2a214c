"""Hardware there is: `list`, `show NAME` with every figure and its source, `check FILE` for your own."""

import argparse
from pathlib import Path

from hardware_specs.checks import check_file
from hardware_specs.library import list_systems, load_system
from hardware_specs.parts import DeviceSpec, SystemSpec
from reports.cli.catalogue import Shown, add_actions, dispatch
from reports.figures import figure_json, figure_table
from reports.formatting import figure
from reports.tables import definition, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three actions."""
    add_actions(parser, "systems")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    return dispatch(args, _listing, _showing, _checking)


def _listing() -> Shown:
    systems = [load_system(key) for key in list_systems()]
    columns = (
        "system",
        ">memory\nGiB",
        ">bandwidth\nTB/s",
        ">bf16 peak\nTFLOP/s",
        ">fabric\nGB/s",
        ">devices\na node",
        "device",
    )
    title = "Systems (peaks dense; memory as the driver reports it; fabric one way)"
    return {"systems": [_summary(system) for system in systems]}, [table(title, columns, map(_row, systems))]


def _row(system: SystemSpec) -> tuple[str, ...]:
    memory = system.device.memory
    peak = system.device.peak_flop_per_s.get("bf16")
    return (
        system.key,
        figure(memory.capacity_bytes.value / 2**30),
        figure(memory.bandwidth_bytes_per_s.value / 1e12),
        figure(peak.value / 1e12) if peak else "-",
        figure(system.node.scale_up.bandwidth_bytes_per_s.value / 1e9),
        str(system.devices_per_node),
        system.device.name,
    )


def _summary(system: SystemSpec) -> dict[str, object]:
    memory = system.device.memory
    return {
        "key": system.key,
        "name": system.device.name,
        "vendor": system.device.vendor,
        "memory_bytes": memory.capacity_bytes.value,
        "bandwidth_bytes_per_s": memory.bandwidth_bytes_per_s.value,
        "peak_flop_per_s": {dtype: peak.value for dtype, peak in system.device.peak_flop_per_s.items()},
        "devices_per_node": system.devices_per_node,
        "aliases": list(system.device.aliases),
        "content_hash": system.content_hash,
    }


def _showing(name: str) -> Shown:
    system = load_system(name)
    device = system.device
    head = [
        ("device", f"{device.name} ({device.vendor} {device.architecture})"),
        ("also known as", ", ".join(device.aliases) or "-"),
        ("files", ", ".join(system.files)),
        ("content hash", system.content_hash),
    ]
    head += _engine_rows(device)
    content = _summary(system) | {"figures": figure_json(system), "files": list(system.files)}
    return content, [definition(system.key, head), figure_table(system)]


def _engine_rows(device: DeviceSpec) -> list[tuple[str, str]]:
    """What an engine beside the digital unit runs, and what it cannot."""
    engine = device.engine
    if engine is None:
        return []
    runs = f"{', '.join(engine.operators)} in {', '.join(engine.dtypes)}; all else: {engine.digital_unit}"
    return [("engine", f"{engine.name}: {runs}"), *(("its limits", limit) for limit in engine.limits)]


def _checking(path: Path) -> list[str]:
    return [f"will be assumed: {line}" for line in check_file(path)]
