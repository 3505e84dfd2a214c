"""A tiny DeepSeek V3 in `transformers` and here with the same weights, and the distances between the two."""

from dataclasses import dataclass

import torch
from tiny import TINY, positions_of, randomise
from torch import Tensor
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.modeling_layers import MtpModel

from model_graphs.architectures.deepseek import DeepSeekV3Config
from reference_impl.decoder import Decoder, MTPStep, build_model
from reference_impl.loading import load_main_model, load_mtp

N_PROMPT, N_DECODED = 24, 8
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Oracle:
    """The independent implementation with random weights, and what it says about one batch of tokens."""

    config: DeepSeekV3Config
    hf: DeepseekV3ForCausalLM
    hf_mtp: MtpModel
    ids: Tensor
    logits: Tensor
    mtp_logits: Tensor

    def ours(self, config: DeepSeekV3Config | None = None) -> Decoder:
        """The reference implementation with the same weights, under the same or a mistaken config."""
        model = build_model((config or self.config).blueprint)
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


def hf_config(config: DeepSeekV3Config) -> DeepseekV3Config:
    """The same figures as `transformers` takes them."""
    fields = config.model_dump(exclude={"rope_scaling", "rope_theta"})
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        rope |= {"rope_type": "yarn", **config.rope_scaling.model_dump()}
    heads = config.num_attention_heads
    return DeepseekV3Config(**fields, num_key_value_heads=heads, rope_parameters=rope)


@torch.no_grad()
def prefill(model: Decoder, ids: Tensor, absorbed: bool) -> Tensor:
    return model(ids, positions_of(ids), None, absorbed)[0]


@torch.no_grad()
def in_pieces(model: Decoder, ids: Tensor, sizes: list[int], absorbed: bool) -> tuple[Tensor, list[Tensor]]:
    """Logits of all tokens and the caches, the tokens fed in pieces of these sizes."""
    logits, caches, start = [], None, 0
    for piece in ids.split(sizes, 1):
        out, _, caches = model(piece, positions_of(piece, start), caches, absorbed and start > 0)
        logits.append(out)
        start += piece.shape[1]
    return torch.cat(logits, 1), caches


@torch.no_grad()
def mtp_logits(model: Decoder, ids: Tensor, absorbed: bool = False) -> Tensor:
    _, hidden, _ = model(ids, positions_of(ids))
    next_ids = ids[:, 1:]
    return MTPStep(model)(next_ids, hidden[:, :-1], positions_of(next_ids, 1), None, absorbed)[0]
