"""The proxy's recipe: a small V3 trained from a seed, first on short passages and at the end on long ones.

AdamW with a warm-up and a cosine; experts are balanced without an auxiliary loss, by moving each router's
correction bias against its experts' load. What one processor core needs for it is in the command's help.

References: DeepSeek-V3 report (arXiv 2412.19437) sections 2.1.2 and 4.2.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch code base uses
from torch import Tensor, nn

from model_graphs.architectures.deepseek import DeepSeekV3Config
from reference_impl.decoder import Decoder, build_model
from reference_impl.kernels import plain_kernels
from reference_impl.parts.feed_forward import Router
from reference_impl.proxy.corpus import VOCABULARY, Corpus, Windows

CONFIG = DeepSeekV3Config(
    vocab_size=VOCABULARY,
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    q_lora_rank=64,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    intermediate_size=384,
    first_k_dense_replace=1,
    moe_intermediate_size=96,
    n_routed_experts=16,
    n_shared_experts=1,
    num_experts_per_tok=2,
    n_group=4,
    topk_group=2,
    routed_scaling_factor=1.0,
    norm_topk_prob=True,
    num_nextn_predict_layers=0,
    max_position_embeddings=2048,
    rms_norm_eps=1e-6,
    rope_theta=10000.0,
    rope_scaling=None,
)
Tell = Callable[[int, int], None]
#: the loss of bytes [B, S] and those that follow each [B, S]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How long and on what the proxy is trained."""

    steps: int = 440
    long_share: float = 0.1  # of the steps, at the end, on passages of `long_length`
    short_length: int = 128
    short_count: int = 16
    long_length: int = 2048
    long_count: int = 1
    learning_rate: float = 3e-3
    warm_up_steps: int = 40
    weight_decay: float = 0.05
    bias_step: float = 1e-3

    def rate(self, step: int) -> float:
        """The learning rate of a step: up in a line, down along half a cosine to a tenth."""
        along = step / self.steps
        cosine = 0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * along))
        return self.learning_rate * cosine * min(1.0, (step + 1) / self.warm_up_steps)


@dataclass(frozen=True)
class Trained:
    """A trained proxy with what identifies it and its last training loss (nats a byte).

    `mtp_loss` is that of its multi-token prediction module, where it has one.
    """

    model: Decoder
    seed: int
    recipe: Recipe
    corpus_hash: str
    training_loss: float
    mtp_loss: float | None = None

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint records."""
        facts = {"seed": self.seed, "corpus": self.corpus_hash, "training_loss": f"{self.training_loss:.4f}"}
        module = {} if self.mtp_loss is None else {"mtp_loss": f"{self.mtp_loss:.4f}"}
        return {name: str(value) for name, value in {**facts, **module, **asdict(self.recipe)}.items()}


def train(
    corpus: Corpus,
    seed: int,
    recipe: Recipe | None = None,
    tell: Tell = lambda done, of: None,
    config: DeepSeekV3Config = CONFIG,
) -> Trained:
    """The proxy of this seed. The same corpus, seed, recipe and number of threads give the same weights."""
    recipe = recipe or Recipe()
    torch.manual_seed(seed)
    model = build_model(config.blueprint)
    initialise(model, config.num_hidden_layers)

    def loss_of(ids_BS: Tensor, next_BS: Tensor) -> Tensor:
        return cross_entropy(model(ids_BS, positions_of(ids_BS))[0], next_BS)

    loss = fit(model, loss_of, corpus, seed, recipe, tell)
    return Trained(model, seed, recipe, corpus.hash, loss)


def fit(learned: nn.Module, loss_of: Loss, corpus: Corpus, seed: int, recipe: Recipe, tell: Tell) -> float:
    """The last loss (nats a byte) of training the weights of `learned`, and no others, by the recipe."""
    optimiser = _optimiser(learned, recipe)
    short = Windows(corpus.training, recipe.short_length, seed)
    long = Windows(corpus.training, recipe.long_length, seed + 1)
    first_long = round(recipe.steps * (1 - recipe.long_share))
    loss = math.inf
    with plain_kernels(), _trainable(learned), _expert_loads(learned) as loads:
        for step in range(recipe.steps):
            is_long = step >= first_long
            batch = long.draw(recipe.long_count) if is_long else short.draw(recipe.short_count)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step)
            loss = _step(learned, optimiser, loss_of(*batch))
            _balance(loads, recipe.bias_step)
            tell(step + 1, recipe.steps)
    return loss


def _optimiser(learned: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW that leaves vectors without decay."""
    matrices = [p for p in learned.parameters() if p.dim() > 1]
    others = [p for p in learned.parameters() if p.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95))


def _step(learned: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    """The loss of one step (nats a byte), after which the weights are moved."""
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(learned.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def cross_entropy(logits_BSW: Tensor, next_BS: Tensor) -> Tensor:
    """The mean loss over all positions, nats a byte."""
    return F.cross_entropy(logits_BSW.flatten(0, 1), next_BS.flatten())


def positions_of(ids_BS: Tensor) -> Tensor:
    """Positions [B, S] of passages that start at zero."""
    return torch.arange(ids_BS.shape[1]).expand(ids_BS.shape[0], -1)


@torch.no_grad()
def initialise(model: nn.Module, n_layers: int) -> None:
    """Normal weights, smaller where a branch joins the residual stream; norms at one, biases at zero."""
    joins = 0.02 / math.sqrt(2 * n_layers)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            weight.fill_(1.0)
        else:
            weight.normal_(0, joins if "o_proj" in name or "down_proj" in name else 0.02)
    for module in model.modules():
        if isinstance(module, Router) and module.e_score_correction_bias is not None:
            module.e_score_correction_bias.zero_()


@contextmanager
def _trainable(model: nn.Module) -> Iterator[None]:
    """Inside, weights have gradients."""
    model.requires_grad_(True)
    try:
        yield
    finally:
        model.requires_grad_(False)


@contextmanager
def _expert_loads(model: nn.Module) -> Iterator[dict[Router, Tensor]]:
    """Tokens of the last step that each router sent to each expert."""
    loads: dict[Router, Tensor] = {}

    def count(router: nn.Module, inputs: object, chosen: tuple[Tensor, Tensor]) -> None:
        assert isinstance(router, Router)
        loads[router] = torch.bincount(chosen[1].flatten(), minlength=CONFIG.n_routed_experts).float()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, Router)]
    try:
        yield loads
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _balance(loads: dict[Router, Tensor], step: float) -> None:
    """Raise the bias of experts with less than their share of tokens, lower that of the others."""
    for router, load in loads.items():
        router.e_score_correction_bias += step * (load.mean() - load).sign()
