"""A tiny DeepSeek V3 in `transformers` and here with the same weights, and the distances between the two."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.modeling_layers import MtpModel

from model_graphs.configs import DeepSeekV3Config, RopeScaling
from reference_impl.deepseek_v3 import DeepSeekV3, MTPStep, build_model
from reference_impl.deepseek_v3.loading import load_main_model, load_mtp

N_PROMPT, N_DECODED = 24, 8
TOLERANCE = 1e-5

YARN = RopeScaling(
    factor=40.0,
    original_max_position_embeddings=64,
    beta_fast=32.0,
    beta_slow=1.0,
    mscale=1.0,
    mscale_all_dim=1.0,
)
TINY = DeepSeekV3Config(
    vocab_size=512,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    q_lora_rank=48,
    kv_lora_rank=32,
    qk_nope_head_dim=16,
    qk_rope_head_dim=8,
    v_head_dim=16,
    intermediate_size=256,
    first_k_dense_replace=1,
    moe_intermediate_size=64,
    n_routed_experts=16,
    n_shared_experts=1,
    num_experts_per_tok=4,
    n_group=4,
    topk_group=2,
    routed_scaling_factor=2.5,
    norm_topk_prob=True,
    num_nextn_predict_layers=1,
    max_position_embeddings=2560,
    rms_norm_eps=1e-6,
    rope_theta=10000.0,
    rope_scaling=YARN,
)


@dataclass(frozen=True)
class Oracle:
    """The independent implementation with random weights, and what it says about one batch of tokens."""

    config: DeepSeekV3Config
    hf: DeepseekV3ForCausalLM
    hf_mtp: MtpModel
    ids: Tensor
    logits: Tensor
    mtp_logits: Tensor

    def ours(self, config: DeepSeekV3Config | None = None) -> DeepSeekV3:
        """The reference implementation with the same weights, under the same or a mistaken config."""
        model = build_model(config or self.config)
        load_main_model(model, self.hf.state_dict())
        load_mtp(model.mtp[0], self.hf_mtp.state_dict())
        return model


def make_oracle(config: DeepSeekV3Config = TINY, bias_mean: float = 0.0) -> Oracle:
    torch.manual_seed(0)
    hf = DeepseekV3ForCausalLM(hf_config(config)).eval()
    hf.set_experts_implementation("eager")
    hf_mtp = MtpModel(hf, 1).eval()
    with torch.no_grad():
        randomise(hf, bias_mean)
        randomise(hf_mtp.layers, bias_mean)
        ids = torch.randint(0, config.vocab_size, (2, N_PROMPT + N_DECODED))
        hf.set_attn_implementation("eager")
        logits = hf(ids, use_cache=False).logits
        hidden = hf.model(ids).last_hidden_state[:, :-1]
        shifted = torch.arange(1, ids.shape[1])[None]
        mtp = hf_mtp.forward_layer(0, hidden, shifted, None, input_ids=ids[:, 1:])
        mtp_logits = hf.lm_head(mtp)
    return Oracle(config, hf, hf_mtp, ids, logits, mtp_logits)


def randomise(module: torch.nn.Module, bias_mean: float) -> None:
    """Spread weights, so that no mistake hides behind a default initialisation."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 0.05)
        else:
            parameter.uniform_(0.5, 1.5)
    for name, buffer in module.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.normal_(bias_mean, 0.1)


def hf_config(config: DeepSeekV3Config) -> DeepseekV3Config:
    """The same figures as `transformers` takes them."""
    fields = config.model_dump(exclude={"rope_scaling", "rope_theta"})
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        rope |= {"rope_type": "yarn", **config.rope_scaling.model_dump()}
    heads = config.num_attention_heads
    return DeepseekV3Config(**fields, num_key_value_heads=heads, rope_parameters=rope)


def positions_of(ids: Tensor, start: int = 0) -> Tensor:
    return torch.arange(start, start + ids.shape[1]).expand(ids.shape[0], -1)


def distance(given: Tensor, wanted: Tensor) -> float:
    return (given - wanted).abs().max().item()


def relative(given: Tensor, wanted: Tensor) -> float:
    return distance(given, wanted) / wanted.abs().max().item()


@torch.no_grad()
def prefill(model: DeepSeekV3, ids: Tensor, absorbed: bool) -> Tensor:
    return model(ids, positions_of(ids), None, absorbed)[0]


@torch.no_grad()
def in_pieces(
    model: DeepSeekV3, ids: Tensor, sizes: list[int], absorbed: bool
) -> tuple[Tensor, list[Tensor]]:
    """Logits of all tokens and the caches, the tokens fed in pieces of these sizes."""
    logits, caches, start = [], None, 0
    for piece in ids.split(sizes, 1):
        out, _, caches = model(piece, positions_of(piece, start), caches, absorbed and start > 0)
        logits.append(out)
        start += piece.shape[1]
    return torch.cat(logits, 1), caches


@torch.no_grad()
def mtp_logits(model: DeepSeekV3, ids: Tensor, absorbed: bool = False) -> Tensor:
    _, hidden, _ = model(ids, positions_of(ids))
    next_ids = ids[:, 1:]
    return MTPStep(model)(next_ids, hidden[:, :-1], positions_of(next_ids, 1), None, absorbed)[0]
