"""SplitMix64: random numbers as a hash of a key and a position, so that each can be made without those before it.

Integer arithmetic modulo 2^64, the same on every device. Source: Steele, Lea and Flood 2014, Fast splittable
pseudorandom number generators.
"""

import hashlib
import pickle
from contextlib import suppress

import numba
import numpy as np
import torch
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def compiled(function):
    """numba.njit, kept in a cache on disk where there is somewhere to write it."""
    made = numba.njit(function)
    with suppress(RuntimeError):  # numba finds no folder to write to
        made._cache = _SpareCache(function)
    return made


class _CheckedFiles(CompileResultCacheImpl):
    """Compiled code with the stamp of its source and a checksum, for damaged code can end the process."""

    def get_filename_base(self, *names):
        return f"checked-{super().get_filename_base(*names)}"

    def reduce(self, data):
        content = dumps((self.locator.get_source_stamp(), super().reduce(data)))
        return hashlib.sha256(content).digest(), content

    def rebuild(self, target_context, reduced_data):
        checksum, content = reduced_data
        if hashlib.sha256(content).digest() != checksum:
            raise ValueError("The cached code is damaged.")
        stamp, code = pickle.loads(content)
        if stamp != self.locator.get_source_stamp():
            raise ValueError("The cached code is of another source.")
        return super().rebuild(target_context, code)


class _SpareCache(FunctionCache):
    """numba's cache, which may be damaged or fail to be written: the function is then compiled anew."""

    _impl_class = _CheckedFiles

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle raises nearly any kind
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        with suppress(Exception):  # a full disk, or a damaged index that could not be flushed
            super().save_overload(sig, data)


def compiles_for(device: torch.device) -> bool:
    """Whether compiled code serves tensors on this device; torch's operations serve all others."""
    return device.type == "cpu"


def as_signed(unsigned: int) -> int:
    """The int64 of the same 64 bits."""
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned


def shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64; torch's own copies the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def mix(x: Tensor) -> Tensor:
    """The hash: int64 -> int64, all 64 bits of it random."""
    x = (x ^ shifted(x, 30)) * as_signed(_FACTORS[0])
    x = (x ^ shifted(x, 27)) * as_signed(_FACTORS[1])
    return x ^ shifted(x, 31)


def random_uniforms(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Uniform(0, 1) numbers, float32 or float64; on the CPU by hashing, and never 0, elsewhere by torch.rand.

    Hashing is the faster one for more than a few thousand numbers.

    Raises:
        ValueError: on another dtype.
    """
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is {dtype}: uniforms are float32 or float64, half precision is too coarse.")
    if not compiles_for(device):
        return torch.rand(shape, generator=generator, dtype=dtype, device=device)
    uniforms = torch.empty(shape, dtype=dtype, device=device)
    fill_uniforms(uniforms.view(-1).numpy(), random_key(generator), 0, uniform_bits(dtype))
    return uniforms


def uniform_bits(dtype: torch.dtype) -> int:
    """How many bits of a word make a uniform: as many as leave room for the half that is added to them."""
    return 23 if dtype == torch.float32 else 52


def random_key(generator: torch.Generator | None) -> np.uint64:
    """The one number that `generator` (torch's default if None) draws for many: the numbers are hashes of it."""
    return np.uint64(torch.empty((), dtype=torch.int64, device="cpu").random_(generator=generator).item())


_GAMMA, _FIRST, _SECOND = (np.uint64(constant) for constant in (GAMMA, *_FACTORS))


@compiled
def random_word(key, j):
    """The 64 random bits, uint64, number j of a key: the hash of key + j GAMMA. For compiled code."""
    x = key + np.uint64(j) * _GAMMA
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


@compiled
def fill_uniforms(uniforms, key, start, bits):
    """Fill a flat array from the words number start, start + 1, ... of a key: their leading bits and a half."""
    shift, scale = np.uint64(64 - bits), 0.5**bits
    for j in range(uniforms.size):
        uniforms[j] = (np.float64(np.int64(random_word(key, start + j) >> shift)) + 0.5) * scale


@compiled
def deal(order, uniforms, key, bits):
    """Fill order (2b, 2b - 2) and uniforms of the same shape; for `emc2_lite.losses.random_proposals`.

    Rows s and s + b get all columns but s and s + b, each in an order of its own, from the halves of the same words
    (Fisher and Yates 1938, Durstenfeld 1964; the choice among n places is biased by less than n / 2^32). It is
    here, and not there, because numba's cache on disk knows of changes in a function's own file only.
    """
    rows, m = order.shape
    b = rows // 2
    places = np.empty((2, m), dtype=np.int32)
    for sample in range(b):
        first, second = order[sample], order[sample + b]
        for j in range(m):
            first[j] = second[j] = j + (j >= sample) + (j >= sample + b - 1)
            word, left = random_word(key, sample * m + j), np.uint64(m - j)
            places[0, j] = j + np.int64(((word >> np.uint64(32)) * left) >> np.uint64(32))
            places[1, j] = j + np.int64(((word & np.uint64(0xFFFFFFFF)) * left) >> np.uint64(32))
        for j in range(m - 1):
            first[j], first[places[0, j]] = first[places[0, j]], first[j]
            second[j], second[places[1, j]] = second[places[1, j]], second[j]
    fill_uniforms(uniforms.reshape(-1), key, b * m, bits)
