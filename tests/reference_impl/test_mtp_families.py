"""Multi-token prediction of GLM 4.5 against `transformers`; it has none for sparse attention."""

from dataclasses import replace

import torch
from families import FAMILIES
from parity import mtp_logits
from tiny import distance, randomise, relative
from transformers.modeling_layers import MtpModel

from reference_impl import kernels
from reference_impl.decoder import build_model
from reference_impl.loading import load_main_model, load_mtp


def test_mtp_of_grouped_attention_equals_transformers_and_a_swapped_input_does_not(monkeypatch):
    family = FAMILIES["glm 4.5"]
    family = replace(family, config={**family.config, "num_nextn_predict_layers": 1})
    torch.manual_seed(0)
    theirs = family.independent()
    theirs.set_experts_implementation("eager")
    module = MtpModel(theirs, 1).eval()
    with torch.no_grad():
        randomise(theirs)
        randomise(module.layers)
        ids = torch.randint(0, family.blueprint.vocab_size, (2, 24))
        hidden = theirs.model(ids).last_hidden_state[:, :-1]
        shifted = torch.arange(1, ids.shape[1])[None]
        wanted = theirs.lm_head(module.forward_layer(0, hidden, shifted, None, input_ids=ids[:, 1:]))
    model = build_model(family.blueprint)
    load_main_model(model, theirs.state_dict())
    load_mtp(model.mtp[0], module.state_dict())
    assert distance(mtp_logits(model, ids), wanted) < 1e-5
    right = kernels.concat
    monkeypatch.setattr(kernels, "concat", lambda x, y: right(y, x))
    assert relative(mtp_logits(model, ids), wanted) > 1e-2
