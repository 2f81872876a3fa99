"""SplitMix64: random numbers as a hash of a key and a position, each made without the ones before it.

Integer arithmetic modulo 2^64, the same on every device. Source: Steele, Lea and Flood 2014, Fast splittable
pseudorandom number generators.
"""

from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15
FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def as_signed(unsigned: int) -> int:
    """The int64 of the same 64 bits."""
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned


def shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64; torch's own copies the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def mix(x: Tensor) -> Tensor:
    """The hash: int64 -> int64, all 64 bits random."""
    x = (x ^ shifted(x, 30)) * as_signed(FACTORS[0])
    x = (x ^ shifted(x, 27)) * as_signed(FACTORS[1])
    return x ^ shifted(x, 31)
