"""Sparse latent attention: a small indexer picks, for every query, the cached tokens that it attends to.

Dimensions in names: B sequences, S new tokens, T tokens in the cache with the new ones, D hidden, Q query
latent width, I heads of the indexer, X width of one, K tokens picked, M latent cache width, H heads, V value
width. The indexer is whole on every rank, because all heads attend to the same tokens. Production kernels
rotate its queries and keys by a Hadamard matrix before they are stored in fp8; scores do not see it.

References: DeepSeek-V3.2 report (arXiv 2512.02556) section 2.1.
"""

from torch import Tensor, nn

from model_graphs.blueprint import IndexerSpec, LatentAttentionSpec
from model_graphs.graph import Shard
from reference_impl import kernels
from reference_impl.layers import KvAppend, Layer, LayerNorm, Linear, parameter
from reference_impl.parts.attention import RopeQK
from reference_impl.parts.latent_attention import COMPONENT, MLA
from reference_impl.parts.rotary import Tables

INDEXER = "indexer"
KEY_NORM_EPS = 1e-6


class IndexWeights(Layer):
    """What each head of the indexer counts for a token; never stored in less than 16 bits."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(INDEXER)
        self.weight = parameter(heads, width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Weights [B, S, I]."""
        return kernels.index_weights(x_BSD, self.weight)


class IndexScores(Layer):
    """Scores of all cached tokens."""

    def forward(self, q_BSIX: Tensor, weights_BSI: Tensor, keys_BTX: Tensor) -> Tensor:
        """Scores [B, S, T]."""
        return kernels.index_scores(q_BSIX, weights_BSI, keys_BTX)


class TopK(Layer):
    """The best-scored tokens."""

    def forward(self, scores_BST: Tensor, topk: int) -> Tensor:
        """Their places in the cache [B, S, K]."""
        return kernels.topk(scores_BST, topk)


class SparseAttention(Layer):
    """Attention of latent queries to chosen rows of the latent cache."""

    def forward(
        self, q_BSHL: Tensor, q_BSHP: Tensor, cache_BTM: Tensor, places_BSK: Tensor, scale: float
    ) -> Tensor:
        """Latent outputs [B, S, H, L]."""
        return kernels.sparse_mla_attention(q_BSHL, q_BSHP, cache_BTM, places_BSK, scale)


class Indexer(nn.Module):
    """Scores cached tokens by a few narrow heads and picks the best; its keys are cached."""

    def __init__(self, spec: IndexerSpec, D: int, Q: int) -> None:
        super().__init__()
        self.topk, self.width = spec.topk, spec.width
        self.wq_b = Linear(Q, spec.heads * spec.width, INDEXER)
        self.wk = Linear(D, spec.width, INDEXER)
        self.k_norm = LayerNorm(spec.width, KEY_NORM_EPS)
        self.rope = RopeQK(neighbours=spec.neighbours, component=INDEXER, shard=Shard.NONE)
        self.kv_append = KvAppend(INDEXER)
        self.weights_proj = IndexWeights(D, spec.heads)
        self.scores = IndexScores(INDEXER)
        self.best = TopK(INDEXER)

    def forward(
        self, x_BSD: Tensor, q_BSQ: Tensor, rotary: tuple[Tensor, Tensor], past_BTX: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Places of the tokens to attend to [B, S, K], and the cached keys [B, T, X]."""
        q_BSIX = self.wq_b(q_BSQ).unflatten(-1, (-1, self.width))
        k_BSIX = self.k_norm(self.wk(x_BSD)).unsqueeze(2)
        q_BSIX, k_BSIX = self.rope(q_BSIX, k_BSIX, *rotary)
        keys_BTX = self.kv_append(past_BTX, k_BSIX.squeeze(2))
        return self.best(self.scores(q_BSIX, self.weights_proj(x_BSD), keys_BTX), self.topk), keys_BTX


class SparseMLA(MLA):
    """Latent attention of each query to the tokens that an indexer picks for it.

    It is computed absorbed, whole prompts too: a chosen row of the latent cache serves all heads at once.
    """

    def __init__(self, spec: LatentAttentionSpec, D: int, table: int) -> None:
        super().__init__(spec, D, table)
        assert spec.indexer is not None and spec.q_rank is not None, "an indexer reads the queries' latent"
        self.indexer = Indexer(spec.indexer, D, spec.q_rank)
        self.sparse_attention = SparseAttention(COMPONENT, Shard.HEAD)

    @property
    def index_widths(self) -> tuple[int, ...]:
        """Shape of a token's row in the cache of the indexer's keys."""
        return (self.indexer.width,)

    def forward(
        self, x_BSD: Tensor, tables: Tables, past: tuple[Tensor, Tensor] | None, absorbed: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attention output [B, S, D], the latent cache [B, T, M] and that of the indexer's keys [B, T, X]."""
        past_BTM, past_BTX = past if past is not None else (None, None)
        q_BSQ, (q_BSHC, q_BSHP), (latent_BSL, k_BSP) = self.project(x_BSD, tables)
        cache_BTM = self.kv_append(past_BTM, latent_BSL, k_BSP)
        places_BSK, keys_BTX = self.indexer(x_BSD, q_BSQ, tables[self.table], past_BTX)

        w_kv_b, v_dim = self.kv_b_proj.weight, self.kv_widths[1]
        q_BSHL = self.absorb_q(q_BSHC, w_kv_b, v_dim)
        o_BSHL = self.sparse_attention(q_BSHL, q_BSHP, cache_BTM, places_BSK, self.scale)
        o_BSHV = self.absorb_o(o_BSHL, w_kv_b, v_dim)
        return self.o_proj(o_BSHV.flatten(2)), (cache_BTM, keys_BTX)
