"""Recurrent kernels against their recurrences, token by token in fp64; mixers under ranks and mistakes."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from families import FAMILIES, Pair, lower_norms, make_pair, whole
from tiny import distance, positions_of, randomise, relative

from model_graphs.blueprint import DeltaNetSpec, Mamba2Spec, RopeSpec
from model_graphs.graph import Role
from model_graphs.layout import Layout
from reference_impl import kernels
from reference_impl.decoder import MTPStep, build_model
from reference_impl.kernels import KERNELS, Call, Operand
from reference_impl.layers import Layer
from reference_impl.loading import load_main_model, load_mtp
from reference_impl.parallel import _shard
from reference_impl.parts.recurrent import GatedDeltaNet, Mamba2
from reference_impl.published_names import names_of

HYBRIDS = ("nemotron h", "qwen 3.5 with experts")


def rand(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def scan_inputs(n_tokens):
    """x, dt, B, C, A_log, D, dt_bias of 4 heads in 2 groups."""
    heads = (rand(4) / 3, rand(4), rand(4))
    return rand(2, n_tokens, 4, 6), rand(2, n_tokens, 4), *(rand(2, n_tokens, 2, 7) for _ in "BC"), *heads


def scanned_token_by_token(x, dt, b, c, a_log, d, dt_bias, state):
    x, dt, b, c, state = (z.double() for z in (x, dt, b, c, state))
    dt = F.softplus(dt + dt_bias.double())
    b, c = (z.repeat_interleave(2, 2) for z in (b, c))
    outputs = []
    for t in range(x.shape[1]):
        decay = (-a_log.double().exp() * dt[:, t]).exp()[..., None, None]
        written = torch.einsum("bhp,bhn->bhpn", x[:, t] * dt[:, t, :, None], b[:, t])
        state = decay * state + written
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, c[:, t]) + d.double()[:, None] * x[:, t])
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("n_tokens", [1, 4, 11])
def test_a_scan_in_chunks_is_the_recurrence(n_tokens, chunk):
    inputs, state = scan_inputs(n_tokens), rand(2, 4, 6, 7)
    wanted, last = scanned_token_by_token(*inputs, state)
    given, after = kernels.mamba2_scan(*inputs, state, chunk)
    assert relative(given.double(), wanted) < 3e-6
    assert relative(after.double(), last) < 3e-6
    assert after.dtype is torch.float32


def test_a_scan_without_a_state_starts_from_zeros():
    inputs = scan_inputs(9)
    given = kernels.mamba2_scan(*inputs, None, 4)
    wanted = kernels.mamba2_scan(*inputs, torch.zeros(2, 4, 6, 7), 4)
    assert all(torch.equal(g, w) for g, w in zip(given, wanted, strict=True))


def delta_inputs(n_tokens):
    """q, k, v, decay, rate, A_log, dt_bias of 4 heads of values on 2 of keys."""
    keys = (rand(2, n_tokens, 2, 6), rand(2, n_tokens, 2, 6).flip(1))
    gates = (rand(2, n_tokens, 4), rand(2, n_tokens, 4).flip(1))
    return *keys, rand(2, n_tokens, 4, 7), *gates, rand(4) / 3, rand(4)


def ruled_token_by_token(q, k, v, decay, rate, a_log, dt_bias, state):
    q, k, v, decay, rate, state = (z.double() for z in (q, k, v, decay, rate, state))
    q, k = (F.normalize(z, dim=-1).repeat_interleave(2, 2) for z in (q, k))
    decay = (-a_log.double().exp() * F.softplus(decay + dt_bias.double())).exp()
    outputs = []
    for t in range(q.shape[1]):
        state = state * decay[:, t, :, None, None]
        said = torch.einsum("bhc,bhcv->bhv", k[:, t], state)
        missed = rate[:, t].sigmoid().unsqueeze(-1) * (v[:, t] - said)
        state = state + torch.einsum("bhc,bhv->bhcv", k[:, t], missed)
        outputs.append(torch.einsum("bhc,bhcv->bhv", q[:, t], state) / 6**0.5)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("n_tokens", [1, 64, 150])
def test_the_delta_rule_in_chunks_is_the_recurrence(n_tokens):
    inputs, state = delta_inputs(n_tokens), rand(2, 4, 6, 7)
    wanted, last = ruled_token_by_token(*inputs, state)
    given, after = kernels.gated_delta_rule(*inputs, state)
    assert relative(given.double(), wanted) < 3e-6
    assert relative(after.double(), last) < 3e-6
    assert after.dtype is torch.float32


def test_a_convolution_sees_its_own_token_and_those_before():
    """Weights 1, 10, 100 and 1000 of tokens 1 to 3 after a state of zeros: 1000, 2100, 3210, SiLU'd."""
    x, weight = torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([[1.0, 10.0, 100.0, 1000.0]])
    out, state = kernels.causal_conv1d(x, weight, torch.tensor([0.5]), None)
    assert torch.equal(out.flatten(), F.silu(torch.tensor([1000.5, 2100.5, 3210.5])))
    assert state.tolist() == [[[1.0, 2.0, 3.0]]]
    after, _ = kernels.causal_conv1d(torch.tensor([[[4.0]]]), weight, None, state)
    assert after.item() == 4321.0


def test_a_gate_multiplies_what_is_normalised_or_what_is_normal():
    """Two groups of two: (3, 4) over sqrt(12.5), and (6, 8) over sqrt(50)."""
    x, gate, weight = torch.tensor([3.0, 4.0, 6.0, 8.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(4)
    last = kernels.gated_rmsnorm(x, gate, weight, 0.0, 2, False)
    assert torch.allclose(last, torch.tensor([0.6, 0.8, 0.6, 0.8]) * 2**0.5 * F.silu(gate))
    first = kernels.gated_rmsnorm(x, gate, weight, 0.0, 2, True)
    opened = (x * F.silu(gate)).view(2, 2)
    assert torch.allclose(first.view(2, 2), opened / opened.pow(2).mean(-1, keepdim=True).sqrt())


def operand(*shape, role=Role.ACTIVATION, element_bytes=2):
    return Operand(shape, "bf16", element_bytes, role)


def test_a_scan_counts_pairs_inside_chunks_and_the_state_once():
    # 3 sequences of 10 tokens in chunks of 4, 4 and 2: 16 + 16 + 4 = 36 pairs, 10 + 10 + 3 = 23 of them
    # causal; a pair costs 2 x (2 groups x 7 + 4 heads x 6) = 76, a token 4 x 4 x 6 x 7 = 672 for the state
    state = operand(3, 4, 6, 7, role=Role.STATE, element_bytes=4)
    inputs = {
        "x_BSHP": operand(3, 10, 4, 6),
        "dt_BSH": operand(3, 10, 4),
        "B_BSGN": operand(3, 10, 2, 7),
        "C_BSGN": operand(3, 10, 2, 7),
        "state_BHPN": state,
    }
    work = KERNELS["mamba2_scan"].work(Call(inputs, (operand(3, 10, 4, 6), state), {"chunk": 4}))
    assert work.flop == 3 * (36 * 76 + 10 * 672)
    assert work.causal_flop == 3 * (23 * 76 + 10 * 672)
    assert (work.cache_read_bytes, work.cache_write_bytes) == (3 * 4 * 6 * 7 * 4,) * 2


def test_the_delta_rule_counts_five_products_of_pairs_and_three_of_the_state():
    # one sequence of 70 tokens: 64 x 64 + 6 x 6 pairs; a pair costs 2 x 4 x (3 x 6 + 2 x 7) = 256,
    # a token 6 x 4 x 6 x 7 = 1008
    state = operand(1, 4, 6, 7, role=Role.STATE, element_bytes=4)
    inputs = {"q_BSKC": operand(1, 70, 2, 6), "v_BSHV": operand(1, 70, 4, 7)}
    work = KERNELS["gated_delta_rule"].work(Call(inputs, (operand(1, 70, 4, 7), state), {}))
    assert work.flop == 4132 * 256 + 70 * 1008
    assert work.causal_flop == (4132 + 70) // 2 * 256 + 70 * 1008
    assert (work.cache_read_bytes, work.cache_write_bytes) == (0, 4 * 6 * 7 * 4)


@pytest.mark.parametrize("name", HYBRIDS)
@torch.no_grad()
def test_parts_of_the_heads_on_four_ranks_sum_to_the_whole_mixer(name):
    blueprint = FAMILIES[name].blueprint
    torch.manual_seed(0)
    model = build_model(blueprint)
    randomise(model)
    x_BSD, layout = rand(2, 9, blueprint.hidden_size), Layout.of(blueprint, gpus=4, tp=4)
    tables = model.rotary(positions_of(x_BSD), x_BSD.dtype)
    for mixer in (layer.self_attn for layer in model.layers if layer.self_attn is not None):
        parts = []
        for rank in range(4):
            mine = deepcopy(mixer)
            for layer in [module for module in mine.modules() if isinstance(module, Layer)]:
                _shard(layer, layout, rank)
            parts.append(mine(x_BSD, tables, None, False)[0])
        assert distance(sum(parts), mixer(x_BSD, tables, None, False)[0]) < 1e-5


@pytest.fixture(scope="module")
def pairs():
    return {name: make_pair(name) for name in HYBRIDS}


def mistaken(pair: Pair, kind, **changes) -> float:
    """Relative error of a model whose mixers of a kind, or mixtures, are changed."""
    blueprint = pair.family.blueprint
    part = "mixer" if kind in (Mamba2Spec, DeltaNetSpec) else "feed_forward"
    layers = tuple(
        replace(layer, **{part: replace(getattr(layer, part), **changes)})
        if isinstance(getattr(layer, part), kind)
        else layer
        for layer in blueprint.layers
    )
    model = pair.ours(replace(blueprint, layers=layers))
    return relative(whole(model, pair.ids), pair.logits)


def modules(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def test_a_chunk_of_another_size_changes_nothing(pairs):
    assert mistaken(pairs["nemotron h"], Mamba2Spec, chunk=5) < 1e-5


@pytest.mark.parametrize("mistake", ["gate after norm", "one group", "no skip", "no step bias", "no state"])
def test_a_mistaken_mamba_breaks_parity(pairs, monkeypatch, mistake):
    pair = pairs["nemotron h"]
    model = pair.ours()
    for mixer in modules(model, Mamba2):
        match mistake:
            case "gate after norm":
                mixer.norm.gate_first = False
            case "one group":
                mixer.norm.group_width *= 8
            case "no skip":
                mixer.scan.D.zero_()
            case "no step bias":
                mixer.scan.dt_bias.zero_()
            case "no state":
                mixer.scan.chunk = 1
                monkeypatch.setattr(
                    "reference_impl.kernels.recurrent._whole", lambda decay: torch.zeros(1, 1, 1, 1)
                )
    assert relative(whole(model, pair.ids), pair.logits) > 1e-2


@pytest.mark.parametrize(
    "mistake",
    ["gate before norm", "keys of any length", "rate ignored", "gate left open", "shared gate left open"],
)
def test_a_mistaken_delta_net_layer_breaks_parity(pairs, monkeypatch, mistake):
    pair = pairs["qwen 3.5 with experts"]
    model = pair.ours()
    right = kernels.sigmoid_mul
    match mistake:
        case "gate before norm":
            for mixer in modules(model, GatedDeltaNet):
                mixer.norm.gate_first = True
        case "keys of any length":
            monkeypatch.setattr("reference_impl.kernels.recurrent._unit", lambda x: x)
        case "rate ignored":
            for mixer in modules(model, GatedDeltaNet):
                mixer.in_proj_ba.weight[: mixer.in_proj_ba.widths[0]] = 0
        case "gate left open":
            monkeypatch.setattr(kernels, "sigmoid_mul", lambda x, g: x if x.dim() == 4 else right(x, g))
        case "shared gate left open":
            monkeypatch.setattr(kernels, "sigmoid_mul", lambda x, g: x if x.dim() == 2 else right(x, g))
    assert relative(whole(model, pair.ids), pair.logits) > 1e-2


def test_norm_weights_taken_as_they_are_stored_break_parity(pairs):
    pair = pairs["qwen 3.5 with experts"]
    model = pair.ours()
    for layer in model.layers:
        layer.closing_norm.weight.sub_(1)
    assert relative(whole(model, pair.ids), pair.logits) > 1e-2


def test_rotating_whole_heads_breaks_parity(pairs):
    pair = pairs["qwen 3.5 with experts"]
    blueprint = pair.family.blueprint
    layers = tuple(
        replace(layer, mixer=replace(layer.mixer, rope=RopeSpec(24, 1e4))) if layer.rope else layer
        for layer in blueprint.layers
    )
    model = pair.ours(replace(blueprint, layers=layers))
    assert relative(whole(model, pair.ids), pair.logits) > 1e-2


def test_experts_with_another_activation_break_parity(pairs, monkeypatch):
    pair = pairs["nemotron h"]
    monkeypatch.setattr("reference_impl.kernels.experts.activated", lambda x, name: F.relu(x))
    assert relative(whole(pair.ours(), pair.ids), pair.logits) > 1e-2


@torch.no_grad()
def test_mtp_of_qwen_3_5_equals_the_independent_implementation():
    from transformers.modeling_layers import MtpModel

    pair = make_pair("qwen 3.5 with experts")
    hf, config = pair.independent, pair.independent.config
    config.num_mtp_layers, config.mtp_layer_types = 1, ["full_attention"]
    hf.model.layers = hf.model.layers[:3]  # whose last one is of the module's kind
    module = MtpModel(hf, 1).eval()
    randomise(module.layers)
    lower_norms(module.layers)
    hidden, next_ids = rand(2, 11, config.hidden_size), pair.ids[:, 1:12]
    shifted = positions_of(next_ids, 1)
    wanted = hf.lm_head(module.forward_layer(0, hidden, shifted[:1], None, input_ids=next_ids))
    blueprint = pair.family.blueprint
    model = build_model(replace(blueprint, layers=blueprint.layers[:3], mtp_layers=(blueprint.layers[2],)))
    names = names_of(pair.family.architecture)
    load_main_model(model, hf.state_dict(), names)
    load_mtp(model.mtp[0], module.state_dict(), names=names)
    given = MTPStep(model)(next_ids, hidden, shifted)[0]
    assert distance(given, wanted) < 1e-5
