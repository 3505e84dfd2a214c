"""The operator graph: what the work is, symbolic in batch, new tokens and past tokens. No device figures.

A graph is emitted from the reference implementation (see `reference_impl.emission`), committed as JSON and
read here. Symbols: `B` sequences on this attention rank, `S` new tokens a sequence, `T` past tokens a
sequence, `R` rows that an expert-parallel rank receives. Shapes, FLOP and bytes are expressions in the closed
grammar of `model_graphs.expressions`.

Operator kinds (one call of a semantic kernel of the reference implementation each):

| kind | inputs | what |
|---|---|---|
| embedding | ids, table | gather of rows |
| rmsnorm, add_rmsnorm | x (, residual) (, weight) | bandwidth bound |
| layernorm, add_layernorm, sum_layernorm | x (, residual), weight, bias | bandwidth bound |
| linear | x [.., k], weight [n, k] (, bias) | GEMM m x n x k |
| rope, rope_qk | q or k part (q and k), cos, sin | bandwidth bound |
| kv_append | new latent or KV rows | cache write |
| scale_queries | queries, a factor a token | bandwidth bound |
| grouped_attention | queries, cache of keys and values (, sinks, slopes) | with windows and chunks |
| bidirectional_attention | q, k, v | attention of every token to all tokens, no cache |
| mla_absorb_q, mla_absorb_o | x, kv_b weight | batched GEMM over heads |
| mla_attention | latent queries, latent cache | absorbed attention (decode, chunked prefill) |
| index_weights | x, weight | what each head of an indexer counts: GEMM in 16 bits |
| index_scores | queries, weights, cached keys | scores of all cached tokens by an indexer |
| topk | scores | the places of the best tokens in the cache |
| sparse_mla_attention | latent queries, latent cache, places | absorbed attention to chosen tokens |
| attention | q, k, v | naive latent attention (prefill) |
| causal_conv1d | x (, state), weight (, bias) | short convolution of each channel, with its activation |
| mamba2_scan | x, dt, B, C, decay weights (, state) | Mamba-2 in chunks, or one step of its recurrence |
| gated_delta_rule | q, k, v, decay and rate (, state) | Gated DeltaNet in chunks, or one step of it |
| gated_rmsnorm | x, gate, weight | norm of groups of features, times the activated gate |
| sigmoid_mul | x, gate | bandwidth bound |
| silu_mul, gelu_mul | gate and up | bandwidth bound |
| activation | x | bandwidth bound |
| image_tokens | patches, class token, positions | bandwidth bound |
| moe_route | x, gate weight (, biases) | router GEMM, scores, group-limited top-k |
| moe_experts | x, weights, indices, w_gate_up, w_down (, biases) | grouped GEMM pair with its activation |
| add, concat | | bandwidth bound |
| quantize | x | activation quantisation (transform pass); weights at a switch of plans |
| cast | x | operand of a product cast from fp32 to bf16 at each call (autocast) |
| copy | x | an activation between the places of a placement plan (placement pass) |
| all_reduce, all_gather, reduce_scatter, ep_dispatch, ep_combine | x | collectives (layout pass) |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import ConfigDict, with_config

from model_graphs.expressions import ZERO, Expression

SCHEMA_VERSION = 1

_STRICT = ConfigDict(extra="forbid")  # in a graph file an unknown key is an error


class Role(StrEnum):
    """What a tensor is to the operator that uses it."""

    ACTIVATION = "activation"
    WEIGHT = "weight"
    CACHE = "cache"
    STATE = "state"  # what a recurrent mixer keeps of a sequence, however long it is
    INDEX = "index"


class Shard(StrEnum):
    """How tensor or expert parallelism may split the operator's weight."""

    NONE = "none"  # replicated on every rank
    COLUMN = "column"  # output features
    ROW = "row"  # input features; the output is a partial sum
    HEAD = "head"  # attention heads; those of keys and values are replicated once each rank has one
    QKV = "qkv"  # the same, of a projection to queries, keys and values
    CHANNEL = "channel"  # channels or heads of a recurrent mixer, which meet in its last product only
    VOCAB = "vocab"  # rows of the embedding or of the head
    EXPERT = "expert"  # whole experts (expert parallel) or their intermediate width (expert tensor parallel)


class Stream(StrEnum):
    """The in-order queue of a rank that runs the operator."""

    COMPUTE = "compute"
    COMMUNICATION = "communication"
    COPY = "copy"
    SECOND_COMPUTE = "second compute"
    HOST = "host"  # the CPU, where a placement plan puts operators


@with_config(_STRICT)
@dataclass(frozen=True)
class Tensor:
    """Shape (symbolic), element type and role of one operand."""

    shape: tuple[Expression, ...]
    dtype: str
    role: Role
    name: str = ""


@with_config(_STRICT)
@dataclass(frozen=True)
class Collective:
    """A meeting of ranks: `group` is `tp`, `dp`, `ep` or `moe_tp`; bytes are those one rank contributes."""

    op: str
    group: str
    n_ranks: int
    message_bytes: Expression


@with_config(_STRICT)
@dataclass(frozen=True)
class Operator:
    """One node, with symbolic work. `deps` index operators of the same block; -1 is the block's input."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    deps: tuple[int, ...]
    flop: Expression = ZERO
    causal_flop: Expression = ZERO
    weight_bytes: Expression = ZERO
    activation_read_bytes: Expression = ZERO
    activation_write_bytes: Expression = ZERO
    cache_read_bytes: Expression = ZERO
    cache_write_bytes: Expression = ZERO
    attrs: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    shard: Shard = Shard.NONE
    stream: Stream = Stream.COMPUTE
    collective: Collective | None = None
    compute_dtype: str = "bf16"
    place: str = ""  # cpu, gpu or disk, where a placement plan says so
    #: attention, indexer, mamba, linear_attention, mlp, moe, shared_expert, router, gate, norm, embedding,
    #: head, mtp, collective
    component: str = ""


@with_config(_STRICT)
@dataclass(frozen=True)
class Block:
    """Operators that repeat `repeat` times in a row, such as the 58 MoE layers of V3."""

    name: str
    repeat: int
    operators: tuple[Operator, ...]


@with_config(_STRICT)
@dataclass(frozen=True)
class OperatorGraph:
    """One phase of one model: `prefill`, `chunked_prefill`, `decode` or `mtp`; `encode` of an encoder."""

    model: str
    phase: str
    symbols: tuple[str, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()  # what a pass decided and a reader should be told
    schema_version: int = SCHEMA_VERSION

    def instances(self) -> "list[tuple[Block, int, Operator]]":
        """Every operator of the whole model in program order, as (block, repetition, operator)."""
        return [(b, i, op) for b in self.blocks for i in range(b.repeat) for op in b.operators]
