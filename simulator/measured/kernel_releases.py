"""The releases whose kernel tables are fitted on each device: the newest of each engine."""

HOPPER = ("h100_sxm", "h200_sxm")
BLACKWELL = ("b200_sxm", "gb200", "b300_sxm", "gb300")
ADA = ("l40s",)
#: boxes without NVLink, whose devices have GDDR behind a large L2
GDDR = ("l40s", "rtx_pro_6000")

DEVICES = ("a100_sxm_80gb", *HOPPER, *BLACKWELL, *GDDR, "arc_pro_b60")

_NEWEST = {"trtllm": "1.3.0rc20", "vllm": "0.24.0", "sglang": "0.5.14"}
_OF_DEVICE = {
    "a100_sxm_80gb": {"trtllm": "1.0.0", "vllm": "0.14.0", "sglang": "0.5.10"},
    "arc_pro_b60": {"vllm": "0.26.0"},
}
#: (device, or any, table, engine) -> release, where a table has another newest one
_OF_TABLE = {
    ("l40s", "mla", "trtllm"): "1.0.0",
    ("l40s", "custom_allreduce", "vllm"): "0.22.0",
    ("gb300", "custom_allreduce", "vllm"): "0.27.0",
    ("", "kda", "sglang"): "0.5.16",
    ("", "kda", "vllm"): "0.1.dev19262",
    ("gb300", "kda", "vllm"): "0.27.0",
}
NCCL_RELEASE = {
    "a100_sxm_80gb": "2.27.3",
    "h100_sxm": "2.27.3",
    "h200_sxm": "2.26.2",
    "b200_sxm": "2.27.3",
    "gb200": "2.23",
    "b300_sxm": "2.29.2",
    "gb300": "2.29.2",
    "l40s": "2.27.3",
    "rtx_pro_6000": "2.29.2",
}


def newest(device: str, *engines: str, table: str = "") -> tuple[tuple[str, str], ...]:
    """The newest release of each engine on a device, of one table where that has its own."""
    return tuple((engine, _release(device, engine, table)) for engine in engines)


def _release(device: str, engine: str, table: str) -> str:
    for key in ((device, table, engine), ("", table, engine)):
        if key in _OF_TABLE:
            return _OF_TABLE[key]
    return _OF_DEVICE.get(device, _NEWEST)[engine]
