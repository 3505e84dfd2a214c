"""How tensors of few bits are encoded and lie in memory."""

from reference_impl.formats.elements import Encoded, decode, encode_input
from reference_impl.formats.packing import Packed, pack, part_names, unpack, unpack_codes

__all__ = ["Encoded", "Packed", "decode", "encode_input", "pack", "part_names", "unpack", "unpack_codes"]
