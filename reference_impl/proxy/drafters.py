"""What drafts for the proxy: its multi-token prediction module, trained on the frozen model; a draft model.

The module learns to predict the token after next from the hidden states that the trained model makes, with
the model's embedding and head. V3 trains all of it together, which would move the model that the accuracy
study is about. Only the first draft of a step is what the module was trained for: further ones come from
running it on its own output.

References: DeepSeek-V3 report (arXiv 2412.19437) section 2.2.
"""

import torch
from torch import Tensor

from model_graphs.architectures.deepseek import DeepSeekV3Config
from reference_impl.decoder import Decoder, MTPStep, build_model
from reference_impl.proxy.corpus import Corpus
from reference_impl.proxy.training import (
    CONFIG,
    Recipe,
    Tell,
    Trained,
    cross_entropy,
    fit,
    initialise,
    positions_of,
    train,
)

#: the proxy with one module, as V3 has
MTP_CONFIG = CONFIG.model_copy(update={"num_nextn_predict_layers": 1})
#: one dense layer of the proxy's widths
DRAFT_CONFIG = CONFIG.model_copy(update={"num_hidden_layers": 1, "first_k_dense_replace": 1})
#: about a minute of a core each
MTP_RECIPE = Recipe(steps=240, long_share=0.0)
DRAFT_RECIPE = Recipe(steps=600, long_share=0.0)


def with_untrained_mtp(model: Decoder, seed: int, config: DeepSeekV3Config = MTP_CONFIG) -> Decoder:
    """A copy of the proxy with a module of random weights."""
    wider = build_model(config.blueprint)
    missing, foreign = wider.load_state_dict(model.state_dict(), strict=False)
    assert not foreign and all(name.startswith("mtp.") for name in missing), "the main model is the same"
    wider.requires_grad_(False)
    torch.manual_seed(seed)
    initialise(wider.mtp, config.num_hidden_layers)
    return wider


def train_mtp(
    model: Decoder, corpus: Corpus, seed: int, recipe: Recipe = MTP_RECIPE, tell: Tell = lambda done, of: None
) -> tuple[Decoder, float]:
    """A copy of the proxy with a trained module, and the module's last training loss (nats a byte).

    The same model, corpus, seed, recipe and number of threads give the same weights.
    """
    wider = with_untrained_mtp(model, seed)
    step = MTPStep(wider)

    def loss_of(ids_BS: Tensor, next_BS: Tensor) -> Tensor:
        with torch.no_grad():
            hidden_BSD = wider(ids_BS, positions_of(ids_BS))[1]
        known_BS, targets_BS = mtp_pairs(next_BS)
        length = known_BS.shape[1]
        return cross_entropy(
            step(known_BS, hidden_BSD[:, :length], positions_of(known_BS) + 1)[0], targets_BS
        )

    return wider, fit(wider.mtp, loss_of, corpus, seed, recipe, tell)


def mtp_pairs(next_BS: Tensor) -> tuple[Tensor, Tensor]:
    """The next token, which the module sees beside a hidden state, and the one after, which it predicts."""
    return next_BS[:, :-1], next_BS[:, 1:]


def train_draft_model(
    corpus: Corpus, seed: int, recipe: Recipe = DRAFT_RECIPE, tell: Tell = lambda done, of: None
) -> Trained:
    """A model of one dense layer, trained on the proxy's corpus by itself."""
    return train(corpus, seed, recipe, tell, DRAFT_CONFIG)
