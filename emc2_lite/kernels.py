"""The compiled loops of the CPU, all in one file: numba's cache on disk knows of changes in a function's own file only.

On other devices torch's operations do the same work (`compiles_for`). Random numbers are those of
`emc2_lite.splitmix`: hashes of one key, which a torch.Generator draws (`random_key`).
"""

import hashlib
import pickle
from contextlib import suppress

import numba
import numpy as np
import torch
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps
from torch import Generator

from emc2_lite.splitmix import FACTORS, GAMMA


def compiled(function):
    """numba.njit, with a cache on disk if numba finds a folder that it may write to."""
    made = numba.njit(function)
    with suppress(RuntimeError):  # no such folder
        made._cache = _SpareCache(function)
    return made


class _CheckedFiles(CompileResultCacheImpl):
    """Compiled code with a checksum of itself and of the stamp of its source, for damaged code can end the process."""

    def reduce(self, data):
        content = dumps(super().reduce(data))
        return self._checksum(content), content

    def rebuild(self, target_context, reduced_data):
        checksum, content = reduced_data
        if checksum != self._checksum(content):
            raise ValueError("The cached code is damaged, or of another source.")
        return super().rebuild(target_context, pickle.loads(content))

    def _checksum(self, content):
        return hashlib.sha256(repr(self.locator.get_source_stamp()).encode() + content).digest()


class _SpareCache(FunctionCache):
    """numba's cache; if a file is damaged or cannot be written, the function is compiled anew."""

    _impl_class = _CheckedFiles

    def load_overload(self, sig, target_context):
        with suppress(Exception):  # a damaged pickle raises nearly any kind
            return super().load_overload(sig, target_context)
        with suppress(OSError):
            self.flush()
        return None

    def save_overload(self, sig, data):
        with suppress(Exception):  # a full disk, or a damaged index that could not be flushed
            super().save_overload(sig, data)


def compiles_for(device: torch.device) -> bool:
    """Whether compiled code serves tensors on this device; torch's operations serve all others."""
    return device.type == "cpu"


def uniform_bits(dtype: torch.dtype) -> int:
    """Bits per uniform, so that adding one half stays exact."""
    return 23 if dtype == torch.float32 else 52


def random_key(generator: Generator | None) -> np.uint64:
    """One draw from `generator` (torch's default if None): the key whose hashes are all random numbers of a call."""
    return np.uint64(torch.empty((), dtype=torch.int64, device="cpu").random_(generator=generator).item())


_GAMMA, _FIRST, _SECOND = (np.uint64(constant) for constant in (GAMMA, *FACTORS))


@compiled
def random_word(key, j):
    """Word number j of a key, 64 random bits as uint64: the hash of key + j GAMMA."""
    x = key + np.uint64(j) * _GAMMA
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


@compiled
def fill_uniforms(uniforms, key, start, bits):
    """Fill a flat array from the words number start, start + 1, ... of a key: (leading bits + one half) / 2^bits."""
    shift, scale = np.uint64(64 - bits), 0.5**bits
    for j in range(uniforms.size):
        uniforms[j] = (np.float64(np.int64(random_word(key, start + j) >> shift)) + 0.5) * scale


@compiled
def fill_columns(uniforms, columns, width, key, bits):
    """Fill an array (rows, n) with these columns of the array (rows, width) that `fill_uniforms` would fill from 0."""
    shift, scale = np.uint64(64 - bits), 0.5**bits
    for row in range(uniforms.shape[0]):
        for place, column in enumerate(columns):
            word = random_word(key, row * width + column)
            uniforms[row, place] = (np.float64(np.int64(word >> shift)) + 0.5) * scale


@compiled
def deal(order, uniforms, samples, b, key, bits):
    """Fill order (2n, m) and uniforms of the same shape for the rows of n samples, given by their places in the batch
    of b; see `emc2_lite.losses.random_proposals`.

    A sample's two rows s and s + b get all columns but s and s + b; or, for m = b - 1, those of the other half. Each
    row has its own order, from the halves of the same words (Fisher and Yates 1938, Durstenfeld 1964; the choice among
    k places is biased by less than k / 2^32).
    """
    n, m = len(samples), order.shape[1]
    places = np.empty((2, m), dtype=np.int32)
    for place, sample in enumerate(samples):
        first, second = order[place], order[place + n]
        for j in range(m):
            if m == b - 1:
                second[j] = j + (j >= sample)
                first[j] = second[j] + b
            else:
                first[j] = second[j] = j + (j >= sample) + (j >= sample + b - 1)
            word, left = random_word(key, sample * m + j), np.uint64(m - j)
            places[0, j] = j + np.int64(((word >> np.uint64(32)) * left) >> np.uint64(32))
            places[1, j] = j + np.int64(((word & np.uint64(0xFFFFFFFF)) * left) >> np.uint64(32))
        for j in range(m - 1):
            first[j], first[places[0, j]] = first[places[0, j]], first[j]
            second[j], second[places[1, j]] = second[places[1, j]], second[j]
        fill_uniforms(uniforms[place], key, (b + sample) * m, bits)
        fill_uniforms(uniforms[place + n], key, (2 * b + sample) * m, bits)


@compiled
def sweep(log_scores, log_uniforms, state, accepted, current):
    """Fill state and accepted (rows, steps), and replace current (rows,), the scores of the start, by the last ones."""
    for row in range(log_scores.shape[0]):
        held, held_score, since = -1, current[row], 0
        accepted[row] = False
        for step in range(log_scores.shape[1]):
            if log_scores[row, step] - log_uniforms[row, step] > held_score:
                state[row, since:step] = held
                held, held_score, since = step, log_scores[row, step], step
                accepted[row, step] = True
        state[row, since:] = held
        current[row] = held_score


@compiled
def visit(
    scores, order, log_uniforms, weights, held_weight, column, log_score, acceptance_rate, dropped, leave_out_held
):
    """Fill the fields of a `Visit`; weights and held_weight come as zeros, log_score as the scores of the start."""
    rows, steps = order.shape
    moves = 0
    for row in range(rows):
        held, held_score, since, counted = -1, log_score[row], dropped, steps - dropped
        for step in range(steps):
            candidate = order[row, step]
            if scores[row, candidate] - log_uniforms[row, step] > held_score:
                if step > since:
                    if held >= 0:
                        weights[row, held] += (step - since) / counted
                    else:
                        held_weight[row] = (step - since) / counted
                        if leave_out_held:
                            counted -= step - since
                    since = step
                held, held_score = candidate, scores[row, candidate]
                moves += 1
        if held >= 0:
            weights[row, held] += (steps - since) / counted
        else:
            held_weight[row] = (steps - since) / counted
        column[row], log_score[row] = held, held_score
    acceptance_rate[()] = moves / max(order.size, 1)


@compiled
def store(index, view, score, chains, batch_index, batch_view, column, log_score):
    """Write the rows' last states into the flat buffers index, view and score, at the places chains (2b,)."""
    for row, chain in enumerate(chains):
        if column[row] >= 0:
            index[chain], view[chain] = batch_index[column[row]], batch_view[column[row]]
        score[chain] = log_score[row]
