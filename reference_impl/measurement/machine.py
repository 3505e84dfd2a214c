"""The machine at hand: what it calls itself, its memory, its last-level cache."""

import os
import platform
from pathlib import Path
from typing import Literal

import torch

from model_graphs.runs.measurement import Machine

CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
CPU_INFO = Path("/proc/cpuinfo")
MEMORY_INFO = Path("/proc/meminfo")

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def describe_machine(device: str) -> Machine:
    """The machine as it is, with the threads that PyTorch uses now."""
    if device == "cuda":
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return _machine("cuda", properties.name, properties.total_memory, properties.L2_cache_size)
    return _machine("cpu", cpu_name(), memory_bytes("MemTotal"), last_level_cache_bytes())


def _machine(device: Literal["cpu", "cuda"], name: str, memory: int | None, cache: int | None) -> Machine:
    return Machine(
        device=device,
        name=name,
        memory_bytes=memory,
        cache_bytes=cache,
        n_threads=torch.get_num_threads(),
        torch_version=str(torch.__version__),
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def available_bytes(device: str) -> int | None:
    """Memory that a new process may take; None where the system does not say."""
    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else memory_bytes("MemAvailable")


def load_average() -> float | None:
    """Processes that wanted a processor over the last minute; None where the system does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes(entry: str, file: Path = MEMORY_INFO) -> int | None:
    """An entry of the system's memory table; None where there is no such table."""
    if not file.is_file():
        return None
    lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == f"{entry}:"), None)


def last_level_cache_bytes(folder: Path = CPU_CACHES) -> int | None:
    """The processor's largest cache; None where the system does not say."""
    sizes = [path.read_text(encoding="ascii").strip() for path in sorted(folder.glob("index*/size"))]
    return max((int(size[:-1]) * _UNITS[size[-1]] for size in sizes), default=None)
