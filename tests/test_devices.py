"""What runs on a GPU, run here without compiled code: nothing in a loss makes the host wait for the device."""

from collections import Counter

import pytest
import reference
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from trials import LOSSES, Encoder, without_compiled_code

WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "is_nonzero", "equal"}


class Waits(TorchDispatchMode):
    """Counts the operations whose result the host has to know before it goes on, masks as indices among them."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]
        )
        if name in WAITS or masks:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def waits_of_a_step(name, monkeypatch, checks=False):
    """A visit of chains and averages that have states, forward and backward, without the checks of what came in."""
    table = reference.unit_vectors(20, 4, 6, dtype=torch.float32).requires_grad_()
    without_compiled_code(monkeypatch)
    if not checks:
        monkeypatch.setattr("emc2_lite.losses.criterion.check_batch", lambda *_: None)
        monkeypatch.setattr("emc2_lite.losses.encoding.check_embeddings", lambda *_: None)
    criterion, generator = LOSSES[name](20, 6, 0.2), torch.Generator().manual_seed(0)
    for visit in range(8):
        index = (torch.arange(6) + 3 * visit) % 20
        view = torch.stack((torch.zeros_like(index), torch.ones_like(index))) + visit % 2
        z1, z2 = table[index, view[0]], table[index, view[1]]
        with Waits() as waits:
            criterion(z1, z2, index, view, Encoder(table), generator).backward(retain_graph=True)
    return waits.found


@pytest.mark.parametrize("name", ["NT-Xent", "DCL", "SogCLR", "EMC2 stored"])
def test_weights_masks_and_candidates_need_no_word_from_the_device(name, monkeypatch):
    assert not waits_of_a_step(name, monkeypatch)


@pytest.mark.parametrize("name", ["EMC2", "EMC2 without refresh", "EMC2 multiproposal"])
def test_emc2_waits_only_to_learn_which_views_to_encode(name, monkeypatch):
    """Which rows hold a view from outside, which views these are; then which of them count."""
    assert waits_of_a_step(name, monkeypatch) == {"nonzero": 2, "unique_dim": 1, "_unique2": 1}


def test_the_cache_waits_only_to_learn_which_views_to_encode(monkeypatch):
    """Which entries are not the batch's, and which views these are; which draws are from outside, and which views."""
    expected = {"index": 1, "unique_dim": 2, "nonzero": 2, "_unique2": 1}
    assert waits_of_a_step("negative cache", monkeypatch) == expected


def test_checks_wait_four_times(monkeypatch):
    """For the lengths of z1, z2, the indices and the view numbers; after the first nothing is left to wait for."""
    assert waits_of_a_step("NT-Xent", monkeypatch, checks=True) == {"_local_scalar_dense": 2}
