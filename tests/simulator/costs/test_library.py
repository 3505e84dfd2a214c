import time
from dataclasses import replace

import numpy as np
import pytest

from hardware_specs.library import list_systems, load_system
from hardware_specs.parts import SystemSpec
from hardware_specs.records.errors import InputError
from hardware_specs.records.evidence import Grade
from simulator.costs.estimates import BOUNDS, KernelEstimate
from simulator.costs.library import KernelLibrary

V3_EXPERTS = {"hidden": 7168, "inter": 2048, "topk": 8, "experts": 256}
GPT_OSS_EXPERTS = {"hidden": 2880, "inter": 2880, "topk": 4, "experts": 128}
QWEN3_EXPERTS = {"hidden": 4096, "inter": 1536, "topk": 8, "experts": 128}
ENGINES = pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
#: boards that can be bought; a what-if engine keeps its rates only within the error of carried constants
SOLD = [key for key in list_systems() if load_system(key).device.vendor == "NVIDIA"]
FITTED = pytest.mark.parametrize("system", ["h100_sxm", "h200_sxm", "b200_sxm", "gb200"])


@pytest.fixture(scope="module")
def library() -> KernelLibrary:
    return KernelLibrary(load_system("h200_sxm"), "sglang")


def on_another(system: SystemSpec, key: str, architecture: str) -> SystemSpec:
    return replace(system, device=replace(system.device, key=key, architecture=architecture))


def every_family(library: KernelLibrary) -> list[KernelEstimate]:
    return [
        library.gemm(64, 2112, 7168, "fp8_block"),
        library.batched_gemm(16, 64, 512, 128),
        library.mla_decode(32, 4096, 16, "fp8"),
        library.mla_prefill(1, 4096, 16),
        library.attention_prefill(1, 2048, 32, 8, 128),
        library.attention_decode(64, 2048, 32, 8, 128),
        library.moe(512, **V3_EXPERTS, moe_ep=8),
        library.collective("all_reduce", 8, 1e6),
        library.collective("all_gather", 8, 1e6),
        library.collective("ep_dispatch", 8, 1e6),
        library.expert_exchange("ep_combine", 8, 4096, 7168, 8),
        library.bandwidth_bound(1e6, "rmsnorm"),
    ]


@ENGINES
@FITTED
def test_every_family_has_a_calibrated_price_on_every_fitted_device(system: str, backend: str) -> None:
    for estimate in every_family(KernelLibrary(load_system(system), backend)):
        assert estimate.latency_s.shape == ()
        assert 1e-6 < float(estimate.latency_s) < 1e-2
        assert float(estimate.low_s) < float(estimate.latency_s) < float(estimate.high_s)
        assert BOUNDS[int(estimate.bound)] in BOUNDS
        assert estimate.grade is Grade.B
        assert system in estimate.evidence


def what_other_models_need(library: KernelLibrary) -> list[KernelEstimate]:
    """Grouped attention over caches and windows, and experts in other types than DeepSeek's."""
    priced = []
    for kv_dtype in ("bf16", "fp8"):
        for window in (0, 128):
            heads = (64, 8, 64, window)
            priced.append(library.attention_prefill(1, 2048, *heads, kv_dtype=kv_dtype))
            priced.append(library.attention_decode(64, 2048, *heads, kv_dtype=kv_dtype))
        priced.append(library.attention_decode(64, 2048, 32, 32, 128, kv_dtype=kv_dtype))
    dtypes = ("bf16", "fp8", "fp8_block") + (("nvfp4",) if "fp4" in library.device.peaks else ())
    priced += [library.moe(64, **QWEN3_EXPERTS, moe_tp=2, dtype=dtype) for dtype in dtypes]
    return [*priced, library.moe(64, **GPT_OSS_EXPERTS, moe_tp=2, dtype="mxfp4")]


@ENGINES
@FITTED
def test_what_other_models_need_has_constants_of_the_device_itself(system: str, backend: str) -> None:
    for estimate in what_other_models_need(KernelLibrary(load_system(system), backend)):
        assert 1e-6 < float(estimate.latency_s) < 1e-2
        assert estimate.grade is Grade.B
        assert f" on {system}: " in estimate.evidence


@ENGINES
@FITTED
def test_a_cache_in_fp8_is_read_with_its_own_constants_and_sooner(system: str, backend: str) -> None:
    library = KernelLibrary(load_system(system), backend)
    wide, narrow = (
        library.attention_decode(128, 16384, 8, 1, 128, kv_dtype=kv_dtype) for kv_dtype in ("bf16", "fp8")
    )
    assert narrow.evidence.startswith(f"attention_decode fp8 {backend}_gqa on")
    # half of the bytes, and no less up to the intervals; in the tables 8 to 50% faster
    ratio = float(narrow.latency_s) / float(wide.latency_s)
    assert 0.5 * np.exp(-min(float(narrow.log_half_width), 0.05)) < ratio < 0.95
    assert float(narrow.latency_s) > 128 * 16384 * 256 / library.device.bandwidth_bytes_per_s


@ENGINES
@FITTED
def test_a_short_window_is_one_price_whatever_lies_before_it(system: str, backend: str) -> None:
    library = KernelLibrary(load_system(system), backend)
    heads = (64, 8, 64)
    near, far = (library.attention_decode(64, context, *heads, window=128) for context in (1024, 65536))
    assert float(near.latency_s) == float(far.latency_s)
    assert far.evidence.startswith(f"attention_decode bf16 {backend}_gqa_window")
    assert float(far.latency_s) < 0.1 * float(library.attention_decode(64, 65536, *heads).latency_s)


def test_windows_of_one_call_are_priced_each_by_itself(library: KernelLibrary) -> None:
    windows = np.array([0, 128, 4096])
    together = library.attention_prefill(1, 8192, 64, 8, 64, windows)
    apart = [float(library.attention_prefill(1, 8192, 64, 8, 64, int(w)).latency_s) for w in windows]
    assert together.latency_s.tolist() == apart
    assert apart[1] < apart[2] < apart[0]


@pytest.mark.parametrize(("system", "product"), [("h100_sxm", "mxfp4_bf16"), ("gb200", "mxfp4_mxfp8")])
@ENGINES
def test_mxfp4_experts_run_as_the_generation_runs_them(system: str, product: str, backend: str) -> None:
    estimate = KernelLibrary(load_system(system), backend).moe(64, **GPT_OSS_EXPERTS, dtype="mxfp4")
    assert estimate.evidence.startswith(f"moe {product} ")


@ENGINES
def test_an_engine_may_keep_rows_beside_mxfp4_weights_in_16_bits(backend: str) -> None:
    library = KernelLibrary(load_system("b200_sxm"), backend)
    narrow, wide = (
        library.moe(8192, **GPT_OSS_EXPERTS, dtype=dtype) for dtype in ("mxfp4_mxfp8", "mxfp4_bf16")
    )
    assert wide.grade is Grade.B
    assert float(narrow.latency_s) < float(wide.latency_s)


@ENGINES
@FITTED
def test_mxfp4_experts_never_beat_the_reading_of_their_weights(system: str, backend: str) -> None:
    library = KernelLibrary(load_system(system), backend)
    tokens = 2.0 ** np.arange(5, 15)  # evenly loaded, all 128 experts work from 32 tokens on
    priced = library.moe(tokens, **GPT_OSS_EXPERTS, dtype="mxfp4", distribution="balanced")
    weight_bytes = 128 * 3 * 2880**2 * 17 / 32
    assert (priced.latency_s > weight_bytes / library.device.bandwidth_bytes_per_s).all()


def test_a_cache_in_fp8_is_priced_on_ampere_with_the_constants_of_hopper() -> None:
    library = KernelLibrary(load_system("a100_sxm_80gb"), "vllm")
    for estimate in (
        library.attention_prefill(1, 2048, 32, 8, 128, kv_dtype="fp8"),
        library.attention_decode(64, 2048, 32, 8, 128, kv_dtype="fp8"),
    ):
        assert estimate.grade is Grade.C
        assert "with the datasheet of a100_sxm_80gb" in estimate.evidence


def test_a_window_on_ampere_keeps_the_constants_of_ampere() -> None:
    estimate = KernelLibrary(load_system("a100_sxm_80gb"), "vllm").attention_decode(64, 2048, 64, 8, 64, 128)
    assert estimate.grade is Grade.B


def test_sglang_meets_with_its_own_all_reduce(library: KernelLibrary) -> None:
    assert "custom_all_reduce any sglang" in library.collective("all_reduce", 4, 1e5).evidence


def test_dimensions_broadcast_and_each_row_equals_its_scalar_call(library: KernelLibrary) -> None:
    m, n = np.array([[1], [64], [4096]]), np.array([512, 7168])
    table = library.gemm(m, n, 2048, "bf16")
    assert table.latency_s.shape == (3, 2)
    assert table.latency_s[1, 1] == float(library.gemm(64, 7168, 2048, "bf16").latency_s)


def test_an_empty_call_takes_no_time(library: KernelLibrary) -> None:
    assert library.gemm([0, 1], 512, 512).latency_s[0] == 0
    assert float(library.moe(0, **V3_EXPERTS).latency_s) == 0
    assert float(library.mla_decode(0, 4096, 16).latency_s) == 0
    assert float(library.collective("all_reduce", 1, 1e6).latency_s) == 0


def test_bfloat16_is_another_name_of_bf16(library: KernelLibrary) -> None:
    assert library.gemm(64, 512, 512, "bfloat16") == library.gemm(64, 512, 512, "bf16")


def test_a_scalar_call_is_remembered(library: KernelLibrary) -> None:
    assert library.gemm(37, 512, 512) is library.gemm(37, 512, 512)
    assert library.gemm(37, 512, 512) is not library.gemm(37, 512, 512, cold=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: k.gemm(-1, 512, 512), "finite and not negative"),
        (lambda k: k.gemm(1, 512, 512, "bf61"), "did you mean bf16"),
        (lambda k: k.gemm(1, 512, 512, "nvfp4"), "must have a matrix unit"),
        (lambda k: k.moe(1, **V3_EXPERTS, moe_ep=7), "moe_ep must divide experts = 256; given 7"),
        (lambda k: k.collective("all_reduec", 8, 1.0), "did you mean all_reduce"),
        (lambda k: k.bandwidth_bound(1.0, "rmsnrom"), "did you mean rmsnorm"),
    ],
)
def test_bad_calls_say_what_must_hold(library: KernelLibrary, call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(library)  # type: ignore[operator]


def test_fp8_needs_a_device_that_has_it() -> None:
    with pytest.raises(InputError, match=r"a100_sxm_80gb.peak_flop_per_s"):
        KernelLibrary(load_system("a100_sxm_80gb"), "vllm").gemm(64, 512, 512, "fp8_block")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean sglang"):
        KernelLibrary(load_system("h200_sxm"), "sgland")


def test_a_sibling_without_calibration_takes_its_architecture_at_grade_c() -> None:
    own, sibling = (
        KernelLibrary(system, "vllm").gemm(64, 2112, 7168, "bf16")
        for system in (load_system("h200_sxm"), on_another(load_system("h200_sxm"), "h999", "hopper"))
    )
    assert (own.grade, sibling.grade) == (Grade.B, Grade.C)
    assert sibling.log_half_width > own.log_half_width
    assert "with the datasheet of h999" in sibling.evidence


def test_a_device_of_no_known_architecture_is_grade_d_and_wider_still() -> None:
    sibling, stranger = (
        KernelLibrary(on_another(load_system("h200_sxm"), "h999", name), "vllm").gemm(64, 2112, 7168, "bf16")
        for name in ("hopper", "article-v3")
    )
    assert stranger.grade is Grade.D
    assert stranger.log_half_width > sibling.log_half_width


def test_a_dtype_that_nobody_measured_is_grade_d() -> None:
    estimate = KernelLibrary(load_system("h200_sxm"), "vllm").gemm(64, 2112, 7168, "int8")
    assert estimate.grade is Grade.D
    assert estimate.evidence.startswith("int8 priced with gemm fp8")


def test_tensorrt_takes_the_faster_of_two_expert_kernels_on_blackwell() -> None:
    tokens = np.array([1.0, 64.0, 4096.0])
    trtllm, sglang = (
        KernelLibrary(load_system("b200_sxm"), backend).moe(tokens, **V3_EXPERTS, moe_ep=8)
        for backend in ("trtllm", "sglang")
    )
    assert (trtllm.latency_s <= sglang.latency_s).all()
    assert trtllm.evidence.startswith("fastest of")


def test_more_bandwidth_never_takes_more_time() -> None:
    system = load_system("h200_sxm")
    memory = system.device.memory
    wider = replace(memory.bandwidth_bytes_per_s, value=2 * memory.bandwidth_bytes_per_s.value)
    faster = replace(
        system, device=replace(system.device, memory=replace(memory, bandwidth_bytes_per_s=wider))
    )
    for slow, fast in zip(
        every_family(KernelLibrary(system, "vllm")), every_family(KernelLibrary(faster, "vllm")), strict=True
    ):
        assert float(fast.latency_s) <= float(slow.latency_s) * 1.0001


def test_a_gather_of_shards_is_one_of_their_sum(library: KernelLibrary) -> None:
    # 8 ranks with a shard of 1 MB each move what a reduce-scatter of one 8 MB vector moves
    gather = float(library.collective("all_gather", 8, 1e6).latency_s)
    scatter = float(library.collective("reduce_scatter", 8, 8e6).latency_s)
    assert gather == pytest.approx(scatter, rel=0.25)


def test_beyond_a_node_the_nics_bind_and_the_price_is_weaker(library: KernelLibrary) -> None:
    inside, outside = (library.collective("all_to_all", n, 1e7) for n in (8, 16))
    assert float(outside.latency_s) > 3 * float(inside.latency_s)
    assert (outside.grade, BOUNDS[int(outside.bound)]) == (Grade.D, "network")


def test_a_gather_of_two_nodes_takes_twice_that_of_one_where_every_nic_helps(library: KernelLibrary) -> None:
    inside, outside = (float(library.collective("all_gather", n, 1e8).latency_s) for n in (8, 16))
    assert 1.8 * inside < outside < 3 * inside


def test_a_custom_all_reduce_serves_small_messages_and_never_loses_to_nccl(library: KernelLibrary) -> None:
    sizes = 2.0 ** np.arange(10, 30)
    best = library.collective("all_reduce", 8, sizes)
    assert (np.diff(best.latency_s) > 0).all()
    assert best.latency_s[0] < 10e-6


def test_a_hundred_thousand_gemms_take_about_a_second(library: KernelLibrary) -> None:
    rng = np.random.default_rng(0)
    m, n, k = (
        rng.integers(1, 16384, 100_000),
        rng.integers(128, 16384, 100_000),
        rng.integers(128, 16384, 100_000),
    )
    begin = time.process_time()
    library.gemm(m, n, k, "bf16")
    assert time.process_time() - begin < 3.0  # 0.5 s on an idle core


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("system", SOLD)
def test_no_shipped_kernel_beats_the_peak_or_the_bandwidth(system: str, backend: str) -> None:
    library = KernelLibrary(load_system(system), backend)
    peaks, bandwidth = library.device.peaks, library.device.bandwidth_bytes_per_s
    m, n, k = np.meshgrid([1, 64, 1024, 16384], [512, 7168, 36864], [512, 7168, 18432])
    for dtype, size, peak in [("bf16", 2.0, "bf16"), ("fp8", 1.0, "fp8"), ("nvfp4", 0.5625, "fp4")]:
        if peak in peaks:
            floor = np.maximum(2.0 * m * n * k / peaks[peak], size * n * k / bandwidth)
            assert (library.gemm(m, n, k, dtype).latency_s > floor).all(), dtype
    batch, context = np.meshgrid([1, 32, 256], [128, 4096, 65536])
    assert (library.mla_decode(batch, context, 16).latency_s > 1152 * batch * context / bandwidth).all()
    isl = np.array([128, 4096, 32768])
    causal_flop = 2 * 128 * 320 * isl * (isl + 1) / 2
    assert (library.mla_prefill(1, isl, 128).latency_s > causal_flop / peaks["bf16"]).all()
