"""Random numbers from a hash: those of the published generator, the same in torch and compiled, and uniform."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from emc2_lite.kernels import fill_uniforms, random_key, random_word
from emc2_lite.sampling import random_uniforms
from emc2_lite.splitmix import GAMMA, as_signed, mix

CPU = torch.device("cpu")


def hashed(key, count):
    return np.array([random_word(np.uint64(key), j) for j in range(count)], dtype=np.uint64)


def test_words_are_those_of_the_published_generator():
    """Seed 1234567 of the reference implementation by Vigna, splitmix64.c, which adds GAMMA before it hashes."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert hashed(1234567 + GAMMA, 4).tolist() == published


def test_torch_hashes_to_the_same_words():
    key = 2**63 - 5
    counters = torch.arange(1_000) * as_signed(GAMMA) + key
    assert np.array_equal(mix(counters).numpy().view(np.uint64), hashed(key, 1_000))


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 23), (torch.float64, 52)])
def test_uniforms_are_the_leading_bits_and_a_half(dtype, bits):
    uniforms = torch.empty(500, dtype=dtype)
    fill_uniforms(uniforms.numpy(), np.uint64(7), 0, bits)
    later = torch.empty(200, dtype=dtype)
    fill_uniforms(later.numpy(), np.uint64(7), 300, bits)
    assert torch.equal(later, uniforms[300:])
    leading = (hashed(7, 500) >> np.uint64(64 - bits)).astype(np.float64)
    assert torch.equal(uniforms.double(), torch.from_numpy((leading + 0.5) / 2.0**bits))


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 23), (np.float64, 52)])
def test_no_uniform_is_zero_or_one(dtype, bits):
    """The keys whose first word is 0, and is all ones."""
    for word, extreme in ((0, 0.5**bits / 2), (2**64 - 1, 1 - 0.5**bits / 2)):
        uniforms = np.empty(1, dtype=dtype)
        fill_uniforms(uniforms, np.uint64(unmixed(word)), 0, bits)
        assert uniforms[0] == extreme and 0 < uniforms[0] < 1


def unmixed(word):
    """The number whose hash is `word`."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        found = word
        for _ in range(64 // shift + 1):
            found = word ^ (found >> shift)
        word = found * pow(factor, -1, 2**64) % 2**64
    return word


def test_uniforms_are_uniform_and_independent():
    """Null: 1,000 calls of 1,000 numbers are Uniform(0, 1) and independent within a call and between calls.

    Kolmogorov and Smirnov at 1e-5; correlations of a million pairs have standard deviation 0.001, 6 of them: 2e-9.
    """
    generator = torch.Generator().manual_seed(0)
    calls = torch.stack([random_uniforms((1_000,), torch.float32, CPU, generator) for _ in range(1_000)]).double()
    assert kstest(calls.flatten().numpy(), "uniform").pvalue > 1e-5
    centred = (calls - 0.5) * 12**0.5
    for products in (centred[:, 1:] * centred[:, :-1], centred[1:] * centred[:-1]):
        assert abs(products.mean().item()) < 0.006


def test_the_generator_decides_and_moves_on():
    first, again = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    numbers = [random_uniforms((2, 3), torch.float64, CPU, first) for _ in range(2)]
    assert not torch.equal(*numbers)
    assert all(torch.equal(u, random_uniforms((2, 3), torch.float64, CPU, again)) for u in numbers)


def test_half_precision_is_refused():
    with pytest.raises(ValueError, match=r"dtype is torch\.float16: uniforms are float32"):
        random_uniforms((3,), torch.float16, CPU, None)


def test_without_a_generator_torch_s_own_serves():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = random_key(None)
        assert random_key(None) != expected
        torch.manual_seed(3)
        assert random_key(None) == expected


def test_views_import_no_compiler():
    script = "import sys, emc2_lite.vision.views; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
