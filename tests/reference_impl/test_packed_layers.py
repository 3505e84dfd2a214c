import warnings

import pytest
import torch
from tiny import TINY, positions_of, randomise, relative
from torch import nn

from hardware_specs.records.errors import InputError
from model_graphs.transforms import PLANS, Plan, Rule, pruned_plan
from reference_impl import kernels
from reference_impl.decoder import build_model
from reference_impl.formats import elements
from reference_impl.kernels.accumulation import summed
from reference_impl.layers import Linear
from reference_impl.transforms import PackedExperts, PackedLinear, Quantize, Switched, transform
from reference_impl.transforms.casts import CastLinear

INT8 = Rule(products=("*",), weights="int8", inputs="int8")
needs_x86_kernels = pytest.mark.skipif(
    "x86" not in torch.backends.quantized.supported_engines, reason="PyTorch's 8-bit kernels are not built in"
)


def tiny(plan=None, seed=0):
    torch.manual_seed(seed)
    model = build_model(TINY.blueprint)
    randomise(model)
    if plan is not None:
        transform(model, plan)
    return model


def logits(model, absorbed=False):
    ids = torch.randint(0, TINY.vocab_size, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(ids, positions_of(ids), None, absorbed)[0]


def linear(k, n):
    layer = Linear(k, n, "mlp")
    nn.init.normal_(layer.weight, std=0.1)
    return layer


def test_a_plan_without_rules_leaves_the_model_as_it_is():
    assert torch.equal(logits(tiny()), logits(tiny(PLANS["bf16"])))


def test_only_the_products_that_a_rule_chooses_are_replaced():
    model = tiny(Plan(name="o", rules=(Rule(products=("*.o_proj", "moe"), weights="int4_g128"),)))
    kinds = {path.rsplit(".", 1)[-1] for path, m in model.named_modules() if isinstance(m, PackedLinear)}
    assert kinds == {"o_proj"}
    assert any(isinstance(m, PackedExperts) for m in model.modules())
    assert type(model.lm_head) is Linear


def test_fewer_bits_move_a_layer_further_from_its_plain_output():
    torch.manual_seed(0)
    x, layer = torch.randn(16, 512), linear(512, 256)
    plain = x @ layer.weight.T
    schemes = [{"weights": f"int{bits}_g128"} for bits in (8, 6, 4, 3, 2)]
    errors = [relative(PackedLinear(layer, Rule(products=("*",), **scheme))(x), plain) for scheme in schemes]
    assert errors == sorted(errors)
    assert errors[0] < 0.01 < errors[2] < 0.2


def test_pruning_nothing_changes_nothing_and_pruning_everything_but_little_does():
    assert torch.equal(logits(tiny(pruned_plan(0.0))), logits(tiny()))
    assert relative(logits(tiny(pruned_plan(0.9))), logits(tiny())) > 0.1


@needs_x86_kernels
@pytest.mark.filterwarnings("ignore")  # PyTorch announces a successor of this module
@pytest.mark.parametrize("shapes", [[(96, 64)], [(128, 96), (96, 40), (40, 72)]])
def test_int8_equals_dynamic_quantisation_of_pytorch_bit_by_bit(shapes):
    torch.manual_seed(0)
    ours = [linear(k, n) for k, n in shapes]
    theirs = nn.Sequential(*(nn.Linear(k, n, bias=False) for k, n in shapes))
    for layer, other in zip(ours, theirs, strict=True):
        other.weight.data.copy_(layer.weight)
    x = torch.randn(7, shapes[0][0]) * 3
    wanted = torch.ao.quantization.quantize_dynamic(theirs, {nn.Linear}, dtype=torch.qint8)(x)
    packed = nn.Sequential(*(PackedLinear(layer, INT8) for layer in ours))
    assert torch.equal(packed(x), wanted)


@needs_x86_kernels
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mistake", ["eight bits of input", "weights to 127"])
def test_a_mistaken_int8_scheme_differs_from_pytorch(monkeypatch, mistake):
    torch.manual_seed(0)
    layer, other = linear(96, 64), nn.Sequential(nn.Linear(96, 64, bias=False))
    other[0].weight.data.copy_(layer.weight)
    x = torch.randn(7, 96)
    wanted = torch.ao.quantization.quantize_dynamic(other, {nn.Linear}, dtype=torch.qint8)(x)

    def eight_bits(x):
        scale, zero = torch._choose_qparams_per_tensor(x, False)
        codes = ((x / scale).round() + zero).clamp(0, 255).to(torch.uint8)
        return elements.Encoded(codes, whole=torch.tensor([scale, float(zero)]))

    def to_127(weight):
        scale = weight.abs().amax((-2, -1), keepdim=True) / 127
        whole = torch.cat([scale.flatten(-2), torch.zeros_like(scale.flatten(-2))], -1)
        return elements.Encoded((weight / scale).round().to(torch.int8), whole=whole)

    if mistake == "eight bits of input":
        monkeypatch.setattr(elements, "_encode_affine_int8", eight_bits)
    else:
        monkeypatch.setattr(elements, "_encode_symmetric_int8", to_127)
    assert relative(PackedLinear(layer, INT8)(x), wanted) > 1e-3


FP8 = Rule(products=("*",), weights="fp8_block", inputs="fp8_block")


def block_by_block(x, weight_NK):
    """The product of codes of every 128-wide block, scaled and summed in the order of DeepSeek's recipe."""
    total = torch.zeros(len(x), len(weight_NK))
    for start in range(0, x.shape[1], 128):
        x_part = x[:, start : start + 128]
        x_scale = x_part.abs().amax(1, keepdim=True) / 448
        x_codes = (x_part / x_scale).to(torch.float8_e4m3fn).float()
        for row in range(0, len(weight_NK), 128):
            w_part = weight_NK[row : row + 128, start : start + 128]
            w_scale = w_part.abs().max() / 448
            w_codes = (w_part / w_scale).to(torch.float8_e4m3fn).float()
            total[:, row : row + 128] += x_codes @ w_codes.T * x_scale * w_scale
    return total


def test_an_fp8_product_is_that_of_its_blocks_summed_one_by_one():
    torch.manual_seed(0)
    x, layer = torch.randn(6, 384), linear(384, 256)
    assert relative(PackedLinear(layer, FP8)(x), block_by_block(x, layer.weight)) < 1e-5


def test_one_scale_for_the_whole_matrix_breaks_the_fp8_product(monkeypatch):
    torch.manual_seed(0)
    x, layer = torch.randn(6, 384), linear(384, 256)
    layer.weight[:, :128] *= 1e-5  # a block that a scale of the whole leaves nothing of
    x[:, :128] *= 1e5
    right = block_by_block(x, layer.weight)
    assert relative(PackedLinear(layer, FP8)(x), right) < 1e-5
    by_block = elements._encode_fp8

    def as_one(x, rows):
        scale = x.abs().max() / 448
        return elements.Encoded(
            (x / scale).to(torch.float8_e4m3fn), torch.full_like(by_block(x, rows).scales, scale)
        )

    monkeypatch.setattr(elements, "_encode_fp8", as_one)
    assert relative(PackedLinear(layer, FP8)(x), right) > 0.1


@pytest.mark.parametrize("name", ["int4", "fp8_weights", "2of4"])
def test_absorbed_attention_reads_the_values_that_naive_attention_multiplies_by(name):
    model = tiny(PLANS[name])
    assert relative(logits(model, absorbed=True), logits(model)) < 1e-4


def test_one_quantisation_serves_all_consumers_of_a_tensor(monkeypatch):
    calls = []
    right = kernels.quantize
    monkeypatch.setattr(kernels, "quantize", lambda x, dtype: calls.append(dtype) or right(x, dtype))
    x = torch.randn(3, 128)
    first, second = Quantize("mlp", "fp8_block"), Quantize("moe", "fp8_block")
    assert first(x) is second(x)
    Quantize("mlp", "int8")(x)
    assert first(x.clone()) is not first(x)
    assert calls == ["fp8_block", "int8", "fp8_block"]


def test_a_sum_in_bf16_loses_small_terms_and_a_compensated_one_does_not():
    # 256 + 1 is 256 in bf16 (8 bits): 512 ones are lost one by one, and kept together
    terms = [torch.tensor(256.0), *([torch.tensor(1.0)] * 512)]
    assert summed(terms, "fp32") == 768
    assert summed(terms, "bf16") == 256
    assert summed(terms, "bf16_compensated") == 512 or summed(terms, "bf16_compensated") == 768


def test_compensation_never_makes_sums_of_the_products_worse_on_average():
    torch.manual_seed(0)
    x, layer = torch.randn(64, 4096), linear(4096, 32)
    exact = x.double() @ layer.weight.double().T
    error = {}
    for accumulation in ("fp32", "bf16", "bf16_compensated"):
        rule = Rule(products=("*",), weights="bf16", accumulation=accumulation)
        error[accumulation] = (PackedLinear(layer, rule)(x).double() - exact).norm().item()
    assert error["fp32"] < error["bf16_compensated"] < error["bf16"]


def test_a_switch_at_run_time_goes_on_as_the_other_plan_would_from_the_same_caches():
    plain = tiny()
    switched = Switched(plain, PLANS["fp8"], PLANS["int8"])
    ids = torch.randint(0, TINY.vocab_size, (2, 9), generator=torch.Generator().manual_seed(1))
    prompt, token = ids[:, :8], ids[:, 8:]
    with torch.no_grad():
        _, _, caches = switched(prompt, positions_of(prompt), None, False)
        first = switched(token, positions_of(token, 8), caches, True)[0]
        switched.switch("int8")
        second = switched(token, positions_of(token, 8), caches, True)[0]
        switched.switch("fp8")
        assert torch.equal(switched(token, positions_of(token, 8), caches, True)[0], first)
    assert torch.equal(second, switched.forms["int8"](token, positions_of(token, 8), caches, True)[0])
    assert not torch.equal(second, first)
    assert switched.forms["fp8"].embed_tokens.weight is switched.forms["int8"].embed_tokens.weight
    with pytest.raises(InputError, match="did you mean int8"):
        switched.switch("int9")


def test_autocast_equals_that_of_pytorch_bit_by_bit():
    torch.manual_seed(0)
    shapes = [(128, 96), (96, 40), (40, 72)]
    ours = [linear(k, n) for k, n in shapes]
    theirs = nn.Sequential(*(nn.Linear(k, n, bias=False) for k, n in shapes))
    for layer, other in zip(ours, theirs, strict=True):
        other.weight.data.copy_(layer.weight)
    x = torch.randn(7, 128)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = theirs(x)
    assert wanted.dtype is torch.bfloat16
    assert torch.equal(nn.Sequential(*(CastLinear(layer) for layer in ours))(x), wanted.float())


def test_a_model_under_autocast_is_as_near_to_the_plain_one_as_pytorchs_own():
    plain = logits(tiny())
    with kernels.plain_kernels(), torch.autocast("cpu", torch.bfloat16):
        theirs = relative(logits(tiny()).float(), plain)
    ours = relative(logits(tiny(PLANS["autocast"])), plain)
    assert 1e-3 < ours < 2 * theirs


def test_attention_that_sums_in_few_bits_errs_more_and_compensated_less():
    plain = logits(tiny())
    sums = PLANS["bf16_sums"].model_copy(update={"rules": ()})
    exact = sums.model_copy(update={"attention_sums": "bf16_compensated"})
    assert relative(logits(tiny(sums)), plain) > 0
    assert relative(logits(tiny(exact)), plain) <= relative(logits(tiny(sums)), plain)
    assert torch.equal(logits(tiny(sums.model_copy(update={"attention_sums": "fp32"}))), plain)


def test_transformed_models_are_made_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits(tiny(PLANS["fp8_int8"]))
