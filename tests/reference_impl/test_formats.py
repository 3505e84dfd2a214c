import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_graphs.dtypes import WEIGHT_DTYPES, tensor_bytes
from model_graphs.expressions import as_expression
from model_graphs.graph import Role
from model_graphs.graph import Tensor as GraphTensor
from reference_impl.formats import Encoded, decode, encode_input, pack, part_names, unpack
from reference_impl.formats.bits import pack_bits, unpack_bits
from reference_impl.formats.elements import E2M1_VALUES

LAYOUTS = ["", ":2of4", ":0.7"]


def weight(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def round_trip(w, storage):
    return unpack(pack(w, storage), storage, tuple(w.shape[-2:]))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_packed_codes_come_back_in_as_many_bytes_as_their_bits_need(n_bits, values):
    codes = torch.tensor(values) % 2**n_bits
    packed = pack_bits(codes, n_bits)
    assert packed.numel() == -(-len(values) * n_bits // 8)
    assert torch.equal(unpack_bits(packed, n_bits, len(values)).long(), codes)


def test_bits_are_packed_from_the_least_significant():
    # 1, 2, 3 in four bits: 0x21 then 0x03
    assert pack_bits(torch.tensor([1, 2, 3]), 4).tolist() == [0x21, 0x03]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("element", WEIGHT_DTYPES)
@pytest.mark.parametrize("shape", [(96, 256), (2, 100, 72)])
def test_a_stored_weight_occupies_what_the_graph_says(element, layout, shape):
    w = weight(*shape).bfloat16()
    parts = pack(w, element + layout).parts
    assert tuple(parts) == part_names(element + layout)
    stored = sum(t.numel() * t.element_size() for name, t in parts.items() if name != "whole")
    said = GraphTensor(tuple(as_expression(size) for size in shape), element + layout, Role.WEIGHT)
    assert stored == int(tensor_bytes(said))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("element", WEIGHT_DTYPES)
def test_on_meta_a_weight_packs_to_the_same_shapes(element, layout):
    real, none = (
        pack(weight(2, 64, 72), element + layout),
        pack(weight(2, 64, 72).to("meta"), element + layout),
    )
    for name, tensor in real.parts.items():
        assert (none.parts[name].shape, none.parts[name].dtype) == (tensor.shape, tensor.dtype)


def test_an_fp8_block_is_scaled_so_that_its_largest_element_is_448():
    w = torch.ones(128, 256)
    w[3, 200] = -7.0
    packed = pack(w, "fp8_block")
    assert packed.scales.tolist() == [[pytest.approx(1 / 448), pytest.approx(7 / 448)]]
    assert packed.payload[3, 200].item() == -448
    # 1 x 448 / 7 = 64 is a power of two and 448 the largest code: every element comes back
    assert torch.allclose(round_trip(w, "fp8_block"), w, rtol=1e-6)


def test_codes_never_pass_the_range_of_their_type():
    # a scale that rounds down would push the largest element beyond 448, which some casts make NaN
    for seed in range(20):
        x = weight(4, 300, seed=seed) * 10.0 ** (seed - 10)
        encoded = encode_input(x, "fp8_block")
        assert encoded.codes.float().abs().max() == 448
        assert decode(encoded, "fp8_block").isfinite().all()


@pytest.mark.parametrize("element", ["int8_g128", "int6_g128", "int4_g128", "int3_g128"])
def test_an_integer_code_is_within_half_a_step(element):
    w = weight(8, 256)
    packed = pack(w, element)
    steps = packed.scales.float().repeat_interleave(128, -1)
    clipped = (w.abs() / steps).clamp_max(2 ** (int(element[3]) - 1) - 1) * steps  # a scale in bf16 may clip
    assert ((round_trip(w, element).abs() - clipped).abs() <= steps * 0.5001).all()


def test_fewer_bits_are_never_closer():
    w = weight(64, 256)
    errors = [(round_trip(w, f"int{bits}_g128") - w).norm().item() for bits in (8, 6, 4, 3, 2)]
    assert errors == sorted(errors)
    assert (round_trip(w, "fp8_block") - w).norm() < (round_trip(w, "nvfp4") - w).norm()


def test_e2m1_takes_the_nearest_value_and_the_even_code_halfway():
    values = torch.tensor(E2M1_VALUES)
    grid = torch.cat([-values, values])
    x = torch.linspace(-6, 6, 16 * 12 + 1)[: 16 * 12].reshape(1, -1)
    x[:, 0::16] = 6.0  # every block's scale is then one
    encoded = encode_input(x, "nvfp4")
    got = decode(Encoded(encoded.codes, encoded.scales, encoded.whole), "nvfp4").reshape(-1)
    distance = (x.reshape(-1, 1) - grid).abs()
    assert torch.allclose((got - x.reshape(-1)).abs(), distance.amin(1), atol=1e-5)


def test_two_of_every_four_are_kept_and_they_are_the_largest():
    w = weight(16, 64)
    kept = round_trip(w, "bf16:2of4").unflatten(-1, (-1, 4))
    fours = w.unflatten(-1, (-1, 4))
    assert ((kept != 0).sum(-1) == 2).all()
    assert torch.equal(kept.abs().sum(-1), fours.abs().topk(2, -1).values.sum(-1))


@pytest.mark.parametrize("fraction", ["0.5", "0.7", "0.9"])
def test_pruning_zeroes_the_fraction_of_least_magnitude_of_each_matrix(fraction):
    w = weight(3, 40, 50)
    pruned = round_trip(w, f"bf16:{fraction}")
    for matrix, left in zip(w, pruned, strict=True):
        assert (left == 0).sum() == round(float(fraction) * 2000)
        assert matrix[left == 0].abs().max() < matrix[left != 0].abs().min()
        assert torch.equal(left[left != 0], matrix[left != 0])


def test_the_code_of_zero_is_exact_in_every_input_type():
    x = weight(3, 128)
    x[:, 5] = 0
    for dtype in ("fp8_block", "nvfp4", "int8"):
        assert decode(encode_input(x, dtype), dtype).reshape(x.shape)[:, 5].abs().max() == 0


def test_the_parameters_of_an_int8_input_are_those_of_pytorch():
    generator = torch.Generator().manual_seed(0)
    for exponent in range(-6, 4):
        for shift in (0.0, 3.0, -3.0):
            x = torch.randn(13, generator=generator) * 10.0**exponent + shift
            scale, zero = torch._choose_qparams_per_tensor(x, True)
            whole = encode_input(x, "int8").whole
            assert whole.tolist() == [torch.tensor(scale).item(), zero]
