"""The fixed split of kernel tables: sites that are fitted, that choose forms, and that only test.

A site is what stays the same along a sweep: `n,k` of a GEMM, heads and dimensions of an attention, the
shape of a mixture of experts. The split depends on the family's name and the site alone, so it is the same
for all devices and dtypes. MLA has eight head counts and collectives few pairs of operation and ranks: too
few to split, so each is predicted by a fit without it and all of them test.
"""

from enum import StrEnum
from hashlib import sha256

#: always a test site, whatever its hash: the routed experts of DeepSeek V3
_DEEPSEEK_V3_EXPERTS = "7168,2048,8,256"
SPLIT_FAMILIES = ("gemm", "attention_prefill", "attention_decode", "moe", "encoder_attention", "quantize")


class Part(StrEnum):
    """What a site may be used for."""

    FIT = "fit"
    CHOOSE = "choose"
    TEST = "test"


def part_of(family: str, site: str) -> Part:
    """The part of a site, written as integers joined by commas."""
    if site == _DEEPSEEK_V3_EXPERTS:
        return Part.TEST
    bucket = int(sha256(f"{family}|{site}".encode()).hexdigest()[:8], 16) % 5
    return {0: Part.TEST, 1: Part.CHOOSE}.get(bucket, Part.FIT)
