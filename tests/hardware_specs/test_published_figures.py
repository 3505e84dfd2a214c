"""Published figures of one device agree with each other: pins with bandwidth, units and clock with peaks."""

import pytest

from hardware_specs.library import list_systems, load_device, load_memory, load_system

#: memory -> bus in bits, Gbit/s a pin; the bandwidth is their product / 8
#: (5120 x 3.2 / 8 = 2048 GB/s against the 2039 of the table)
PINS = {
    "hbm2_v100_32gb": (4096, 1.754),
    "hbm2_a100_40gb": (5120, 2.43),
    "hbm2e_a100_80gb": (5120, 3.2),
    "hbm2e_a100_pcie_80gb": (5120, 3.024),
    "hbm2_a30_24gb": (3072, 2.43),
    "hbm2e_h100_pcie_80gb": (5120, 3.186),
    "hbm3_h100_80gb": (5120, 5.24),
    "hbm3_h100_nvl_94gb": (6016, 5.24),
    "hbm3_h800_80gb": (5120, 5.24),
    "hbm3e_h200_141gb": (6144, 6.372),
    "hbm3e_h200_nvl_141gb": (6144, 6.372),
    "hbm3e_b200_180gb": (7680, 7.992),
    "gddr6_a40_48gb": (384, 14.5),
    "gddr6_a10g_24gb": (384, 12.5),
    "gddr6_rtx_a5000_24gb": (384, 16.0),
    "gddr6_l4_24gb": (192, 12.5),
    "gddr6_l40s_48gb": (384, 18.0),
    "gddr6x_rtx_4090_24gb": (384, 21.0),
    "gddr7_rtx_pro_6000_96gb": (512, 25.0),
    "gddr6_arc_pro_b60_24gb": (192, 19.0),
    "lpddr5x_gb10_128gb": (256, 8.533),
    "hbm3_mi300x_192gb": (8192, 5.2),
    "hbm3e_mi325x_256gb": (8192, 5.86),
    "hbm2e_gaudi3_128gb": (8192, 3.6),
    "lpddr4x_agx_xavier_32gb": (256, 4.266),
    "lpddr5_agx_orin_64gb": (256, 6.4),
    "lpddr5_agx_orin_32gb": (256, 6.4),
    "lpddr5_orin_nx_16gb": (128, 6.4),
    "lpddr5x_agx_thor_128gb": (256, 8.533),
    "lpddr5x_grace_480gb": (512, 6.0),
    "ddr5_4800_8ch": (512, 4.8),
    "ddr5_6400_8ch": (512, 6.4),
    "ddr5_6400_12ch": (768, 6.4),
    "ddr5_6400_12ch_xeon": (768, 6.4),
}

#: architecture -> dense bf16 FLOP of one SM (or Xe core) in a clock, accumulating in 32 bits
RATES = {
    "volta": 1024,
    "ampere": 2048,
    "hopper": 4096,
    "blackwell": 8192,
    "ada": 1024,
    "blackwell_rtx": 1024,
    "xe2": 2048,
    "cdna3": 2048,
    "cdna4": 4096,
    "gaudi3": 16384,  # eight engines of 65,536 multiply-adds over 64 cores
    "sapphire_rapids": 1024,
    "granite_rapids": 1024,
    "zen5": 128,
    "neoverse_v2": 64,
}

#: devices whose SM are not those of the generation's largest chip, or whose rate the vendor cut
OWN_RATES = {"a40": 1024, "rtx_a5000": 1024, "a10g": 512, "rtx_4090": 512, "h20": 1024, "h20_3e": 1024}

SOLD = [key for key in list_systems() if load_system(key).device.vendor != "not stated"]


@pytest.mark.parametrize("memory", PINS)
def test_bus_width_and_pin_rate_give_the_bandwidth(memory: str) -> None:
    bits, gbit_per_s = PINS[memory]
    assert load_memory(memory).bandwidth_bytes_per_s.value == pytest.approx(
        bits * gbit_per_s * 1e9 / 8, rel=0.02
    )


@pytest.mark.parametrize("key", SOLD)
def test_units_times_rate_times_clock_give_the_dense_peak(key: str) -> None:
    device = load_system(key).device
    peak = device.n_sm.value * OWN_RATES.get(device.key, RATES[device.architecture]) * device.clock_hz.value
    assert device.peak("bf16") == pytest.approx(peak, rel=0.04)


@pytest.mark.parametrize("key", list_systems())
def test_fp8_is_twice_bf16_where_there_is_fp8(key: str) -> None:
    device = load_system(key).device
    if device.supports("fp8") and device.key != "gaudi3":  # whose engines are no faster in fp8
        assert device.peak("fp8") == pytest.approx(2 * device.peak("bf16"), rel=0.015)


def test_blackwell_ultra_trades_integers_for_four_bit_floats() -> None:
    for ultra, plain in (("b300_sxm", "b200_sxm"), ("gb300", "gb200")):
        assert load_device(ultra).peak("nvfp4") > 1.4 * load_device(plain).peak("nvfp4")
        assert load_device(ultra).peak("int8") < load_device(plain).peak("int8") / 25
