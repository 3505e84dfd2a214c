"""Reduced precision and sparsity, applied from outside to the plain model."""

from reference_impl.transforms.apply import transform
from reference_impl.transforms.layers import PackedExperts, PackedLinear, Quantize
from reference_impl.transforms.switch import Switched

__all__ = ["PackedExperts", "PackedLinear", "Quantize", "Switched", "transform"]
