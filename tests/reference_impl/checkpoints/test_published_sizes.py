"""The layout of full-size checkpoints against what the hub counts in the published files, dtype by dtype."""

from collections import Counter
from math import ceil, prod

import pytest
import torch

from model_graphs.configs import resolve_model
from reference_impl.checkpoints.pieces import copies, published
from reference_impl.checkpoints.writer import form_of_piece
from reference_impl.decoder import build_model

NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}


#: elements by dtype and bytes of all shards, as the hub's API has them (safetensors.parameters, and siblings
#: of https://huggingface.co/api/models/NAME?blobs=true); of packed e2m1 it counts elements, two a byte
V3 = {"BF16": 3_918_786_560, "F8_E4M3": 680_571_043_840, "F32": 41_555_600}
GPT_OSS_20B = {"BF16": 1_804_459_584, "U8": 19_110_297_600}
GPT_OSS_120B = {"BF16": 2_167_371_072, "U8": 114_661_785_600}
ELEMENT_BYTES = {"BF16": 2, "F8_E4M3": 1, "F32": 4, "U8": 1 / 2 + 1 / 32}
#: a tensor's record in the header of its shard: name, dtype, shape, offsets
RECORD_BYTES = (80, 160)


@pytest.mark.parametrize(
    ("key", "form", "counted", "shard_bytes"),
    [
        ("deepseek-v3", "fp8_block", V3, 688_586_727_753),
        ("gpt-oss-20b", "mxfp4", GPT_OSS_20B, 13_761_316_904),
        ("gpt-oss-120b", "mxfp4", GPT_OSS_120B, 65_248_893_184),
    ],
)
def test_elements_by_dtype_and_bytes_are_those_of_the_published_checkpoint(
    key: str, form: str, counted: dict[str, int], shard_bytes: int
) -> None:
    record = resolve_model(key)
    model = build_model(record.blueprint, torch.bfloat16, "meta")
    pieces = published(model, record.architecture, packed=form == "mxfp4").pieces
    state = model.state_dict()
    found: Counter[str] = Counter()
    n_tensors = 0
    for piece in pieces.values():
        size, stored = prod(piece.shape), form_of_piece(model, piece, form)
        n_tensors += 1 if stored == "plain" else 2
        if stored == "fp8_block":
            found["F8_E4M3"] += size
            found["F32"] += prod(ceil(n / 128) for n in piece.shape)
        elif stored == "mxfp4":
            found["U8"] += size
        else:
            found[NAMES[state[piece.target].dtype]] += size
    for origin in copies(model).values():
        found["BF16"] += prod(pieces[origin].shape)
        n_tensors += 1
    assert found == counted
    data_bytes = sum(count * ELEMENT_BYTES[dtype] for dtype, count in found.items())
    least, most = RECORD_BYTES
    assert least * n_tensors < shard_bytes - data_bytes < most * n_tensors
