"""Where the pages of a KV cache live: tiers from fast to large, and the policy by which pages move.

Records only, defined once for everybody. `page_ledger` says which page moves when; the reference
implementation moves tensors by it, and a simulator prices the same moves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hardware_specs.records.errors import InputError, Problem
from model_graphs.blueprint import AttentionSpec, Blueprint, LayerSpec


class TierName(StrEnum):
    """A place for pages, fastest first: the accelerator's memory, the host's, a file."""

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


class Spill(StrEnum):
    """Which page leaves a full tier first; a layer that runs uses all its pages, earliest tokens first."""

    LRU = "lru"  # one of the layer that ran longest ago
    OLDEST_BLOCK = "oldest_block"  # the one with the earliest tokens
    LAYER = "layer"  # one of the layer that runs again last


@dataclass(frozen=True)
class Tier:
    """A place and how many bytes of pages it holds; None is no limit."""

    name: TierName
    capacity_bytes: int | None = None


@dataclass(frozen=True)
class CachePolicy:
    """Pages of `page_tokens` tokens over tiers that are listed from fast to large.

    Raises:
        InputError: pages hold no token, the device is not the first tier, tiers are out of order or hold
            nothing; all of it is named.
    """

    page_tokens: int
    tiers: tuple[Tier, ...]
    spill: Spill = Spill.LAYER

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise InputError(*problems)


def _problems(policy: CachePolicy) -> Iterator[Problem]:
    if policy.page_tokens < 1:
        yield Problem("must be at least 1 token", str(policy.page_tokens), path="page_tokens")
    names = [tier.name for tier in policy.tiers]
    if names[:1] != [TierName.DEVICE] or names != [name for name in TierName if name in names]:
        requirement = "must begin with device and follow with host, disk or both, in this order"
        yield Problem(requirement, ", ".join(names), path="tiers")
    for tier in policy.tiers:
        if tier.capacity_bytes is not None and tier.capacity_bytes < 1:
            given = str(tier.capacity_bytes)
            yield Problem("must be at least 1 byte, or None", given, path=f"tiers.{tier.name}.capacity_bytes")


@dataclass(frozen=True)
class CachedLayer:
    """What one layer caches: bytes a token, and the number of last tokens that it can still see."""

    bytes_per_token: int
    window: int | None = None


def cached_layers(blueprint: Blueprint, element_bytes: int) -> tuple[CachedLayer, ...]:
    """What each layer of an undivided model caches, keys and values or latents with index keys."""
    return tuple(_cached(layer, element_bytes) for layer in blueprint.layers)


def _cached(layer: LayerSpec, element_bytes: int) -> CachedLayer:
    spec = layer.mixer
    if isinstance(spec, AttentionSpec):
        return CachedLayer(2 * spec.kv_heads * spec.head_dim * element_bytes, spec.window)
    index_width = spec.indexer.width if spec.indexer is not None else 0
    return CachedLayer((spec.latent_width + index_width) * element_bytes)
